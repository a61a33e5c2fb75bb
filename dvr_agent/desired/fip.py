"""The namespace of an external network, ``fip-<network id>``, shared by all routers (``docs/dataplane.md``, "fip").

The namespace is a sum of slices: a base slice for the agent gateway port, and one slice per router.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPV4LENGTH
from itertools import chain

from dvr_agent.desired import names, ndp_proxy
from dvr_agent.desired.common import BASE_SYSCTLS, NONLOCAL_BIND, port_addresses, port_link
from dvr_agent.desired.host_allocations import FipPair
from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.desired.routes import default_routes, extra_routes, gateway_routes, leg, onlink_routes
from dvr_agent.desired.table_ids import fip_index
from dvr_agent.model.router import ExtraRoute, RouterPort
from dvr_agent.state.address import Address, link_local
from dvr_agent.state.filter import FilterRule, NoTrack
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.itemwise import frozen, itemwise
from dvr_agent.state.link import Link, VethPeer
from dvr_agent.state.namespace import Announcement, NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import DEFAULT_V4, MAIN_TABLE, Hop, Route, make_route
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sysctl import Sysctl

_NO_PROXIES = frozenset[ProxyNeighbour]()
_ONE_ADDRESS = f"/{IPV4LENGTH}"


@lru_cache(maxsize=64)
def base_state(port: RouterPort, proxies: bool = False) -> NamespaceState:
    """Compute the part that all routers share: the agent gateway port.  Remembered, since all documents list that port.

    :param proxies: NDP proxies are served on this host
    """
    device = names.device(names.AGENT_GATEWAY, port.id)
    addresses = port_addresses(device, port)
    sysctls = (
        *BASE_SYSCTLS,
        NONLOCAL_BIND,
        Sysctl(f"ipv4/conf/{device}/proxy_arp", "1"),
        Sysctl(f"ipv4/neigh/{device}/proxy_delay", "1"),
        *(ndp_proxy.device_parameters(device, port.mtu, True) if proxies else ()),
    )
    return NamespaceState(
        names.FIP + port.network_id,
        Ownership(devices=frozenset({device}), main_only=True, kernel_rules=True),
        links=frozenset({port_link(device, port)}),
        addresses=frozenset(addresses),
        routes=frozenset((*gateway_routes(device, port), *_onlink_routes(device, port))),
        rules=KERNEL_RULES,
        sysctls=frozenset(sysctls),
        tables=(make_table(4, "raw", {"PREROUTING": (FilterRule(NoTrack()),)}),),
        announcements=tuple(Announcement(device, address.ip, address) for address in addresses),
    )


def _onlink_routes(device: str, port: RouterPort) -> list[Route]:
    """Make on-link routes for other subnets of the external network.

    Excludes subnets of one IPv4 address: a floating IP's route has that destination.
    """
    return [route for route in onlink_routes([(device, port)]) if not route.dst.endswith(_ONE_ADDRESS)]


def slice_ownership(router_id: str, pair: FipPair | None) -> Ownership:
    """Return what one router owns in a fip namespace: its ``fpr-`` device, its rule and its routing table.

    Of the routes by its device it owns those in the main table only: to read others the kernel would walk all tables.
    """
    tables = frozenset({fip_index(pair.subnet.fip_address)}) if pair else frozenset[int]()
    devices = frozenset({names.device(names.FIP_TO_ROUTER, router_id)})
    return Ownership(devices=devices, rules=RuleOwner.BY_IIF, tables=tables, main_only=True)


@itemwise
def _inward_routes(addresses: Sequence[str], to_router: Hop) -> list[Route]:
    hops = (to_router,)
    return [Route(f"{address}/32", MAIN_TABLE, hops) for address in addresses]


@itemwise
def _announced(routes: Sequence[Route], device: str, defaults: tuple[Route, ...]) -> list[list[Announcement]]:
    """Announce floating IPs by the agent gateway port, whose MAC address answers for them: anew when that changes."""
    return [
        [Announcement(device, route.dst.removesuffix("/32"), because) for because in (route, *defaults)]
        for route in routes
    ]


def slice_state(
    view: HostView, pair: FipPair, port: RouterPort, mtu: int, conceded: Collection[str] = ()
) -> tuple[NamespaceState, set[ExtraRoute]]:
    """Compute one router's part, and the extra routes that it contains.

    :param port: the agent gateway port
    :param mtu: of the pair: that of the gateway port
    :param conceded: subnets in the external address scope whose route belongs to another router
    """
    fpr = view.fpr
    fg = names.device(names.AGENT_GATEWAY, port.id)
    index = fip_index(pair.subnet.fip_address)
    to_router = Hop(pair.subnet.router_address, fpr)
    extra, used = extra_routes(view.router.routes, [leg(fg, port)], index, default=False)
    fips = _inward_routes.each(view.router.id, view.local_addresses, to_router)
    outside = default_routes(fg, port, index)
    announced = tuple(route for route in outside if route.dst == DEFAULT_V4)
    proxied = ndp_proxy.local_addresses(view)
    proxies = ndp_proxy.proxies(proxied, fg)
    rules = [Rule(family, index, index, None, fpr) for family in ((4, 6) if proxied else (4,))]
    # A subnet that is on-link by the agent gateway port, for all routers, is not routed to one of them.
    taken = {*conceded, *(str(subnet.cidr) for _, subnet in port_subnets(port)), *map(str, port.extra_subnets)}
    routes = (
        *outside,
        *extra,
        *fips,
        *ndp_proxy.inward_routes(proxied, link_local(pair.rfp_mac), fpr),
        *(make_route(subnet, MAIN_TABLE, to_router) for subnet in view.same_scope_subnets if subnet not in taken),
    )
    ownership, proxied_networks = slice_ownership(view.router.id, pair), ndp_proxy.proxied_networks(view)
    state = NamespaceState(
        names.FIP + port.network_id,
        replace(ownership, proxied=proxied_networks) if proxied_networks else ownership,
        links=frozenset({Link(fpr, pair.fpr_mac, mtu, True, VethPeer(view.qrouter, view.rfp))}),
        addresses=frozenset({Address(fpr, f"{pair.subnet.fip_address}/31")}),
        routes=frozen(view.router.id, "slice", routes),
        rules=frozenset(rules),
        neighbours=frozenset({Neighbour(pair.subnet.router_address, fpr, pair.rfp_mac)}),
        proxy_neighbours=frozenset(proxies) if proxies else _NO_PROXIES,
        announcements=(
            *chain.from_iterable(_announced.each(view.router.id, fips, fg, announced)),
            *(Announcement(fg, proxy.dst, proxy) for proxy in proxies),
        ),
    )
    return state, used


def empty_slice(namespace: str, router_id: str, pair: FipPair | None) -> NamespaceState:
    """Return the empty slice of a router that has left a fip namespace: its objects there are stale."""
    return NamespaceState(namespace, slice_ownership(router_id, pair))
