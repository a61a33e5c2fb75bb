"""Conntrack helpers and NDP proxies: same documents and objects, equivalent kernel, on each recorded host."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.extensions import Extension
from tests.support import lab
from tests.support.oracle_build import make_host, parse
from tests.support.oracle_extensions import ExtensionScenario
from tests.support.oracle_normalise import differences, normalised
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.recorded_documents import MODES

FOLLOWED_BY = {"q6_ndp_proxy": "q6_ndp_proxy_off", "q7_conntrack_helper": "q7_conntrack_helper_changed"}


def compare(scenario: ExtensionScenario) -> list[str]:
    actual = normalised(scenario.observe(), scenario.document)
    return differences(normalised(scenario.wanted, scenario.document), actual)


@pytest.mark.parametrize(
    ("name", "recorded_on"),
    [(name, host) for name in FOLLOWED_BY for host in ("compute1", "compute2")] + [("q6_ndp_proxy", "compute3")],
)
def test_kernel_is_equivalent_to_the_reference_agents(
    host: lab.Host, tmp_path: Path, name: str, recorded_on: str
) -> None:
    first, then = ExtensionScenario(name, recorded_on), ExtensionScenario(FOLLOWED_BY[name], recorded_on)
    reconciler = make_host(host, recorded_on, [first], tmp_path, MODES[recorded_on], *Extension)
    assert reconciler.reconcile(parse(first)).plan.omitted == ()
    assert compare(first) == []
    namespaces = sorted(path.name for path in lab.NETNS.iterdir())
    until_settled(namespaces)
    before = reconciler.kernel.counters.total()
    with writes_seen(namespaces) as seen:
        assert not reconciler.reconcile(parse(first)).plan
    assert (reconciler.kernel.counters.total() - before, seen) == (0, {})
    reconciler.reconcile(parse(then))
    assert compare(then) == []
    assert not reconciler.reconcile(parse(then)).plan
