"""What a plan says of one floating IP: each piece of it and of its way, and nothing of others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dvr_agent.cli.render import Renderer
from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from dvr_agent.model.features import BandwidthLimit, ForwardingIp, PortForwarding, PortRange, QosPolicy
from dvr_agent.model.router import FloatingIp, Router
from dvr_agent.reconcile.floating_ip_plan import floating_ip_plan, is_built_here
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import Table
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.state.rule import KERNEL_RULES
from dvr_agent.state.sysctl import Sysctl
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load, load_features

ROUTER_ID = "a3d9771d-a5b3-4f1e-85d3-418205981830"
LOCAL, OTHER, CENTRAL, FORWARDED = "203.0.113.183", "203.0.113.184", "203.0.113.185", "203.0.113.186"


@pytest.fixture
def router() -> Router:
    """Two floating IPs bound here, one with a bandwidth limit; a central one; one of port forwardings."""
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    (local,) = router.floating_ips
    local = replace(local, qos_policy_id="00000000-0000-4000-8000-00000000000a")
    other = replace(local, id="1" + local.id[1:], address=IPv4Address(OTHER), fixed_address=IPv4Address("10.1.0.77"))
    other = replace(other, qos_policy_id=None)
    central = replace(other, id="2" + local.id[1:], address=IPv4Address(CENTRAL), snat_bound=True)
    central = replace(central, fixed_address=IPv4Address("10.1.0.78"))
    ip = ForwardingIp("3" + local.id[1:], IPv4Address(FORWARDED))
    ports = PortRange(2222, 2222), PortRange(22, 22)
    forwarding = PortForwarding("4" + local.id[1:], ip.id, ip.address, IPv4Address("10.1.0.79"), "tcp", *ports)
    policy = QosPolicy("00000000-0000-4000-8000-00000000000a", BandwidthLimit(1000, 100), BandwidthLimit(2000, 200))
    features = replace(router.features, forwarding_ips=(ip,), port_forwardings=(forwarding,), qos_policies=(policy,))
    return replace(router, floating_ips=(local, other, central), features=features)


@pytest.fixture
def bench(tmp_path: Path, router: Router) -> Bench:
    made = Bench(tmp_path)
    made.settings = replace(made.settings, extensions=frozenset({Extension.PORT_FORWARDING, Extension.FIP_QOS}))
    made.restart()
    made.reconciler.reconcile(router)
    return made


def plans(bench: Bench, router: Router) -> dict[str, list[str]]:
    """Floating IP → the lines of its part of the plan."""
    job = bench.reconciler.planner.plan_router(router)
    fips: list[FloatingIp | ForwardingIp] = [*router.floating_ips, *router.features.forwarding_ips]
    assert all(is_built_here(job.draft.view, fip) for fip in fips)
    sections = {str(fip.address): Renderer().section(floating_ip_plan(job, fip)) for fip in fips}
    return {
        address: [line.full for group in section.groups for line in group.lines]
        for address, section in sections.items()
    }


def set_table(bench: Bench, namespace: str, table: Table) -> None:
    with bench.kernel.packet_filter.defer_apply() as pending:
        pending.replace(namespace, table)


def states(bench: Bench, router: Router) -> list[NamespaceState]:
    state = bench.reconciler.planner.plan_router(router).draft.state
    return [one for one in (state.qrouter, state.base, state.slice, state.snat) if one is not None]


def removable(bench: Bench, router: Router) -> Iterator[tuple[NamespaceState, KernelObject]]:
    """Yield each desired object that can be lost alone."""
    for state in states(bench, router):
        for kind in KINDS:
            for item in sorted(state.of_kind(kind), key=str):
                if not isinstance(item, Link | Sysctl) and item not in KERNEL_RULES:
                    yield state, item


def test_all_of_each_floating_ip_is_there(bench: Bench, router: Router) -> None:
    assert plans(bench, router) == {LOCAL: [], OTHER: [], CENTRAL: [], FORWARDED: []}


def test_whatever_the_kernel_loses_is_told_of_the_floating_ips_that_need_it(bench: Bench, router: Router) -> None:
    of: dict[str, set[str]] = {}
    for state, item in list(removable(bench, router)):
        bench.kernel.interfaces.apply(state.name, [Change(Action.REMOVE, item, item)])
        for address, lines in plans(bench, router).items():
            if f"+ {item.text}" in lines:
                of.setdefault(f"{state.name.partition('-')[0]} {item.text}", set()).add(address)
        bench.reconciler.reconcile(router)
        assert not any(plans(bench, router).values())
    by_one = {text: next(iter(found)) for text, found in of.items() if len(found) == 1}
    assert "route 203.0.113.183/32" in " ".join(text for text, address in by_one.items() if address == LOCAL)
    qg = "qg-89f701c6-a3"
    for address, text in (
        (CENTRAL, f"snat address {CENTRAL}/32 dev {qg}"),
        (FORWARDED, f"snat address {FORWARDED}/32 dev {qg}"),
    ):
        assert by_one[text] == address
    both, central = {LOCAL, OTHER}, {CENTRAL, FORWARDED}
    shared = {text: found for text, found in of.items() if len(found) > 1}
    for text, found in (
        ("fip address 203.0.113.19/24 dev fg-8ff41de9-3e", both),
        ("snat route default via 203.0.113.1 dev qg-89f701c6-a3", central),
        ("qrouter address 10.1.0.1/24 dev qr-7fb6853b-e0", both | central),
        ("snat address 10.1.0.179/24 dev sg-0f7157bb-70", central),
    ):
        assert shared[text] == found
    limits = [text for text in of if "limit " in text]
    assert len(limits) == 2
    assert all(of[text] == {LOCAL} for text in limits)
    assert [text for text, found in of.items() if text.endswith(" lookup 16") and len(found) != 1] == []
    assert of["qrouter rule 167837697: from 10.1.0.1/24 lookup 167837697"] == central


def test_each_rule_of_the_packet_filter_is_told_of_the_floating_ips_that_need_it(bench: Bench, router: Router) -> None:
    of: dict[str, set[str]] = {}
    for state in states(bench, router):
        for table in state.tables:
            for chain in table.chains:
                for rule in chain.rules:
                    left = tuple(one for one in chain.rules if one != rule)
                    lacking = replace(chain, rules=left)
                    chains = tuple(lacking if one == chain else one for one in table.chains)
                    set_table(bench, state.name, replace(table, chains=chains))
                    for address, lines in plans(bench, router).items():
                        if lines:
                            of.setdefault(f"{state.name.partition('-')[0]} {rule.text}", set()).add(address)
                    set_table(bench, state.name, table)
    assert of[f"qrouter -d {LOCAL}/32 -i rfp-a3d9771d-a -j DNAT --to-destination 10.1.0.112"] == {LOCAL}
    assert of[f"qrouter -s 10.1.0.77/32 -j SNAT --to-source {OTHER} --random-fully"] == {OTHER}
    assert of[f"snat -d {CENTRAL}/32 -j DNAT --to-destination 10.1.0.78"] == {CENTRAL}
    forwarded = f"snat -d {FORWARDED}/32 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 10.1.0.79:22"
    assert of[forwarded] == {FORWARDED}
    assert of["qrouter ! -o rfp-a3d9771d-a -m conntrack ! --ctstate DNAT -j ACCEPT"] >= {LOCAL, OTHER}
    assert of["fip -j CT --notrack"] == {LOCAL, OTHER}


def test_a_jump_is_in_the_plan_of_a_floating_ip_only_if_the_kernel_lacks_it(bench: Bench, router: Router) -> None:
    state = next(one for one in states(bench, router) if one.name == "qrouter-" + ROUTER_ID)
    table = next(one for one in state.tables if one.name == "nat" and one.family == 4)
    chain = next(one for one in table.chains if one.name == "dvr-PREROUTING")
    dnat = f"-d {LOCAL}/32"
    left = replace(chain, rules=tuple(rule for rule in chain.rules if dnat not in rule.text))
    chains = tuple(left if one == chain else one for one in table.chains)
    set_table(bench, state.name, replace(table, chains=chains))
    (line,) = plans(bench, router)[LOCAL]
    assert line.startswith("+ iptables -t nat -A dvr-PREROUTING")
    assert dnat in line
    jumps = tuple(jump for jump in table.jumps if jump[1] != chain.name)
    set_table(bench, state.name, replace(table, jumps=jumps))
    assert plans(bench, router)[LOCAL] == ["+ iptables -t nat -A PREROUTING -j dvr-PREROUTING"]


def test_a_wrong_outer_side_a_sysctl_and_a_down_link_are_told(bench: Bench, router: Router) -> None:
    bench.attach.broken["fg-8ff41de9-3e"] = "its tap is down"
    bench.kernel.interfaces.apply(
        "fip-8a5d1441-a465-459b-ab0e-588eae4e32cb",
        [Change(Action.CHANGE, Sysctl("ipv4/conf/fg-8ff41de9-3e/proxy_arp", "0"))],
    )
    found = plans(bench, router)
    for address in (LOCAL, OTHER):
        assert "~ port fg-8ff41de9-3e: its tap is down" in found[address]
        assert any(line.startswith("~ sysctl net/ipv4/conf/fg-8ff41de9-3e/proxy_arp=1") for line in found[address])
    assert found[CENTRAL] == found[FORWARDED] == []


def test_a_limit_that_cannot_be_built_is_told_of_its_floating_ip(bench: Bench, router: Router) -> None:
    unknown = replace(router, features=replace(router.features, qos_policies=()))
    job = bench.reconciler.planner.plan_router(unknown)
    told = {str(fip.address): floating_ip_plan(job, fip).omitted for fip in router.floating_ips}
    assert told == {LOCAL: job.plan.omitted, OTHER: (), CENTRAL: ()}
    assert f"floating IP {LOCAL} is not limited" in job.plan.omitted[0]
    near = replace(router.floating_ips[1], address=IPv4Address(LOCAL[:-1]))
    assert floating_ip_plan(job, near).omitted == ()


def test_a_floating_ip_of_another_host_that_is_still_here_is_told(bench: Bench, router: Router) -> None:
    local, *rest = router.floating_ips
    moved = replace(local, host="elsewhere")
    job = bench.reconciler.planner.plan_router(replace(router, floating_ips=(moved, *rest)))
    assert not is_built_here(job.draft.view, moved)
    section = Renderer().section(floating_ip_plan(job, moved))
    lines = [line.full for group in section.groups for line in group.lines]
    assert any(line.startswith("- iptables -t nat -A dvr-PREROUTING -d 203.0.113.183/32") for line in lines)
    assert all(line.startswith("- ") for line in lines)


@pytest.mark.parametrize("scenario", ["q2_ha_dvr_pair", "q3_ha_legacy_pair"])
def test_the_master_of_an_ha_router_lacks_addresses_and_another_host_does_not(scenario: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode=AgentMode.DVR_SNAT)
    router = load_features(scenario, "compute1")
    bench.reconciler.reconcile(router)
    planner = bench.reconciler.planner
    job = planner.plan_router(router)
    state = job.draft.state.shared_by_hosts
    assert state is not None
    assert state.virtual_router is not None
    fip = next(one for one in router.floating_ips if one in job.draft.view.central_fips)
    assert not floating_ip_plan(job, fip)
    assert not job.draft.place.is_master
    (lacking,) = (one for one in state.virtual_router.addresses if one.ip == str(fip.address))
    held = [state.virtual_router.primary, *(one for one in state.virtual_router.addresses if one != lacking)]
    bench.kernel.interfaces.apply(state.name, [Change(Action.ADD, one) for one in held])
    job = planner.plan_router(router)
    assert job.draft.place.is_master
    section = Renderer().section(floating_ip_plan(job, fip))
    assert [line.full for group in section.groups for line in group.lines] == [f"+ {lacking.text}"]
    bench.kernel.interfaces.apply(state.name, [Change(Action.ADD, lacking)])
    assert not floating_ip_plan(planner.plan_router(router), fip)
