"""What an option asked for before: gone with the first job after the change, whatever was looked at before that job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.extensions import Extension
from dvr_agent.model.parse import parse_document
from dvr_agent.state.filter import TableKey
from tests.support.mutated_documents import FEATURES
from tests.support.reconciler_rig import Bench

DOCUMENT = FEATURES["q7_conntrack_helper-compute2"]


@pytest.mark.parametrize(
    ("before", "table"),
    [
        pytest.param({"metadata": True}, (6, "nat"), id="metadata"),
        pytest.param({"extensions": frozenset({Extension.CONNTRACK_HELPER})}, (4, "raw"), id="conntrack helpers"),
    ],
)
@pytest.mark.parametrize("plans", [0, 1, 2])
def test_tables_that_no_option_asks_for_any_more_lose_our_chains(
    tmp_path: Path, before: dict[str, Any], table: TableKey, plans: int
) -> None:
    bench, router = Bench(tmp_path, "compute2"), parse_document(DOCUMENT, "test.json")
    bench.settings = replace(bench.settings, **before)
    bench.restart()
    bench.reconciler.reconcile(router)
    namespace = f"qrouter-{router.id}"

    def chains() -> object:
        return bench.kernel.packet_filter.observe(namespace, [table])[0].chains

    assert chains()
    bench.settings = HostSettings(bench.settings.host, bench.settings.mode)
    bench.restart()
    for _ in range(plans):
        assert bench.reconciler.planner.plan(router)
    bench.reconciler.reconcile(router)
    assert not chains()
