"""Reads the router's ``routes``, and omits those whose next hop can be none; the rest of the router is built.

Neutron accepts from every tenant what no kernel does: next hops that are the broadcast address of a subnet, or of the
other family than the destination; and a next hop may become an address of the router after the route was set.
``parse`` calls this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from dvr_agent.model import values
from dvr_agent.model.checks import PlacedPort
from dvr_agent.model.external import addresses_of, omission, owner_text, why_no_host
from dvr_agent.model.ports import network_order
from dvr_agent.model.reader import MISSING, At, array, mapping
from dvr_agent.model.router import ExtraRoute, IpAddress, IpNetwork, Omission, RouterPort


class NextHopRules:
    """Decides which addresses can be next hops of a router's extra routes.

    :param ports: all ports of the router, as the document lists them
    """

    def __init__(self, ports: Iterable[PlacedPort]) -> None:
        self._ports = list(ports)

    @cached_property
    def _owners(self) -> dict[IpAddress, At]:
        return addresses_of(self._ports)

    @cached_property
    def _subnets(self) -> list[IpNetwork]:
        # IPv6 has no broadcast, and the first address of a subnet may be that of another router.
        return sorted({net for one in self._ports for net in _on_link(one.port) if net.version == 4}, key=str)

    def why_not(self, nexthop: IpAddress, destination: IpNetwork) -> str:
        """Return why the address can be no next hop for the destination; empty if it can."""
        if nexthop.version != destination.version:
            return f"not of the family of {destination}"
        reason = values.why_unusable(nexthop) or owner_text(self._owners, nexthop)
        return reason or why_no_host(nexthop, (net for net in self._subnets if nexthop in net))


def _on_link(port: RouterPort) -> set[IpNetwork]:
    """Return the subnets that are on-link by a port: listed ones, and those of its addresses and prefix lengths."""
    listed = {subnet.cidr for subnet in port.subnets}
    return listed | {fixed.network for fixed in port.fixed_ips}


def extra_routes(value: object, at: At, rules: NextHopRules) -> tuple[tuple[ExtraRoute, ...], tuple[Omission, ...]]:
    """Read the extra routes, and return the omitted ones; duplicates become one.

    :raises Invalid: a value is not what it has to be
    """
    found: set[ExtraRoute] = set()
    omitted: list[Omission] = []
    for index, item in enumerate(array(value, at)):
        here: At = (at, index)
        route = _extra_route(mapping(item, here), here)
        reason = rules.why_not(route.nexthop, route.destination)
        if reason:
            expected = f"a next hop that a host can have, for {route.destination}; this one is {reason}"
            omitted.append(omission((here, "nexthop"), str(route.nexthop), expected))
        else:
            found.add(route)
    ordered = sorted(found, key=lambda route: (network_order(route.destination), int(route.nexthop)))
    return tuple(ordered), tuple(omitted)


def _extra_route(entry: Mapping[str, Any], at: At) -> ExtraRoute:
    return ExtraRoute(
        values.network(entry.get("destination", MISSING), (at, "destination")),
        values.address(entry.get("nexthop", MISSING), (at, "nexthop")),
    )
