"""Port forwardings: same documents and objects, equivalent kernel; taken over and handed back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.extensions import Extension
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.handover import find_own_objects, missing_effects, remove_own_objects
from tests.support import lab, recorded_documents
from tests.support.oracle_build import make_host, openvswitch_host, parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_reader import View
from tests.support.oracle_recordings import FeatureScenario
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.packet_reference import LEGACY, NFT, recorded_filter, restore_filter, saved_filter
from tests.support.recorded_documents import MODES

STORY = ("q1_port_forwarding", "q1_port_forwarding_changed", "q1_port_forwarding_removed")
GATEWAY = "q1g_gateway_update"


def compare(scenario: FeatureScenario, kinds: bool = False) -> list[str]:
    """Differences between recording and kernel."""
    actual = normalised(scenario.observe(), scenario.document, kinds=kinds)
    wanted = without_leftovers(as_wanted(scenario.recorded), scenario)
    return differences(normalised(wanted, scenario.document, kinds=kinds), actual)


def without_leftovers(views: dict[str, View], scenario: FeatureScenario) -> dict[str, View]:
    """The recording without rules of floating IPs that are central by now: the reference forgot one (q1g)."""
    central = {fip["fixed_ip_address"] for fip in scenario.router.get("_floatingips", []) if fip.get("dvr_snat_bound")}
    kept = {name: {rule for rule in view.rules if rule.src not in central} for name, view in views.items()}
    return {name: replace(view, rules=frozenset(kept[name])) for name, view in views.items()}


@pytest.mark.parametrize("recorded_on", ["compute1", "compute2"])
@pytest.mark.parametrize("names", [STORY, (GATEWAY,)], ids=["made, changed, removed", "gateway update"])
def test_kernel_is_equivalent_to_the_reference_agents(
    host: lab.Host, tmp_path: Path, names: tuple[str, ...], recorded_on: str
) -> None:
    scenarios = [FeatureScenario(name, recorded_on) for name in names]
    reconciler = make_host(host, recorded_on, scenarios, tmp_path, MODES[recorded_on], Extension.PORT_FORWARDING)
    for scenario in scenarios:
        assert reconciler.reconcile(parse(scenario)).plan.omitted == ()
        assert compare(scenario) == []
    namespaces = sorted(path.name for path in lab.NETNS.iterdir())
    until_settled(namespaces)
    before = reconciler.kernel.counters.total()
    with writes_seen(namespaces) as seen:
        assert not reconciler.reconcile(parse(scenarios[-1])).plan
    assert (reconciler.kernel.counters.total() - before, seen) == (0, {})


@pytest.mark.parametrize("recorded_on", ["compute1", "compute2"])
def test_with_open_vswitch_too(host: lab.Host, tmp_path: Path, recorded_on: str) -> None:
    with openvswitch_host(recorded_on, tmp_path, Extension.PORT_FORWARDING) as reconciler:
        for scenario in (FeatureScenario(name, recorded_on) for name in (*STORY, GATEWAY)):
            reconciler.reconcile(parse(scenario))
            assert compare(scenario, kinds=True) == []
            assert not reconciler.reconcile(parse(scenario)).plan


@pytest.mark.parametrize("known", [True, False], ids=["objects known", "objects not known"])
@pytest.mark.parametrize("variant", [LEGACY, NFT])
def test_taken_over_and_handed_back(host: lab.Host, tmp_path: Path, variant: str, known: bool) -> None:
    scenario = FeatureScenario(STORY[0], "compute1")
    recorded = recorded_filter(scenario)
    before = make_host(host, "compute1", [scenario], tmp_path, MODES["compute1"], Extension.PORT_FORWARDING)
    before.reconcile(parse(scenario))
    before.flush()
    remove_own_objects(before.kernel, find_own_objects(before.kernel))
    restore_filter(recorded, variant)
    objects = scenario.document["port_forwardings"]
    router = recorded_documents.parse(scenario.document | {"port_forwardings": objects if known else None})

    settings = HostSettings("compute1", MODES["compute1"], extensions=frozenset({Extension.PORT_FORWARDING}))
    agent = make_reconciler(settings, {}, tmp_path)
    agent.load()
    agent.reconcile(router)
    assert "neutron-l3-agent" not in saved_filter(recorded)
    assert compare(scenario) == []
    assert not agent.reconcile(router).plan

    restore_filter(recorded, variant)
    own = find_own_objects(agent.kernel)
    assert {one.namespace: missing_effects(agent.kernel, one) for one in own} == {one: [] for one in recorded}
    remove_own_objects(agent.kernel, own)
    assert "dvr-" not in saved_filter(recorded)
    assert "neutron-l3-agent-pf-" in saved_filter(recorded)
