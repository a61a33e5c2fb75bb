"""Conntrack helpers and NDP proxies: same documents and objects, equivalent kernel, on each recorded host."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.extensions import Extension
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.handover import find_own_objects, missing_effects, remove_own_objects
from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.oracle_build import make_host, openvswitch_host, parse
from tests.support.oracle_extensions import ExtensionScenario
from tests.support.oracle_normalise import differences, normalised
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.packet_reference import LEGACY, NFT, recorded_filter, restore_filter, saved_filter
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


@pytest.mark.parametrize("variant", [LEGACY, NFT])
@pytest.mark.parametrize("name", sorted(FOLLOWED_BY))
def test_taken_over_and_handed_back(host: lab.Host, tmp_path: Path, name: str, variant: str) -> None:
    scenario = ExtensionScenario(name, "compute1")
    recorded = recorded_filter(scenario)
    before = make_host(host, "compute1", [scenario], tmp_path, MODES["compute1"], *Extension)
    before.reconcile(parse(scenario))
    before.flush()
    remove_own_objects(before.kernel, find_own_objects(before.kernel))
    restore_filter(recorded, variant)

    agent = make_reconciler(HostSettings("compute1", MODES["compute1"], extensions=frozenset(Extension)), {}, tmp_path)
    agent.load()
    agent.reconcile(parse(scenario))
    assert "neutron-l3-agent" not in saved_filter(recorded)
    assert compare(scenario) == []
    assert not agent.reconcile(parse(scenario)).plan

    restore_filter(recorded, variant)
    own = find_own_objects(agent.kernel)
    assert {one.namespace: missing_effects(agent.kernel, one) for one in own} == {one: [] for one in recorded}
    remove_own_objects(agent.kernel, own)
    assert "dvr-" not in saved_filter(recorded)
    assert "neutron-l3-agent" in saved_filter(recorded)
    for namespace in recorded:
        assert "iif" not in lab.run("ip", "-n", namespace, "-6", "rule")
        rules = reader.read(namespace).rules
        assert rules <= scenario.recorded[namespace].rules | {rule for rule in rules if rule.iif or rule.table == 16}


@pytest.mark.parametrize("recorded_on", ["compute1", "compute2"])
def test_with_open_vswitch_too(host: lab.Host, tmp_path: Path, recorded_on: str) -> None:
    scenarios = [ExtensionScenario(name, recorded_on) for name in FOLLOWED_BY]
    with openvswitch_host(recorded_on, tmp_path, *Extension) as reconciler:
        for scenario in scenarios:
            reconciler.reconcile(parse(scenario))
        for scenario in scenarios:
            actual = normalised(scenario.observe(), scenario.document, kinds=True)
            assert differences(normalised(scenario.wanted, scenario.document, kinds=True), actual) == []
            assert not reconciler.reconcile(parse(scenario)).plan


def test_not_handed_back_before_subnets_are_closed_from_outside(host: lab.Host, tmp_path: Path) -> None:
    scenario = ExtensionScenario("q6_ndp_proxy", "compute1")
    recorded = recorded_filter(scenario)
    agent = make_host(host, "compute1", [scenario], tmp_path, MODES["compute1"], *Extension)
    agent.reconcile(parse(scenario))
    agent.flush()
    snat = f"snat-{scenario.router['id']}"
    lines = recorded[snat]["6"].splitlines(keepends=True)
    recorded[snat]["6"] = "".join(
        line for line in lines if "-A neutron-l3-agent-FORWARD" not in line or "NDP" not in line
    )
    restore_filter(recorded, LEGACY)
    own = {one.namespace: one for one in find_own_objects(agent.kernel)}
    (missing,) = missing_effects(agent.kernel, own[snat])
    assert missing == "ip6: 2001:db8:a:1::/64 is closed on qg-a5dc38e6-c3"
