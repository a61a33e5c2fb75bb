"""Second routers whose documents claim, each in one way, what belongs to a first one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from dvr_agent.model.router import Router, RouterPort
from tests.support.small_routers import fip, make_router

SHARED = "203.0.113.77"
"""Floating IP of the first router."""


def with_fip(router: Router, address: str = SHARED) -> Router:
    fixed = str(router.interfaces[0].fixed_ips[0].address + 8)
    return replace(router, floating_ips=(*router.floating_ips, fip(address, fixed)))


def other_id(found: RouterPort, like: RouterPort) -> RouterPort:
    """The port with an id that begins as another's, so that its devices have the other's names."""
    return replace(found, id=like.id[:11] + found.id[11:])


def first() -> Router:
    """The router that has it all."""
    return with_fip(make_router("one", 1))


def cases() -> Iterator[tuple[str, Router, str]]:
    """Yield (name, the second router, key in the text) for each way in which it claims what the first one has."""
    one, two = with_fip(make_router("one", 1)), make_router("two", 2)
    assert one.gateway is not None
    assert two.gateway is not None
    inside, outside = two.interfaces[0], two.gateway
    yield "fip", with_fip(two), "floating_ip_address"
    yield "fip is gateway", with_fip(two, "203.0.113.1"), "floating_ip_address"
    yield "gateway", replace(two, gateway=replace(outside, fixed_ips=one.gateway.fixed_ips)), "gw_port.fixed_ips"
    taken = replace(outside.fixed_ips[0], address=ip_address(SHARED))
    yield "gateway is fip", replace(two, gateway=replace(outside, fixed_ips=(taken,))), "gw_port.fixed_ips"
    yield "port id", replace(two, interfaces=(replace(inside, id=one.interfaces[0].id),)), "_interfaces"
    yield "port stem", replace(two, interfaces=(other_id(inside, one.interfaces[0]),)), "_interfaces"
    yield "gateway id", replace(two, gateway=replace(outside, id=one.gateway.id)), "gw_port.id"
    yield "gateway is port", replace(two, gateway=other_id(outside, one.interfaces[0])), "gw_port.id"
    csnat = other_id(two.snat_interfaces[0], one.gateway)
    yield "csnat is gateway", replace(two, snat_interfaces=(csnat,)), "_snat_router_interfaces"
    yield "gateway mac", replace(two, gateway=replace(outside, mac=one.gateway.mac)), "gw_port.mac_address"
    same = replace(inside, network_id=one.interfaces[0].network_id, fixed_ips=one.interfaces[0].fixed_ips)
    yield "address inside", replace(two, interfaces=(same,)), "_interfaces"
    network = one.interfaces[0].network_id[:11] + inside.network_id[11:]
    yield "network stem", replace(two, interfaces=(replace(inside, network_id=network),)), "network_id"
    yield "router stem", replace(two, id=one.id[:10] + two.id[10:]), "$.id"
    agent = replace(two.agent_gateways[0], id=one.interfaces[0].id, network_id="cccccccc-0000-4000-8000-000000000001")
    moved = replace(outside, network_id=agent.network_id)
    yield "fg is port", replace(two, gateway=moved, agent_gateways=(agent,)), "_floatingip_agent_interfaces"


CASES = {name: (router, key) for name, router, key in cases()}
