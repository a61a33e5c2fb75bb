"""Conditions under which Linux refuses a route (net/ipv4/fib_semantics.c, net/ipv6/route.c)."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable

from dvr_agent.state.address import Address
from dvr_agent.state.route import MAIN_TABLE, Hop, Route

LINK_LOCAL = ipaddress.ip_network("fe80::/64")


def is_v6(text: str) -> bool:
    """True for an IPv6 address or network."""
    return ":" in text


def refusal(route: Route, up: dict[str, bool], addresses: Iterable[Address], routes: Iterable[Route]) -> int:
    """Return the errno with which the kernel refuses the route, 0 if it accepts it.

    :param up: device → whether it is up
    :param addresses: of the namespace
    :param routes: of the namespace
    """
    for hop in route.hops:
        if hop.device not in up:
            return errno.ENODEV
        # The gateway comes first; the subnets of a device that is down are gone.
        subnets = addresses if up[hop.device] else ()
        if hop.gateway and not hop.onlink and not _reachable(route.table, hop, subnets, routes):
            return errno.EHOSTUNREACH if is_v6(hop.gateway) else errno.ENETUNREACH
        if not up[hop.device]:
            return errno.ENETDOWN
    return 0


def _reachable(table: int, hop: Hop, addresses: Iterable[Address], routes: Iterable[Route]) -> bool:
    """True if the gateway is a neighbour on the hop's device: in a subnet of it, or by an on-link route."""
    gateway = ipaddress.ip_address(hop.gateway or "")
    if gateway in LINK_LOCAL:
        return True
    subnets = [address.cidr for address in addresses if address.device == hop.device]
    subnets += [
        route.dst
        for route in routes
        if route.table in (table, MAIN_TABLE)
        and any(one.device == hop.device and one.gateway is None for one in route.hops)
    ]
    return any(gateway in ipaddress.ip_network(subnet, strict=False) for subnet in subnets)


def without_device(route: Route, device: str, unregistered: bool) -> Route | None:
    """Return a route without the hops by a device that is down or removed; None: the route goes.

    A multipath route survives while one of its hops is alive, except that IPv4 drops it altogether when one of its
    devices is unregistered (fib_sync_down_dev).
    """
    left = tuple(hop for hop in route.hops if hop.device != device)
    if len(left) == len(route.hops):
        return route
    if not left or (unregistered and not is_v6(route.dst)):
        return None
    return route._replace(hops=left) if unregistered else route
