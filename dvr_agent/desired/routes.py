"""Make the routes that follow from a router's ``routes`` and from its ports; used by ``qrouter``, ``fip`` and ``snat``.

An entry of ``routes`` belongs to every namespace with a leg whose subnets contain its next hop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dvr_agent.desired.host_view import port_subnets
from dvr_agent.model.ip import network_of
from dvr_agent.model.router import IPV6_MIN_MTU, ExtraRoute, IpNetwork, RouterPort
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, MAIN_TABLE, Hop, Route, make_route


@dataclass(frozen=True, slots=True)
class Leg:
    """A device of the router and the subnets that are on-link by it."""

    device: str
    subnets: tuple[IpNetwork, ...]
    own: frozenset[str]
    """The router's own addresses on the device, which cannot be next hops."""


def leg(device: str, port: RouterPort) -> Leg:
    """Make the leg of a port."""
    nets = tuple(dict.fromkeys(subnet.cidr for _, subnet in port_subnets(port)))
    return Leg(device, nets, frozenset(str(fixed.address) for fixed in port.fixed_ips))


def extra_routes(
    routes: Iterable[ExtraRoute],
    legs: Iterable[Leg],
    table: int = MAIN_TABLE,
    default: bool = True,
    others: Iterable[Leg] = (),
) -> tuple[list[Route], set[ExtraRoute]]:
    """Compute the extra routes of one table of a namespace, and the entries of the document that they cover.

    Several next hops for one destination make one multipath route.  A destination that is itself an on-link subnet
    is left out: the route would replace the connected one and cut the subnet off.

    :param default: False: default routes are left out, since the namespace has one of its own
    :param others: further legs of the namespace, whose subnets are connected in the same table
    """
    legs = list(legs)
    connected = {str(net) for one in (*legs, *others) for net in one.subnets}
    hops: dict[str, set[Hop]] = {}
    used: set[ExtraRoute] = set()
    for entry in routes:
        found = _leg_of(entry, legs)
        dst = str(entry.destination)
        if found is None or (dst in connected) or (not default and dst in (DEFAULT_V4, DEFAULT_V6)):
            continue
        used.add(entry)
        hops.setdefault(dst, set()).add(Hop(str(entry.nexthop), found.device))
    return [make_route(dst, table, *found) for dst, found in sorted(hops.items())], used


def _leg_of(entry: ExtraRoute, legs: list[Leg]) -> Leg | None:
    """Return the leg by which the next hop of an entry is reached; None without one, or if the hop is the router."""
    for one in legs:
        for net in one.subnets:
            if net.version == entry.nexthop.version and entry.nexthop in net:
                return None if str(entry.nexthop) in one.own else one
    return None


def onlink_routes(ports: Iterable[tuple[str, RouterPort]], inside: Iterable[RouterPort] = ()) -> list[Route]:
    """Make on-link routes for other subnets of the ports' networks (``extra_subnets``) that are not connected here.

    :param ports: (device, port) for which such routes are made
    :param inside: further ports of the namespace, whose subnets are connected
    """
    ports = list(ports)
    connected = {str(fixed.network) for port in (*inside, *(port for _, port in ports)) for fixed in port.fixed_ips}
    found = {
        str(net): device
        for device, port in ports
        for net in port.extra_subnets
        if str(net) not in connected and (net.version == 4 or port.mtu >= IPV6_MIN_MTU)
    }
    return [make_route(net, MAIN_TABLE, Hop(None, device)) for net, device in found.items()]


def default_routes(device: str, port: RouterPort, table: int) -> list[Route]:
    """Make ``default via <subnet gateway>`` for each family, by the first of the port's subnets that has a gateway."""
    routes: dict[str, Route] = {}
    for _, subnet in port_subnets(port):
        if subnet.gateway_ip is not None:
            dst = DEFAULT_V4 if subnet.cidr.version == 4 else DEFAULT_V6
            routes.setdefault(dst, make_route(dst, table, Hop(str(subnet.gateway_ip), device)))
    return list(routes.values())


def has_ipv6_gateway(port: RouterPort) -> bool:
    """True if one of the port's subnets names an IPv6 gateway."""
    return any(subnet.gateway_ip is not None and subnet.gateway_ip.version == 6 for _, subnet in port_subnets(port))


def gateway_routes(device: str, port: RouterPort) -> list[Route]:
    """Make on-link routes to gateways outside their subnet, without which the kernel refuses the default route."""
    outside = {
        subnet.gateway_ip
        for _, subnet in port_subnets(port)
        if subnet.gateway_ip is not None and subnet.gateway_ip not in subnet.cidr
    }
    networks = [network_of(gateway, gateway.max_prefixlen) for gateway in sorted(outside, key=str)]
    return [make_route(str(network), MAIN_TABLE, Hop(None, device)) for network in networks]
