"""Router documents that are good: every recorded one, optional keys, canonical values, order that does not matter."""

from __future__ import annotations

import copy
import json
import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvr_agent.model.parse import parse_document, peek_router_id
from dvr_agent.model.router import NEEDS_BINDING_HOST, RaMode, Router, Subnet
from tests.support import hostile
from tests.support.recorded_documents import RECORDED, document, parse


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_document_keeps_every_port_and_floating_ip(name: str) -> None:
    source = document(name)["router"]
    router = parse_document(RECORDED[name], name)
    assert router.id == source["id"]
    assert router.name == source["name"]
    assert router.ha == source["ha"]
    assert router.distributed == source["distributed"]
    assert router.gateway_host == source.get("gw_port_host")
    assert [port.id for port in router.interfaces] == sorted(port["id"] for port in source["_interfaces"])
    for ports, key in (
        (router.snat_interfaces, "_snat_router_interfaces"),
        (router.agent_gateways, "_floatingip_agent_interfaces"),
    ):
        assert [port.id for port in ports] == sorted(port["id"] for port in source.get(key, []))
    assert (router.gateway.id if router.gateway else None) == source.get("gw_port", {}).get("id")
    assert {str(fip.address) for fip in router.floating_ips} == {
        fip["floating_ip_address"] for fip in source.get("_floatingips", [])
    }
    listed = document(name)["ports_by_subnet"]
    assert {subnet: len(ports) for subnet, ports in router.ports_by_subnet} == {k: len(v) for k, v in listed.items()}


@pytest.mark.parametrize("name", RECORDED)
def test_router_without_envelope_is_the_same_without_neighbour_ports(name: str) -> None:
    bare = parse(document(name)["router"])
    assert bare.ports_by_subnet == ()
    assert bare == parse({"router": document(name)["router"]})


def test_values_are_typed() -> None:
    router = parse(document("h_dual_stack-compute2"))
    assert router.gateway is not None
    assert [fixed.cidr for fixed in router.gateway.fixed_ips] == ["2001:db8:e::264/64", "203.0.113.169/24"]
    assert {subnet.cidr for subnet in router.gateway.subnets} == {
        IPv4Network("203.0.113.0/24"),
        IPv6Network("2001:db8:e::/64"),
    }
    assert {subnet.gateway_ip for subnet in router.gateway.subnets} == {
        IPv4Address("203.0.113.1"),
        IPv6Address("2001:db8:e::"),
    }
    v4 = next(port for port in router.interfaces if port.fixed_ips[0].address.version == 4)
    assert v4.extra_subnets == (IPv6Network("2001:db8:1::/64"),)
    assert (v4.mac, v4.mtu, v4.host) == ("fa:16:3e:70:65:db", 1450, "")
    (fip,) = router.floating_ips
    assert (fip.address, fip.fixed_address, fip.host) == (
        IPv4Address("203.0.113.27"),
        IPv4Address("10.1.0.116"),
        "compute2",
    )


def test_second_gateway_address_without_prefix_length_is_a_host_address() -> None:
    gateway = parse(document("p_multi_fip-compute1")).gateway
    assert gateway is not None
    assert [fixed.cidr for fixed in gateway.fixed_ips] == ["203.0.113.216/24", "203.0.113.249/32"]


def test_unbound_floating_ip_is_bound_to_the_snat_namespace() -> None:
    (fip,) = parse(document("c_fip_unbound_port-compute1")).floating_ips
    assert fip.snat_bound
    assert fip.host == NEEDS_BINDING_HOST
    assert fip.dest_host is None


def test_address_scopes_of_ports_and_floating_ips() -> None:
    router = parse(document("i_address_scope-compute2"))
    source = document("i_address_scope-compute2")["router"]
    assert router.gateway is not None
    assert router.gateway.scope4 == source["gw_port"]["address_scopes"]["4"] is not None
    assert router.gateway.scope6 is None
    scopes = {fip["floating_ip_address"]: fip["fixed_ip_address_scope"] for fip in source["_floatingips"]}
    assert {str(fip.address): fip.fixed_scope for fip in router.floating_ips} == scopes


def test_extra_routes_are_networks_and_addresses() -> None:
    routes = parse(document("g_extra_routes-compute1")).routes
    assert [(route.destination, route.nexthop) for route in routes] == [
        (IPv4Network("172.16.0.0/16"), IPv4Address("10.1.0.163")),
        (IPv4Network("198.51.100.0/24"), IPv4Address("203.0.113.250")),
    ]


def test_the_same_route_twice_is_one() -> None:
    source = document("g_extra_routes-compute1")
    source["router"]["routes"] *= 2
    assert len(parse(source).routes) == 2


def test_allowed_address_pair_of_two_ports_is_kept_for_both() -> None:
    ((_, ports),) = parse(document("l_allowed_address_pair-compute1")).ports_by_subnet
    pairs = [pair for port in ports for pair in port.pairs]
    assert len(pairs) == 2
    assert {network for _, network in pairs} == {IPv4Network("10.1.0.100/32")}
    assert {mac for mac, _ in pairs} == {port.mac for port in ports if port.pairs}


def pairs_of(*pairs: dict[str, Any]) -> Any:
    source = document("a_dvr_compute-compute2")
    (ports,) = source["ports_by_subnet"].values()
    ports[0]["allowed_address_pairs"] = list(pairs)
    port = next(p for _, found in parse(source).ports_by_subnet for p in found if p.id == ports[0]["id"])
    return port.mac, port.pairs


def test_pair_without_mac_has_that_of_its_port() -> None:
    mac, pairs = pairs_of({"ip_address": "10.1.0.77"}, {"ip_address": "2001:db8::/32", "mac_address": None})
    assert pairs == ((mac, IPv4Network("10.1.0.77/32")), (mac, IPv6Network("2001:db8::/32")))


def test_pair_may_be_a_network_with_host_bits_since_users_write_them() -> None:
    _, pairs = pairs_of({"ip_address": "10.1.0.77/24"}, {"ip_address": "0.0.0.0/0"})
    assert {network for _, network in pairs} == {IPv4Network("10.1.0.0/24"), IPv4Network("0.0.0.0/0")}


@pytest.mark.parametrize(
    "pair",
    [
        {"ip_address": "224.0.0.18"},
        {"ip_address": "::ffff:10.0.0.1"},
        {"ip_address": "::1"},
        {"ip_address": "10.1.0.78", "mac_address": "01:00:5e:00:00:12"},
        {"ip_address": "10.1.0.78", "mac_address": "00:00:00:00:00:00"},
    ],
)
def test_pair_that_can_be_no_neighbour_is_left_out(pair: dict[str, Any]) -> None:
    assert pairs_of(pair)[1] == ()


def test_little_is_required() -> None:
    uuid = hostile.UUID
    assert parse({"id": uuid, "distributed": True}) == Router(id=uuid)
    port = {"id": uuid, "network_id": uuid, "mac_address": "fa:16:3e:00:00:01", "mtu": 1500, "fixed_ips": []}
    (found,) = parse({"id": uuid, "distributed": True, "_interfaces": [port]}).interfaces
    assert (found.subnets, found.extra_subnets, found.scope4, found.host) == ((), (), None, "")
    assert found.admin_state_up


def test_null_gateway_is_no_gateway() -> None:
    assert parse({"id": hostile.UUID, "distributed": True, "gw_port": None, "gw_port_host": None}).gateway is None


def test_ids_and_macs_become_lower_case() -> None:
    source = document("a_dvr_compute-compute2")
    loud = copy.deepcopy(source)
    for port in loud["router"]["_interfaces"]:
        port["id"], port["mac_address"] = port["id"].upper(), port["mac_address"].upper()
    loud["router"]["id"] = loud["router"]["id"].upper()
    assert parse(loud) == parse(source)


def test_unknown_keys_are_ignored_everywhere() -> None:
    source = document("g_extra_routes-compute2")
    expected = parse(source)

    def sprinkle(value: Any) -> None:
        for item in list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
            sprinkle(item)
        if isinstance(value, dict) and value is not source["ports_by_subnet"]:
            value["x-unknown"] = {"deep": [[[1e300, None]]]}

    sprinkle(source)
    assert parse(source) == expected


def test_floating_ip_of_no_port_is_left_out() -> None:
    source = document("a_dvr_compute-compute2")
    (fip,) = source["router"]["_floatingips"]
    source["router"]["_floatingips"].append({**fip, "id": hostile.UUID, "fixed_ip_address": None})
    assert [found.id for found in parse(source).floating_ips] == [fip["id"]]


def subnet_with(version: int = 6, **keys: Any) -> Subnet:
    """The internal subnet of that family of the router with both, with other values."""
    value = document("h_dual_stack-compute1")
    subnets = [subnet for port in value["router"]["_interfaces"] for subnet in port["subnets"]]
    (changed,) = (subnet for subnet in subnets if (":" in subnet["cidr"]) == (version == 6))
    changed.update(keys)
    (found,) = (s for port in parse(value).interfaces for s in port.subnets if s.cidr.version == version)
    return found


def test_recorded_router_advertises_for_its_ipv6_subnet_only() -> None:
    router = parse_document(RECORDED["h_dual_stack-compute1"], "h")
    modes = {subnet.cidr.version: subnet.ra_mode for port in router.interfaces for subnet in port.subnets}
    assert modes == {4: None, 6: RaMode.SLAAC}


@pytest.mark.parametrize("mode", [*RaMode, None])
def test_mode_of_router_advertisements(mode: RaMode | None) -> None:
    assert subnet_with(ipv6_ra_mode=mode.value if mode else None).ra_mode is mode


def test_ipv6_resolvers_are_kept_in_their_order() -> None:
    subnet = subnet_with(dns_nameservers=["2001:DB8::9", "192.0.2.53", "2001:db8::1"])
    assert subnet.nameservers == (IPv6Address("2001:db8::9"), IPv6Address("2001:db8::1"))
    assert subnet_with(dns_nameservers=None).nameservers == ()


def test_keys_for_router_advertisements_do_not_matter_to_ipv4() -> None:
    subnet = subnet_with(4, ipv6_ra_mode="x", dns_nameservers=["2001:db8::1", 7])
    assert (subnet.ra_mode, subnet.nameservers) == (None, ())


def test_names_cannot_forge_log_lines() -> None:
    source = document("e_no_gateway-compute1")
    source["router"]["name"] = "a\nb\x1b[2J\u2028\u202e\x00\x85é" + "x" * 5000
    name = parse(source).name
    assert name.startswith("a\\nb\\x1b[2J\\u2028\\u202e\\x00\\x85éxxx")
    assert name.isprintable()
    assert len(name) == 255


def test_of_a_key_that_is_there_twice_the_last_value_holds() -> None:
    text = f'{{"id": 7, "id": "{hostile.UUID}", "distributed": false, "distributed": true}}'
    assert parse_document(text.encode(), "twice.json") == Router(id=hostile.UUID)


def shuffle(value: Any, rng: random.Random) -> None:
    """Shuffle every list of a document but the fixed IPs of the router's ports, whose order counts; and the keys."""
    if isinstance(value, dict):
        entries = list(value.items())
        rng.shuffle(entries)
        value.clear()
        value.update(entries)
        for key, item in entries:
            ordered = key == "fixed_ips" and "mtu" in value
            for inner in item if ordered else ():
                shuffle(inner, rng)
            if not ordered:
                shuffle(item, rng)
    elif isinstance(value, list):
        rng.shuffle(value)
        for item in value:
            shuffle(item, rng)


@settings(deadline=None)
@given(name=st.sampled_from(sorted(RECORDED)), rng=st.randoms(use_true_random=False))
def test_order_in_the_document_does_not_matter(name: str, rng: random.Random) -> None:
    shuffled = document(name)
    shuffle(shuffled, rng)
    assert parse(shuffled) == parse_document(RECORDED[name], name)
    assert hash(parse(shuffled)) == hash(parse_document(RECORDED[name], name))


def test_order_of_gateway_addresses_is_kept() -> None:
    source = document("p_multi_fip-compute1")
    before = parse(source).gateway
    source["router"]["gw_port"]["fixed_ips"].reverse()
    after = parse(source).gateway
    assert before is not None
    assert after is not None
    assert after.fixed_ips == before.fixed_ips[::-1]


@pytest.mark.parametrize("name", RECORDED)
def test_peek_finds_the_id_of_a_half_written_document_or_nothing(name: str) -> None:
    data = RECORDED[name]
    router_id = document(name)["router"]["id"]
    assert peek_router_id(data) == router_id
    bare = json.dumps(document(name)["router"], indent=1).encode()
    assert peek_router_id(bare) == router_id
    found = [peek_router_id(whole[:length]) for whole in (data, bare) for length in range(0, len(whole), 61)]
    assert set(found) <= {None, router_id}
    assert peek_router_id(data[:-3]) == router_id


def test_peek_finds_the_id_of_a_document_with_bad_values() -> None:
    source = document("a_dvr_compute-compute2")
    source["router"]["_interfaces"] = 7
    assert peek_router_id(json.dumps(source).encode()) == source["router"]["id"]


def test_peek_takes_no_id_of_another_object() -> None:
    text = b'{"x": {"id": "%b"}, "router": {"gw_port": {"id": "%b"}, "y": [{"id": "%b"}' % (
        (hostile.UUID.encode(),) * 3
    )
    assert peek_router_id(text) is None


def test_host_bits_of_an_extra_route_are_dropped_since_neutron_keeps_what_tenants_wrote() -> None:
    source = document("a_dvr_compute-compute2")
    source["router"]["routes"] = [{"destination": "192.168.1.5/24", "nexthop": "10.1.0.9"}]
    assert [str(route.destination) for route in parse(source).routes] == ["192.168.1.0/24"]
