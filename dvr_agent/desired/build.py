"""Compute the desired state of all namespaces of a router on this host, and warnings: the entrance of this package."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dvr_agent.desired import ndp_proxy
from dvr_agent.desired.central import central_state
from dvr_agent.desired.conntrack_helpers import helper_omissions
from dvr_agent.desired.features import omitted_texts, unserved_warnings
from dvr_agent.desired.fip import base_state, slice_state
from dvr_agent.desired.ha import refusal, with_virtual_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_view import HostView
from dvr_agent.desired.qos import unlimited_texts
from dvr_agent.desired.qrouter import qrouter_state
from dvr_agent.desired.without_ipv6 import ipv4_part, omission_text
from dvr_agent.model.router import IPV6_MIN_MTU, ExtraRoute, IpAddress
from dvr_agent.plural import count
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.sysctl import Sysctl

LINK_LOCAL_OF_MAC = "0"
"""``addr_gen_mode``: the kernel makes a link-local address of each MAC address (IN6_ADDR_GEN_MODE_EUI64)."""
MAX_SKIPPED = 10
"""Number of ports without neighbour that get a warning each; one more warning counts the rest."""


@dataclass(frozen=True, slots=True)
class DesiredRouter:
    """The desired state of a router on this host.

    :ivar qrouter: of a legacy router, too, which has nothing else
    :ivar base: shared part of the fip namespace, None if the router has no pair to one
    :ivar slice: the router's own part of the fip namespace, None likewise
    :ivar snat: None on hosts where the router has no snat namespace
    :ivar warnings: for the operator; the router is not degraded
    :ivar omitted: objects of the document that are left out, and why: the router is degraded
    """

    qrouter: NamespaceState
    base: NamespaceState | None = None
    slice: NamespaceState | None = None
    snat: NamespaceState | None = None
    warnings: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()

    @property
    def shared_by_hosts(self) -> NamespaceState | None:
        """The namespace of an HA router whose addresses the hosts share by VRRP; None if there is none here."""
        return next((one for one in (self.snat, self.qrouter) if one is not None and one.virtual_router), None)


def desired_router(view: HostView, allocations: HostAllocations) -> DesiredRouter:
    """Compute the desired state of a router.  The order of lists in the document does not matter."""
    view = _with_allocations(view, allocations)
    router = view.router
    central = central_state(view, view.central) if view.central is not None else None
    if central is not None:
        central = with_virtual_router(view, central[0], allocations.is_master), central[1]
    qrouter, in_qrouter = qrouter_state(view, allocations) if router.distributed or central is None else central
    used = set(in_qrouter)
    base = piece = snat = None
    if view.agent_gateway is not None and router.gateway is not None and allocations.pair is not None:
        base = base_state(view.agent_gateway, ndp_proxy.is_served(view))
        pair, mtu = allocations.pair, router.gateway.mtu
        piece, realised = slice_state(view, pair, view.agent_gateway, mtu, allocations.conceded)
        used |= realised
    if central is not None and router.distributed:
        snat, realised = central
        used |= realised
    whole = _with_link_locals(DesiredRouter(qrouter, base, piece, snat), allocations)
    found, no_ipv6 = _where_ipv6_is(whole, view, allocations)
    left_out = (*omitted_texts(router, view.settings), *helper_omissions(view), *ndp_proxy.ndp_omissions(view))
    omitted = (*left_out, *unlimited_texts(view), *no_ipv6, *filter(None, [refusal(view)]))
    unserved = [*unserved_warnings(router, view.settings), *ndp_proxy.ndp_warnings(view)]
    warnings = (*_warnings(view, used), *unserved, *_reply_warnings(view, in_qrouter), *_conceded_warnings(allocations))
    return DesiredRouter(found.qrouter, found.base, found.slice, found.snat, warnings, omitted)


def _with_allocations(view: HostView, allocations: HostAllocations) -> HostView:
    """Return the view with what this host's kernel says about the router."""
    marks, helpers, proxies = allocations.marks, allocations.missing_helpers, allocations.found_proxies
    forwardings = allocations.forwardings
    if not marks and not helpers and not proxies and not forwardings:
        return view
    return replace(
        view,
        known_marks=marks or view.known_marks,
        missing_helpers=helpers,
        found_proxies=proxies,
        found_forwardings=forwardings,
    )


def _with_link_locals(whole: DesiredRouter, allocations: HostAllocations) -> DesiredRouter:
    """Return the desired state in which the kernel makes link-local addresses where they are lacking.

    Of an HA router neutron-l3-agent has switched them off in the qrouter namespace, too, and so has this agent while
    the router was a legacy one.
    """
    if not allocations.without_link_locals:
        return whole

    def fitting(state: NamespaceState) -> NamespaceState:
        if state.name not in allocations.without_link_locals:
            return state
        devices = ("default", *(link.name for link in state.links if link.mtu >= IPV6_MIN_MTU))
        modes = frozenset(Sysctl(f"ipv6/conf/{device}/addr_gen_mode", LINK_LOCAL_OF_MAC) for device in devices)
        return replace(state, sysctls=state.sysctls | modes)

    return replace(whole, qrouter=fitting(whole.qrouter), snat=whole.snat and fitting(whole.snat))


def _where_ipv6_is(
    whole: DesiredRouter, view: HostView, allocations: HostAllocations
) -> tuple[DesiredRouter, list[str]]:
    """Return the desired state without the IPv6 part of namespaces that have no IPv6, and what is left out."""
    absent = not view.settings.ipv6
    if not absent and not allocations.without_ipv6:
        return whole, []
    omitted, off = [], allocations.ipv6_off

    def fitting(state: NamespaceState) -> NamespaceState:
        if not absent and state.name not in off:
            return state
        omitted.append(omission_text(state, "" if absent else off[state.name]))
        return ipv4_part(state, absent)

    base, piece, snat = (fitting(one) if one is not None else None for one in (whole.base, whole.slice, whole.snat))
    return replace(whole, qrouter=fitting(whole.qrouter), base=base, slice=piece, snat=snat), [*filter(None, omitted)]


def _warnings(view: HostView, used: set[ExtraRoute]) -> list[str]:
    router = view.router
    warnings = [
        f"extra route {entry.destination} via {entry.nexthop}: next hop is reachable in none of the namespaces here, "
        "or the destination is a connected subnet"
        for entry in router.routes
        if entry not in used and not _reachable_elsewhere(view, entry.nexthop)
    ]
    waiting = [str(fip.address) for fip in view.bound_fips] if view.agent_gateway is None else []
    if waiting and router.gateway is not None:
        reason = (
            "agent_mode is dvr_no_external"
            if view.settings.mode.value == "dvr_no_external"
            else f"no agent gateway port for network {router.gateway.network_id} on this host"
        )
        warnings.append(f"floating IPs {', '.join(waiting)} are bound to this host but not realised: {reason}")
    skipped = [f"no neighbour: {omission.text}" for omission in router.skipped]
    if len(skipped) > MAX_SKIPPED:  # users can make any number of them
        skipped[MAX_SKIPPED:] = [
            f"no neighbour: {count(len(skipped) - MAX_SKIPPED, 'more port')} of the router's subnets"
        ]
    return [*warnings, *skipped]


def _reply_warnings(view: HostView, in_qrouter: set[ExtraRoute]) -> list[str]:
    """Warn of extra routes in the qrouter namespace that replies of floating IPs follow too.

    The kernel looks up the main table before the rules of floating IPs.  Neutron allows such routes, and
    neutron-l3-agent does the same.
    """
    if not in_qrouter:
        return []
    here = (fip for fip in view.router.floating_ips if view.bound_here(fip) or view.is_central(fip))
    fips = ", ".join(str(fip.address) for fip in here)
    return [
        f"extra route {entry.destination} via {entry.nexthop}: it also takes the replies of floating IPs {fips}"
        for entry in view.router.routes
        if fips and entry in in_qrouter and entry.destination.version == 4 and entry.destination.prefixlen <= 1
        if not _reachable_elsewhere(view, entry.nexthop)
    ]


def _conceded_warnings(allocations: HostAllocations) -> list[str]:
    """Warn of subnets that several routers have, where the route in the fip namespace belongs to another router."""
    return [
        f"subnet {subnet} is in the external address scope and also of a router with a lower id, which has its route "
        "in the fip namespace"
        for subnet in allocations.conceded
    ]


def _reachable_elsewhere(view: HostView, nexthop: IpAddress) -> bool:
    """True for a next hop on the external network, which only the SNAT host or another host can use."""
    gateway = view.router.gateway
    return gateway is not None and any(
        subnet.cidr.version == nexthop.version and nexthop in subnet.cidr for subnet in gateway.subnets
    )
