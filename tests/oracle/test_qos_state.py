"""Bandwidth limits: same documents and policies, limits of the recorded ``tc`` commands, through a router's life."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from dvr_agent.extensions import Extension
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.nft_limits import nft_limits
from tests.support.oracle_build import make_host, openvswitch_host, parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import FeatureScenario
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.qos_recordings import RECORDED
from tests.support.recorded_documents import MODES

SERVED = (Extension.FIP_QOS, Extension.GATEWAY_IP_QOS)
LIVES = {
    "distributed-compute1": [
        FeatureScenario(name, "compute1") for name in ("q5_qos", "q5_qos_changed", "q5_qos_removed")
    ],
    "distributed-compute2": [
        FeatureScenario(name, "compute2") for name in ("q5_qos", "q5_qos_changed", "q5_qos_removed")
    ],
    "legacy": [FeatureScenario("q5_qos_legacy", "compute1")],
}


@contextmanager
def bridge(host: lab.Host, name: str, life: list[FeatureScenario], tmp_path: Path) -> Iterator[RouterReconciler]:
    yield make_host(host, name, [*life], tmp_path, MODES[name], *SERVED)


def openvswitch(_host: lab.Host, name: str, _life: object, tmp_path: Path) -> AbstractContextManager[RouterReconciler]:
    return openvswitch_host(name, tmp_path, *SERVED)


def compare(scenario: FeatureScenario, kinds: bool) -> list[str]:
    recorded = normalised(as_wanted(scenario.recorded), scenario.document, kinds=kinds)
    return differences(recorded, normalised(scenario.observe(), scenario.document, kinds=kinds))


@pytest.mark.parametrize("layer2", [bridge, openvswitch])
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_limits_are_those_of_the_reference(
    host: lab.Host,
    tmp_path: Path,
    life: list[FeatureScenario],
    layer2: Callable[..., AbstractContextManager[RouterReconciler]],
) -> None:
    with layer2(host, life[0].host, life, tmp_path) as reconciler:
        for scenario in (*life, *life[-2::-1]):
            assert reconciler.reconcile(parse(scenario)).plan.omitted == ()
            assert compare(scenario, layer2 is openvswitch) == []
            namespaces = sorted(path.name for path in lab.NETNS.iterdir())
            limits = {limit for name in namespaces for limit in nft_limits(name)}
            assert limits == RECORDED[scenario.name, scenario.host]
            until_settled(namespaces)
            before = reconciler.kernel.counters.total()
            with writes_seen(namespaces) as seen:
                assert not reconciler.reconcile(parse(scenario)).plan
            assert (reconciler.kernel.counters.total() - before, seen) == (0, {})
