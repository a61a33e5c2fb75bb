"""Floating IPs and addresses of external ports that cannot be are left out, named; the rest of the router is built."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from dvr_agent.desired.allocation import PAIRS
from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations, new_fip_pair
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.router_advertisements import radvd_text
from dvr_agent.desired.without_ipv6 import advertising
from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document
from dvr_agent.state.rule import KERNEL_RULES
from tests.support import hostile
from tests.support.recorded_documents import RECORDED, document, parse

COMPUTE = "a_dvr_compute-compute2"
"""203.0.113.124 for 10.1.0.x behind a gateway port 203.0.113.10 in 203.0.113.0/24."""
DUAL = "h_dual_stack-compute2"
FIP = ("router", "_floatingips", 0)
FIP_ADDRESS = (*FIP, "floating_ip_address")
FIXED_ADDRESS = (*FIP, "fixed_ip_address")
GATEWAY = ("router", "gw_port")
AGENT_GATEWAY = ("router", "_floatingip_agent_interfaces", 0)


def with_value(name: str, place: hostile.Place, value: Any) -> dict[str, Any]:
    found: dict[str, Any] = hostile.replaced(document(name), place, value)
    return found


def test_documents_of_a_real_server_have_nothing_to_leave_out() -> None:
    for name, data in RECORDED.items():
        router = parse_document(data, name)
        assert (router.omitted, router.omitted_floating_ips, router.skipped) == ((), (), ()), name


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("203.0.113.1", "the gateway of a subnet"),
        ("203.0.113.0", "the network address of 203.0.113.0/24"),
        ("203.0.113.255", "the broadcast address of 203.0.113.0/24"),
        ("203.0.113.10", "that of $.router.gw_port"),
        ("10.1.0.1", "that of $.router._interfaces[0]"),
        ("0.0.0.0", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("224.0.0.5", "multicast"),
        ("239.255.255.255", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("169.254.64.0", "169.254.64.0/18"),
        ("169.254.0.1", "169.254.0.0/16"),
        ("169.254.169.254", "169.254.0.0/16"),
    ],
)
def test_floating_ip_that_cannot_be_is_left_out(address: str, reason: str) -> None:
    source = with_value(COMPUTE, FIP_ADDRESS, address)
    good = {**hostile.at(source, FIP), "id": hostile.UUID, "floating_ip_address": "203.0.113.200"}
    good["fixed_ip_address"] = "10.1.0.200"
    source["router"]["_floatingips"].append(good)
    router = parse(source)
    assert [str(fip.address) for fip in router.floating_ips] == ["203.0.113.200"]
    assert [fip.id for fip in router.omitted_floating_ips] == [hostile.at(source, FIP)["id"]]
    (omission,) = router.omitted
    assert omission.path == "$.router._floatingips[0].floating_ip_address"
    assert omission.value == f'"{address}"'
    assert reason in omission.expected
    assert omission.text == f"{omission.path} is {omission.value}: expected {omission.expected}"


def test_floating_ip_with_the_address_of_the_agent_gateway_port() -> None:
    source = document(COMPUTE)
    address = hostile.at(source, (*AGENT_GATEWAY, "fixed_ips", 0, "ip_address"))
    router = parse(hostile.replaced(source, FIP_ADDRESS, address))
    assert router.floating_ips == ()
    assert "that of $.router._floatingip_agent_interfaces[0]" in router.omitted[0].expected
    assert len(router.agent_gateways) == 1


@pytest.mark.parametrize("place", [GATEWAY, AGENT_GATEWAY], ids=["gateway port", "agent gateway port"])
@pytest.mark.parametrize(
    ("address", "left_out"),
    [("198.51.100.1", True), ("198.51.100.0", True), ("198.51.100.255", True), ("198.51.100.2", False)],
)
def test_other_subnets_of_the_external_network_count_too(place: hostile.Place, address: str, left_out: bool) -> None:
    extra = {"id": hostile.UUID, "cidr": "198.51.100.0/24", "gateway_ip": "198.51.100.1"}
    source = with_value(COMPUTE, (*place, "extra_subnets"), [extra])
    router = parse(hostile.replaced(source, FIP_ADDRESS, address))
    assert bool(router.omitted) is left_out
    assert bool(router.floating_ips) is not left_out


@pytest.mark.parametrize(
    ("cidr", "address", "left_out"),
    [
        ("192.0.2.64/31", "192.0.2.64", False),
        ("192.0.2.64/31", "192.0.2.65", False),
        ("192.0.2.64/32", "192.0.2.64", False),
        ("192.0.2.64/30", "192.0.2.64", True),
        ("192.0.2.64/30", "192.0.2.67", True),
        ("192.0.2.64/30", "192.0.2.66", False),
    ],
)
def test_small_subnets_have_neither_network_nor_broadcast_address(cidr: str, address: str, left_out: bool) -> None:
    extra = {"id": hostile.UUID, "cidr": cidr, "gateway_ip": None}
    source = with_value(COMPUTE, (*GATEWAY, "extra_subnets"), [extra])
    assert bool(parse(hostile.replaced(source, FIP_ADDRESS, address)).omitted) is left_out


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.1.0.1", "that of $.router._interfaces[0]"),
        ("10.1.0.0", "the network address"),
        ("10.1.0.255", "the broadcast address"),
        ("10.77.0.5", "in none of them"),
        ("203.0.113.10", "that of $.router.gw_port"),
        ("127.0.0.1", "loopback"),
        ("224.0.0.1", "multicast"),
        ("169.254.64.9", "169.254.64.0/18"),
        ("0.0.0.0", "unspecified"),
    ],
)
def test_floating_ip_that_leads_nowhere_is_left_out(address: str, reason: str) -> None:
    router = parse(with_value(COMPUTE, FIXED_ADDRESS, address))
    assert router.floating_ips == ()
    (omission,) = router.omitted
    assert omission.path == "$.router._floatingips[0].fixed_ip_address"
    assert omission.value == f'"{address}"'
    assert reason in omission.expected


def test_floating_ip_that_leads_to_the_csnat_port_is_left_out() -> None:
    source = document(COMPUTE)
    (csnat,) = source["router"]["_snat_router_interfaces"]
    router = parse(hostile.replaced(source, FIXED_ADDRESS, csnat["fixed_ips"][0]["ip_address"]))
    assert "that of $.router._snat_router_interfaces[0]" in router.omitted[0].expected


def test_subnet_of_an_interface_that_lists_none_is_told_by_its_address() -> None:
    router = parse(with_value(COMPUTE, ("router", "_interfaces", 0, "subnets"), []))
    assert (len(router.floating_ips), router.omitted) == (1, ())


@pytest.mark.parametrize("port", [GATEWAY, AGENT_GATEWAY], ids=["gateway port", "agent gateway port"])
@pytest.mark.parametrize(
    "address",
    ["203.0.113.1", "203.0.113.0", "203.0.113.255", "224.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.1.1", "169.254.64.1"],
)
def test_address_that_an_external_port_cannot_have(port: hostile.Place, address: str) -> None:
    router = parse(with_value(COMPUTE, (*port, "fixed_ips", 0, "ip_address"), address))
    (omission,) = router.omitted
    assert omission.path.endswith(".fixed_ips[0].ip_address")
    assert omission.value == f'"{address}"'
    assert "an address that a port of an external network can have" in omission.expected
    assert router.gateway is not None
    assert len(router.interfaces) == 1
    if port == GATEWAY:
        assert router.gateway.fixed_ips == ()
        assert len(router.floating_ips) == 1  # by the agent gateway port, which is well
    else:
        assert router.agent_gateways == ()


@pytest.mark.parametrize(
    ("address", "left_out"),
    [
        ("2001:db8:e::", True),  # the gateway there
        ("2001:db8:f::", True),  # anycast address of the routers of the other subnet
        ("2001:db8:f::ffff", False),
        ("2001:db8:e:0:ffff:ffff:ffff:ffff", False),  # IPv6 knows no broadcast
        ("2001:db8:1f::", False),  # /127
        ("2001:db8:2f::", False),  # /128
        ("ff02::1", True),
        ("::1", True),
        ("::", True),
        ("::ffff:10.0.0.1", True),
        ("fe80::5", False),
    ],
)
def test_ipv6_address_of_a_gateway_port_leaves_the_ipv4_one_alone(address: str, left_out: bool) -> None:
    extra = [{"cidr": cidr} for cidr in ("2001:db8:f::/64", "2001:db8:1f::/127", "2001:db8:2f::/128")]
    source = with_value(DUAL, (*GATEWAY, "extra_subnets"), extra)
    router = parse(hostile.replaced(source, (*GATEWAY, "fixed_ips", 0, "ip_address"), address))
    assert router.gateway is not None
    found = [str(fixed.address) for fixed in router.gateway.fixed_ips]
    assert found == (["203.0.113.169"] if left_out else [address, "203.0.113.169"])
    assert [one.path for one in router.omitted] == (["$.router.gw_port.fixed_ips[0].ip_address"] if left_out else [])


def test_gateway_port_with_the_address_of_the_agent_gateway_port() -> None:
    source = document(COMPUTE)
    address = hostile.at(source, (*AGENT_GATEWAY, "fixed_ips", 0, "ip_address"))
    router = parse(hostile.replaced(source, (*GATEWAY, "fixed_ips", 0, "ip_address"), address))
    assert router.gateway is not None
    assert router.gateway.fixed_ips == ()
    assert "that of $.router._floatingip_agent_interfaces[0]" in router.omitted[0].expected


def test_centralized_floating_ip_needs_the_address_of_the_gateway_port() -> None:
    source = with_value(COMPUTE, (*FIP, "dvr_snat_bound"), True)
    assert parse(source).omitted == ()
    router = parse(hostile.replaced(source, (*GATEWAY, "fixed_ips", 0, "ip_address"), "203.0.113.1"))
    assert router.floating_ips == ()
    assert [omission.path for omission in router.omitted] == [
        "$.router.gw_port.fixed_ips[0].ip_address",
        "$.router._floatingips[0].floating_ip_address",
    ]


def test_internal_interface_has_the_gateway_address_of_its_subnet() -> None:
    source = document(COMPUTE)
    interface = source["router"]["_interfaces"][0]
    assert interface["fixed_ips"][0]["ip_address"] == interface["subnets"][0]["gateway_ip"]
    assert parse(source).omitted == ()


@pytest.mark.parametrize("key", ["_interfaces", "_snat_router_interfaces", "_floatingip_agent_interfaces", "gw_port"])
@pytest.mark.parametrize(
    "cidr",
    [
        "169.254.64.0/18",
        "169.254.64.0/24",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "127.1.2.0/24",
        "224.0.0.0/4",
        "239.1.0.0/16",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "ff00::/8",
        "ff02::/64",
        "::/64",
    ],
)
def test_subnet_that_overlaps_what_no_subnet_can_be_in(key: str, cidr: str) -> None:
    port: hostile.Place = ("router", key) if key == "gw_port" else ("router", key, 0)
    source = with_value(COMPUTE, (*port, "subnets", 0, "cidr"), cidr)
    with pytest.raises(DocumentError) as caught:
        parse(source)
    assert caught.value.path.endswith(".subnets[0].cidr")
    assert caught.value.value == f'"{cidr}"'
    assert "a network that does not overlap" in caught.value.expected


@pytest.mark.parametrize("cidr", ["169.254.0.0/18", "169.254.128.0/17", "126.0.0.0/8", "128.0.0.0/8", "240.0.0.0/4"])
def test_subnet_beside_them_is_fine(cidr: str) -> None:
    source = with_value(COMPUTE, ("router", "_interfaces", 0, "subnets", 0, "cidr"), cidr)
    assert str(parse(source).interfaces[0].subnets[0].cidr) == cidr


def test_other_subnets_of_an_internal_network_are_no_concern_of_the_router() -> None:
    extra = [{"cidr": "169.254.64.0/18", "gateway_ip": "169.254.64.1"}]
    assert parse(with_value(COMPUTE, ("router", "_interfaces", 0, "extra_subnets"), extra)).omitted == ()
    with pytest.raises(DocumentError) as caught:
        parse(with_value(COMPUTE, (*GATEWAY, "extra_subnets"), extra))
    assert caught.value.path == "$.router.gw_port.extra_subnets[0].cidr"


ROUTES = ("router", "routes")


@pytest.mark.parametrize(
    ("destination", "nexthop", "reason"),
    [
        ("172.16.0.0/16", "10.1.0.255", "the broadcast address of 10.1.0.0/24"),
        ("172.16.0.0/16", "10.1.0.0", "the network address of 10.1.0.0/24"),
        ("172.16.0.0/16", "10.1.0.1", "that of $.router._interfaces[0]"),
        ("172.16.0.0/16", "203.0.113.255", "the broadcast address of 203.0.113.0/24"),
        ("172.16.0.0/16", "203.0.113.10", "that of $.router.gw_port"),
        ("172.16.0.0/16", "2001:db8::1", "not of the family of 172.16.0.0/16"),
        ("2001:db8::/32", "10.1.0.5", "not of the family of 2001:db8::/32"),
        ("172.16.0.0/16", "224.0.0.1", "multicast"),
        ("0.0.0.0/0", "10.1.0.255", "the broadcast address of 10.1.0.0/24"),
    ],
)
def test_next_hop_that_cannot_be_is_left_out_alone(destination: str, nexthop: str, reason: str) -> None:
    good = {"destination": "172.17.0.0/16", "nexthop": "10.1.0.9"}
    router = parse(with_value(COMPUTE, ROUTES, [good, {"destination": destination, "nexthop": nexthop}]))
    assert [str(route.nexthop) for route in router.routes] == ["10.1.0.9"]
    (omission,) = router.omitted
    assert (omission.path, omission.value) == ("$.router.routes[1].nexthop", f'"{nexthop}"')
    assert reason in omission.expected


def test_next_hops_of_small_subnets_and_first_ipv6_addresses_are_built() -> None:
    source = with_value(DUAL, (*GATEWAY, "subnets", 0, "cidr"), "2001:db8:e::/64")
    routes = [{"destination": "2001:db8:77::/64", "nexthop": "2001:db8:e::"}]
    assert not [one for one in parse(hostile.replaced(source, ROUTES, routes)).omitted if "routes" in one.path]
    source = with_value(COMPUTE, ("router", "_interfaces", 0, "subnets", 0, "cidr"), "192.0.2.64/31")
    source = hostile.replaced(source, ("router", "_interfaces", 0, "fixed_ips", 0, "ip_address"), "192.0.2.64")
    source = hostile.replaced(source, ("router", "_interfaces", 0, "fixed_ips", 0, "prefixlen"), 31)
    routes = [{"destination": "172.16.0.0/16", "nexthop": "192.0.2.65"}]
    assert len(parse(hostile.replaced(source, ROUTES, routes)).routes) == 1


@pytest.mark.parametrize("gateway", ["203.0.113.0", "203.0.113.255"])
@pytest.mark.parametrize("port", [GATEWAY, AGENT_GATEWAY], ids=["gateway port", "agent gateway port"])
def test_gateway_that_no_host_can_be_is_left_out(port: hostile.Place, gateway: str) -> None:
    router = parse(with_value(COMPUTE, (*port, "subnets", 0, "gateway_ip"), gateway))
    (omission,) = router.omitted
    assert omission.path.endswith(".subnets[0].gateway_ip")
    assert omission.value == f'"{gateway}"'
    assert len(router.floating_ips) == 1


@pytest.mark.parametrize(
    "port", [GATEWAY, ("router", "_interfaces", 0), ("router", "_snat_router_interfaces", 0), AGENT_GATEWAY]
)
def test_ipv6_addresses_below_1280_bytes_are_left_out(port: hostile.Place) -> None:
    source = document(DUAL)
    before = parse(with_value(DUAL, (*port, "mtu"), 1280))
    router = parse(hostile.replaced(source, (*port, "mtu"), 1279))
    has_ipv6 = any(":" in fixed["ip_address"] for fixed in hostile.at(source, port)["fixed_ips"])
    assert [omission.value for omission in router.omitted] == (["1279"] if has_ipv6 else [])
    assert not has_ipv6 or router.omitted[0].path.endswith(".mtu")
    assert "2001:" in router.omitted[0].expected if has_ipv6 else True
    assert before.omitted == ()
    assert len(router.floating_ips) == len(before.floating_ips)


@pytest.mark.parametrize("name", [DUAL, "h_dual_stack-compute1"])
def test_nothing_of_ipv6_is_asked_of_a_device_below_1280_bytes(name: str) -> None:
    """Addresses, routes, rules, neighbours and advertisements follow the addresses that are left out."""
    source = document(name)
    for key in ("_interfaces", "_snat_router_interfaces", "_floatingip_agent_interfaces"):
        for port in source["router"].get(key, []):
            port["mtu"] = 1200
    source["router"]["gw_port"]["mtu"] = 1200
    router = parse(source)
    allocations = HostAllocations(new_fip_pair(router.id, PAIRS[0]), ())
    state = desired_router(make_view(router, HostSettings(name[-8:], AgentMode.DVR_SNAT)), allocations)
    namespaces = [one for one in (state.qrouter, state.base, state.slice, state.snat) if one is not None]
    for namespace in namespaces:
        assert not [one for one in namespace.addresses if ":" in one.cidr]
        assert not [one for one in namespace.routes if ":" in one.text.split(" dev ")[0]]
        assert not [one for one in namespace.rules - KERNEL_RULES if one.family == 6]
        assert not [one for one in namespace.neighbours if ":" in one.dst]
    assert radvd_text(router, 30, 100) is None


def test_desired_state_carries_what_is_left_out() -> None:
    router = parse(with_value(COMPUTE, FIP_ADDRESS, "203.0.113.1"))
    settings = HostSettings("compute2", AgentMode.DVR)
    state = desired_router(make_view(router, settings), HostAllocations(new_fip_pair(router.id, PAIRS[0]), ()))
    assert state.omitted == (router.omitted[0].text,)
    assert state.slice is not None
    assert not any("203.0.113.1/32" in route.text for route in state.slice.routes)
    without = copy.deepcopy(document(COMPUTE))
    without["router"]["_floatingips"] = []
    same = desired_router(make_view(parse(without), settings), HostAllocations(new_fip_pair(router.id, PAIRS[0]), ()))
    assert (state.qrouter, state.slice, state.base) == (same.qrouter, same.slice, same.base)


def test_order_of_the_document_does_not_matter() -> None:
    source = with_value(COMPUTE, FIP_ADDRESS, "203.0.113.1")
    second = {**hostile.at(source, FIP), "id": hostile.UUID, "floating_ip_address": "203.0.113.0"}
    source["router"]["_floatingips"].append(second)
    one = parse(source)
    source["router"]["_floatingips"].reverse()
    other = parse(json.loads(json.dumps(source)))
    assert one.omitted_floating_ips == other.omitted_floating_ips
    assert {omission.value for omission in one.omitted} == {omission.value for omission in other.omitted}


@pytest.mark.parametrize("name", [DUAL, "h_dual_stack-compute1"])
def test_a_kernel_without_ipv6_is_asked_for_nothing_of_it(name: str) -> None:
    router = parse(document(name))
    allocations = HostAllocations(new_fip_pair(router.id, PAIRS[0]), ())
    view = make_view(router, HostSettings(name[-8:], AgentMode.DVR_SNAT, ipv6=False))
    state = desired_router(view, allocations)
    assert any("this kernel has no IPv6" in text and "2001:db8" in text for text in state.omitted)
    for namespace in [one for one in (state.qrouter, state.base, state.slice, state.snat) if one is not None]:
        assert not [one for one in namespace.addresses if ":" in one.cidr]
        assert not [one for one in namespace.routes if ":" in one.dst]
        assert not [one for one in namespace.rules if one.family == 6]
        assert not [one for one in namespace.neighbours if ":" in one.dst]
        assert not [one for one in namespace.sysctls if "ipv6" in one.key]
        assert not [one for one in namespace.tables if one.family == 6]
        assert not [one for one in namespace.announcements if ":" in one.address]
    assert radvd_text(advertising(router, frozenset(), absent=True), 30, 100) is None


def test_a_router_of_ipv4_only_loses_nothing_without_ipv6() -> None:
    router = parse(document(COMPUTE))
    view = make_view(router, HostSettings("compute2", AgentMode.DVR, ipv6=False))
    assert desired_router(view, HostAllocations(new_fip_pair(router.id, PAIRS[0]), ())).omitted == ()
