"""Says which objects need which others: data for a job that goes on after the kernel has refused something.

:data:`NEEDS` is the registry: (kind of an object, kind of another) → whether the first needs the second.  Used by
:mod:`dvr_agent.state.missing`; a pair of kinds that is not there is independent.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from dvr_agent.state.address import Address
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import Limit
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KIND_OF
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, MAIN_TABLE, Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl

FORWARDING = ("ipv4/ip_forward", "/proxy_arp")
"""Ends of the parameters without which nothing is forwarded, or nothing comes in."""


def is_needed(item: KernelObject, by: KernelObject) -> bool:
    """True if ``by`` cannot be made, or is of no use, without ``item``; both are of one namespace."""
    needs = NEEDS.get((type(by), type(item)))
    return needs is not None and needs(by, item)


def is_on_every_path(item: KernelObject) -> bool:
    """True if all traffic that enters or leaves by the object's namespace needs it: a way out, a way in, forwarding."""
    if isinstance(item, Route):
        return item.dst == DEFAULT_V4
    if isinstance(item, Sysctl):
        return item.key.endswith(FORWARDING)
    return isinstance(item, Rule) and item.iif is not None


def subject(item: KernelObject) -> str | None:
    """Return the address or network whose traffic an object diverts, without ``/32``; None: it diverts none.

    It is what the objects of a unit (a floating IP) are recognised by, in all namespaces.
    """
    if isinstance(item, Rule):
        return None if item.src is None else item.src.removesuffix("/32")
    if isinstance(item, Route):
        diverts = item.table == MAIN_TABLE and item.hops[0].gateway is not None
        return item.dst.removesuffix("/32") if diverts else None
    return item.ip if isinstance(item, Address) and item.cidr.endswith("/32") else None


def _on_device(item: Any, link: Link) -> bool:
    """Anything on a device, and a rule for what comes in by it, needs the device."""
    return link.name in KIND_OF[type(item)].devices(item)


def _by_address(route: Route, address: Address | KernelRoute) -> bool:
    """A next hop is reached by the subnet of an address on its device, and by the route to that subnet."""
    return any(hop.device == address.device and _contains(address.cidr, hop.gateway) for hop in route.hops)


def _by_onlink_route(route: Route, other: Route) -> bool:
    """A next hop outside of all subnets is reached by an on-link route."""
    onlink = {hop.device for hop in other.hops if hop.gateway is None}
    return any(hop.device in onlink and _contains(other.dst, hop.gateway) for hop in route.hops)


def _leads_to(rule: Rule, route: Route) -> bool:
    """A rule needs the default route of the table that it leads to; without it the traffic would find no way there."""
    default = DEFAULT_V4 if rule.family == 4 else DEFAULT_V6
    return rule.table == route.table != MAIN_TABLE and route.dst == default


def _is_proxied_by(proxy: ProxyNeighbour, route: Route) -> bool:
    """Nobody may be told that an address is here without the route to it."""
    return route.dst == f"{proxy.dst}/128"


def _contains(network: str, gateway: str | None) -> bool:
    return gateway is not None and ip_address(gateway) in ip_network(network, strict=False)


NEEDS: dict[tuple[type, type], Callable[[Any, Any], bool]] = {
    (Address, Link): _on_device,
    (KernelRoute, Link): _on_device,
    (Neighbour, Link): _on_device,
    (ProxyNeighbour, Link): _on_device,
    (ProxyNeighbour, Route): _is_proxied_by,
    (Route, Link): _on_device,
    (Rule, Link): _on_device,
    (Sysctl, Link): _on_device,
    (Limit, Link): _on_device,
    (Route, Address): _by_address,
    (Route, KernelRoute): _by_address,
    (Route, Route): _by_onlink_route,
    (Rule, Route): _leads_to,
}
