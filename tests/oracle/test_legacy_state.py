"""Legacy routers: same documents, equivalent kernel, through the recorded life of one router."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.model.parse import parse_document
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.oracle_build import make_host, openvswitch_host, parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import FeatureScenario
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.packet_documents import Cloud, Network
from tests.support.packet_world import PUBLIC
from tests.support.waiting import wait_for

LIFE = [FeatureScenario(name, "compute1") for name in ("q4_legacy", "q4_legacy_changed", "q4_legacy_no_gateway")]


RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
LEFT_OVER = {"destination 203.0.113.203/32 becomes 10.2.0.160", "source 10.2.0.160/32 becomes 203.0.113.203"}
"""What neutron-l3-agent forgets of a floating IP when the router's gateway is cleared."""


def compare(scenario: FeatureScenario, kinds: bool = False) -> list[str]:
    recorded = as_wanted(scenario.recorded)
    if scenario.name == "q4_legacy_no_gateway":
        recorded = {name: replace(view, filter=view.filter - LEFT_OVER) for name, view in recorded.items()}
    actual = normalised(scenario.observe(), scenario.document, kinds=kinds)
    return differences(normalised(recorded, scenario.document, kinds=kinds), actual)


@pytest.mark.parametrize("layer2", ["bridge", "openvswitch"])
@pytest.mark.parametrize("steps", [LIFE, LIFE[::-1]], ids=["forwards", "backwards"])
def test_kernel_is_equivalent_to_the_reference_agents(
    host: lab.Host, tmp_path: Path, layer2: str, steps: list[FeatureScenario]
) -> None:
    with ExitStack() as stack:
        if with_switch := layer2 == "openvswitch":
            reconciler = stack.enter_context(openvswitch_host("compute1", tmp_path))
        else:
            reconciler = make_host(host, "compute1", [*LIFE], tmp_path, AgentMode.DVR_SNAT)
        for scenario in steps:
            assert reconciler.reconcile(parse(scenario)).plan.omitted == ()
            assert compare(scenario, kinds=with_switch) == []
            namespaces = sorted(path.name for path in lab.NETNS.iterdir())
            assert namespaces == [f"qrouter-{scenario.router['id']}"]
            until_settled(namespaces)
            before = reconciler.kernel.counters.total()
            with writes_seen(namespaces) as seen:
                assert not reconciler.reconcile(parse(scenario)).plan
            assert (reconciler.kernel.counters.total() - before, seen) == (0, {})
        reconciler.remove(LIFE[0].router["id"])
        assert [path.name for path in lab.NETNS.iterdir()] == []


def is_built(reconciler: RouterReconciler, raw: bytes) -> bool:
    """False if an interface must not be plugged yet, since the router is of another kind now."""
    try:
        return reconciler.reconcile(parse_document(raw, "main")).trouble == ()
    except RefusedError as exc:
        if "of another kind now" in str(exc):
            return False
        raise


def test_a_port_changes_namespaces_when_the_kind_of_the_router_changes(host: lab.Host, tmp_path: Path) -> None:
    """Open vSwitch has one row per port: it must be gone from the one namespace before it comes to the other."""
    router = Cloud("compute1").router("main", RED).gateway(PUBLIC, "203.0.113.10")
    gateway = ("qg-" + router.envelope()["router"]["gw_port"]["id"])[:14]
    with openvswitch_host("compute1", tmp_path) as reconciler:
        for router.legacy in (True, False, True):
            here, there = (router.qrouter, router.snat_namespace)[:: 1 if router.legacy else -1]
            wait_for(lambda: is_built(reconciler, router.raw()))
            assert gateway in {link.name for link in reader.read(here).links}
            assert not (lab.NETNS / there).exists() or gateway not in {link.name for link in reader.read(there).links}
            assert not reconciler.reconcile(parse_document(router.raw(), "main")).plan
