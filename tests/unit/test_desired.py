"""The dataplane contract's decisions, on the recorded documents."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.allocation import PAIRS
from dvr_agent.desired.build import DesiredRouter, desired_router
from dvr_agent.desired.host_allocations import HostAllocations, generated_mac, new_fip_pair
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import left_alone_reason, make_view
from dvr_agent.desired.scope_marks import scope_marks
from dvr_agent.desired.table_ids import redirect_index
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import ExtraRoute, Router
from dvr_agent.state.address import link_local
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, MAIN_TABLE, Hop
from dvr_agent.state.rule import KERNEL_RULES
from tests.support.desired_state import desired
from tests.support.recorded_documents import DOCUMENTS, load, load_features


@pytest.mark.parametrize(
    ("cidr", "index"),
    [("10.1.0.1/24", 167837697), ("10.2.0.1/24", 167903233), ("2001:db8:1::/64", 170812614)],
)
def test_redirect_tables_are_the_recorded_ones(cidr: str, index: int) -> None:
    assert redirect_index(cidr) == index


def test_v6_indexes_keep_clear_of_the_kernels_own_rules() -> None:
    for i in range(2000):
        assert 32768 <= redirect_index(f"2001:db8::{i:x}/64") < 1 << 32


def test_link_local_address_is_the_kernels() -> None:
    assert link_local("2e:61:24:7d:67:84") == "fe80::2c61:24ff:fe7d:6784"
    assert link_local("ce:f2:3e:e4:fb:be") == "fe80::ccf2:3eff:fee4:fbbe"


def test_generated_macs_are_local_unicast_and_stable() -> None:
    mac = generated_mac("rfp-", "a3d9771d-a5b3-4f1e-85d3-418205981830")
    assert int(mac[:2], 16) & 3 == 2
    assert mac == generated_mac("rfp-", "a3d9771d-a5b3-4f1e-85d3-418205981830")
    assert mac != generated_mac("fpr-", "a3d9771d-a5b3-4f1e-85d3-418205981830")


def test_scope_marks_differ_and_do_not_depend_on_company() -> None:
    scopes = [f"{i:08x}-0000-4000-8000-000000000000" for i in range(200)]
    marks = scope_marks([None, *scopes])
    assert marks[None] == 0x4000000
    assert len(set(marks.values())) == 201
    assert all(mark & 0xFFFF == 0 and mark >> 16 < 2048 for mark in marks.values())
    assert scope_marks(scopes[:1])[scopes[0]] == scope_marks(scopes[:2])[scopes[0]]


def test_names_are_cut_to_fourteen_characters() -> None:
    assert names.device(names.INTERNAL, "7fb6853b-e0a6-4eb1-9367-8c12ac65036a") == "qr-7fb6853b-e0"
    assert names.device(names.ROUTER_TO_FIP, "a3d9771d-a5b3-4f1e-85d3-418205981830") == "rfp-a3d9771d-a"
    assert names.parse_namespace("qrouter-a3d9771d-a5b3-4f1e-85d3-418205981830") is not None
    assert names.parse_namespace("qrouter-mine") is None


def test_legacy_ha_routers_without_an_ha_port_here_are_left_alone() -> None:
    router = replace(load_features("q3_ha_legacy_pair", "compute1"), ha_interface=None)
    with pytest.raises(NotSupportedError, match="_ha_interface"):
        desired(router, "compute1")


@pytest.mark.parametrize(
    ("mode", "gateway_host", "reason"),
    [
        (AgentMode.DVR_SNAT, "compute1", ""),
        (AgentMode.DVR_SNAT, None, ""),
        (AgentMode.DVR_SNAT, "compute7", "its host is compute7"),
        (AgentMode.DVR, "compute1", "agent_mode is dvr,"),
        (AgentMode.DVR_NO_EXTERNAL, None, "agent_mode is dvr_no_external,"),
    ],
)
def test_legacy_routers_are_built_on_their_host_only(mode: AgentMode, gateway_host: str | None, reason: str) -> None:
    router = replace(load_features("q4_legacy", "compute1"), gateway_host=gateway_host)
    settings = HostSettings("compute1", mode)
    assert reason in left_alone_reason(router, settings)
    assert bool(left_alone_reason(router, settings)) == bool(reason)
    if reason:
        with pytest.raises(NotSupportedError, match=reason):
            make_view(router, settings)


def routes_of(router: Router, **settings: Any) -> dict[tuple[str, int], tuple[Hop, ...]]:
    view = make_view(router, HostSettings("compute1", AgentMode.DVR_SNAT, **settings))
    return {route.key: route.hops for route in desired_router(view, HostAllocations()).qrouter.routes}


def test_legacy_router_has_one_main_table_in_which_a_default_route_of_the_document_counts() -> None:
    legacy = load_features("q4_legacy", "compute1")
    assert routes_of(legacy)[DEFAULT_V4, MAIN_TABLE] == (Hop("203.0.113.1", "qg-2678784f-e2"),)
    own = ExtraRoute(ip_network("0.0.0.0/0"), IPv4Address("10.1.0.171"))
    assert routes_of(replace(legacy, routes=(own,)))[DEFAULT_V4, MAIN_TABLE] == (Hop("10.1.0.171", "qr-1081b151-1c"),)
    hops = ("10.1.0.171", "203.0.113.250")
    mixed = tuple(ExtraRoute(ip_network("172.16.0.0/16"), IPv4Address(hop)) for hop in hops)
    found = routes_of(replace(legacy, routes=mixed))["172.16.0.0/16", MAIN_TABLE]
    assert {hop.gateway for hop in found} == set(hops)
    bare = load_features("q4_legacy_no_gateway", "compute1")
    assert all(hop.device.startswith("qr-") for hops in routes_of(bare).values() for hop in hops)


def test_legacy_router_without_ipv6_gateway_uses_the_configured_one() -> None:
    legacy = load_features("q4_legacy", "compute1")
    assert legacy.gateway is not None
    only4 = [subnet for subnet in legacy.gateway.subnets if subnet.cidr.version == 4]
    fixed = [ip for ip in legacy.gateway.fixed_ips if ip.address.version == 4]
    router = replace(legacy, gateway=replace(legacy.gateway, subnets=tuple(only4), fixed_ips=tuple(fixed)))
    assert (DEFAULT_V6, MAIN_TABLE) not in routes_of(router)
    found = routes_of(router, ipv6_gateway=IPv6Address("fe80::1"))
    assert found[DEFAULT_V6, MAIN_TABLE] == (Hop("fe80::1", "qg-2678784f-e2"),)


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("[a-jlp]*.json")), ids=lambda path: path.stem)
def test_order_of_anything_in_a_document_does_not_matter(path: Path) -> None:
    host = path.stem.rpartition("-")[2]
    document = json.loads(path.read_text())
    first = desired(parse_document(json.dumps(document).encode(), path.name), host)[1]
    shuffler = random.Random(path.stem)
    for key, value in document["router"].items():
        if isinstance(value, list):
            shuffler.shuffle(document["router"][key])
    for ports in document["ports_by_subnet"].values():
        shuffler.shuffle(ports)
    assert desired(parse_document(json.dumps(document).encode(), path.name), host)[1] == first


def test_without_external_network_all_traffic_goes_to_the_snat_host() -> None:
    router = load("i_address_scope", "compute1")
    _, state = desired(router, "compute3")
    assert state.base is None
    assert state.slice is None
    assert state.snat is None
    redirects = state.qrouter.rules - KERNEL_RULES
    assert len({rule.src for rule in redirects}) == 3, "also the subnet in the external scope is redirected"
    assert all(rule.table == rule.priority for rule in redirects)


def test_of_two_agent_gateway_ports_the_lower_id_or_the_plugged_one_wins() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    port = router.agent_gateways[0]
    other = replace(port, id="00000000-0000-4000-8000-000000000000")
    both = replace(router, agent_gateways=(port, other))
    settings = HostSettings("compute1", AgentMode.DVR_SNAT)
    assert make_view(both, settings).agent_gateway == other
    assert make_view(both, settings, in_use=port).agent_gateway == port


def test_another_hosts_agent_gateway_port_is_not_ours() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    view, state = desired(router, "elsewhere", AgentMode.DVR)
    assert view.agent_gateway is None
    assert state.slice is None


def test_migrating_floating_ip_is_on_both_hosts() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    fip = replace(router.floating_ips[0], host="elsewhere", dest_host="compute1")
    view, _ = desired(replace(router, floating_ips=(fip,)), "compute1")
    assert view.local_fips == (fip,)


def test_unreachable_extra_route_is_a_warning_and_connected_destination_is_not_replaced() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    routes = (
        ExtraRoute(ip_network("198.51.100.0/24"), IPv4Address("192.0.2.9")),
        ExtraRoute(ip_network("10.1.0.0/24"), IPv4Address("10.1.0.48")),
        ExtraRoute(ip_network("172.16.0.0/16"), IPv4Address("10.1.0.48")),
    )
    _, state = desired(replace(router, routes=routes), "compute1")
    assert [warning.split()[2] for warning in state.warnings] == ["198.51.100.0/24", "10.1.0.0/24"]
    assert [route.dst for route in state.qrouter.routes if route.dst.startswith(("172", "198", "10.1"))] == [
        "172.16.0.0/16"
    ]


def test_a_floating_ip_bound_here_without_agent_gateway_is_a_warning() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    _, state = desired(replace(router, agent_gateways=()), "compute1")
    assert len(state.warnings) == 1
    assert "no agent gateway port" in state.warnings[0]


def test_own_address_beats_an_allowed_address_pair_as_neighbour() -> None:
    router = load("l_allowed_address_pair", "compute1")
    _, state = desired(router, "compute1")
    shared = [neighbour for neighbour in state.qrouter.neighbours if neighbour.dst == "10.1.0.100"]
    assert [neighbour.mac for neighbour in shared] == ["fa:16:3e:64:e4:8f"]


def test_gateway_outside_its_subnet_gets_an_on_link_route() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    gateway, agent = router.gateway, router.agent_gateways[0]
    assert gateway is not None
    far = IPv4Address("192.0.2.1")
    moved = replace(
        router,
        gateway=replace(gateway, subnets=(replace(gateway.subnets[0], gateway_ip=far),)),
        agent_gateways=(replace(agent, subnets=(replace(agent.subnets[0], gateway_ip=far),)),),
    )
    _, state = desired(moved, "compute1")
    assert state.base is not None
    assert state.snat is not None
    for namespace in (state.base, state.snat):
        assert [route.hops[0].gateway for route in namespace.routes if route.dst == "192.0.2.1/32"] == [None]


def test_no_snat_rule_without_enable_snat() -> None:
    router = load("f_no_snat", "compute1")
    _, state = desired(router, "compute1")
    assert state.snat is not None
    nat = next(table for table in state.snat.tables if table.key == (4, "nat"))
    texts = [rule.text for chain in nat.chains for rule in chain.rules]
    assert not any(text.startswith("-o qg-") for text in texts)


@pytest.mark.parametrize(
    ("scenario", "option", "accept_ra", "via"),
    [
        ("b2_dvr_snat_node_with_vms", None, "2", []),
        ("b2_dvr_snat_node_with_vms", "fe80::1", "0", ["fe80::1"]),
        ("h_dual_stack", "fe80::1", "0", ["2001:db8:e::"]),
    ],
)
def test_an_ipv6_gateway_is_the_subnets_or_the_configured_or_a_learned_one(
    scenario: str, option: str | None, accept_ra: str, via: list[str]
) -> None:
    router = load(scenario, "compute1")
    settings = HostSettings("compute1", AgentMode.DVR_SNAT, ipv6_gateway=IPv6Address(option) if option else None)
    view = make_view(router, settings)
    assert view.agent_gateway is not None
    priorities = tuple((str(fip.address), 40000 + i) for i, fip in enumerate(view.local_fips))
    snat = desired_router(view, HostAllocations(new_fip_pair(router.id, PAIRS[0]), priorities)).snat
    assert snat is not None
    assert [one.value for one in snat.sysctls if one.key.endswith("/accept_ra")] == [accept_ra]
    assert [route.hops[0].gateway for route in snat.routes if route.dst == "::/0"] == via


def _rules_before_main(state: DesiredRouter) -> set[int]:
    return {rule.priority for rule in state.qrouter.rules} & {32764, 32765}


def test_the_two_ipv6_rules_before_main_give_way_to_a_default_route_of_the_document() -> None:
    router = load("h_dual_stack", "compute1")
    state = desired(router, "compute1")[1]
    assert _rules_before_main(state) == {32764, 32765}
    port = next(port for port in router.interfaces if any(fixed.address.version == 6 for fixed in port.fixed_ips))
    subnet = next(subnet for subnet in port.subnets if subnet.cidr.version == 6)
    inside = ExtraRoute(ip_network("::/0"), subnet.cidr[0x99])
    elsewhere = ExtraRoute(ip_network("::/0"), IPv6Address("2001:db8:ffff::1"))
    assert _rules_before_main(desired(replace(router, routes=(inside,)), "compute1")[1]) == set()
    assert _rules_before_main(desired(replace(router, routes=(elsewhere,)), "compute1")[1]) == {32764, 32765}
