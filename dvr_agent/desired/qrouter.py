"""The own namespace of a distributed router, ``qrouter-<router id>`` (``docs/dataplane.md``, "qrouter")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.desired.accounting import received_rules, sent_rules
from dvr_agent.desired.common import (
    ACCEPT,
    BASE_SYSCTLS,
    FAMILIES,
    NOT_DNATED,
    QROUTER_OWNERSHIP,
    has_family,
    inbound_rules,
    outbound,
    outbound_rules,
    port_addresses,
    port_link,
)
from dvr_agent.desired.conntrack_helpers import helper_tables
from dvr_agent.desired.host_allocations import FipPair, HostAllocations
from dvr_agent.desired.host_view import AddressPair, HostView
from dvr_agent.desired.metadata_rules import metadata_filter, metadata_mark, metadata_nat
from dvr_agent.desired.ndp_proxy import outward_rules
from dvr_agent.desired.neighbours import qrouter_neighbours
from dvr_agent.desired.qos import NO_LIMITS, local_limits, with_known_limits
from dvr_agent.desired.routes import extra_routes, leg
from dvr_agent.desired.scope_rules import (
    ScopedDevice,
    other_scope_egress,
    other_scope_fips,
    other_scope_ingress,
    scope_filter,
    scope_mangle,
    scope_of,
)
from dvr_agent.desired.table_ids import redirect_index
from dvr_agent.model.router import IPV6_MIN_MTU, ExtraRoute, RouterPort
from dvr_agent.state.address import Address, link_local
from dvr_agent.state.filter import Family, FilterRule, Not, Table
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.itemwise import frozen, itemwise
from dvr_agent.state.link import Link, Veth
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import (
    FIP_TABLE,
    SAME_SCOPE_PRIORITY,
    V6_CONNECTED_PRIORITY,
    V6_REDIRECT_PRIORITY,
)
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, MAIN_TABLE, Hop, Route, make_route
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sets import compact
from dvr_agent.state.sysctl import Sysctl

Devices = list[tuple[str, RouterPort]]


class SnatRedirect(NamedTuple):
    """An internal address of the router whose subnet's traffic to the outside goes to the snat namespace.

    :ivar device: of the router interface port
    :ivar cidr: address of that port with its prefix length
    :ivar csnat: address of the csnat port in the same subnet
    """

    device: str
    cidr: str
    csnat: str


def qrouter_state(view: HostView, allocations: HostAllocations) -> tuple[NamespaceState, set[ExtraRoute]]:
    """Compute the desired state of the namespace, and the extra routes that it contains."""
    devices: Devices = [(names.device(names.INTERNAL, port.id), port) for port in view.interfaces]
    redirects = _redirects(view, devices)
    routes, rules, used = _routing(view, allocations, devices, redirects)
    pair = allocations.pair
    state = NamespaceState(
        view.qrouter,
        with_known_limits(QROUTER_OWNERSHIP, view),
        links=frozenset(_links(view, pair, devices)),
        addresses=frozenset(_addresses(view, pair, devices)),
        routes=frozenset(routes),
        rules=frozen(view.router.id, "qrouter rules", tuple(rules)),
        neighbours=frozen(view.router.id, "neighbours", qrouter_neighbours(view, pair, devices)),
        sysctls=compact(_sysctls(view, redirects)),
        limits=local_limits(view) if pair is not None else NO_LIMITS,
        tables=(*_tables(view, devices), *helper_tables(view, bool(view.local_fips))),
        outbound=outbound(view, view.local_fips, view.local_pairs, devices, routes),
    )
    return state, used


def _links(view: HostView, pair: FipPair | None, devices: Devices) -> list[Link]:
    links = [port_link(device, port, distributed=True) for device, port in devices]
    if pair is not None and view.fip is not None and view.router.gateway is not None:
        origin = Veth(view.fip, view.fpr, pair.fpr_mac)
        links.append(Link(view.rfp, pair.rfp_mac, view.router.gateway.mtu, True, origin))
    return links


def _addresses(view: HostView, pair: FipPair | None, devices: Devices) -> list[Address]:
    addresses = [address for device, port in devices for address in port_addresses(device, port)]
    return [*addresses, Address(view.rfp, f"{pair.subnet.router_address}/31")] if pair else addresses


def _redirects(view: HostView, devices: Devices) -> list[SnatRedirect]:
    """Return the internal addresses whose subnets' outbound traffic goes to the snat namespace, here or elsewhere."""
    if view.router.gateway is None:
        return []
    found: list[SnatRedirect] = []
    for device, port in devices:
        for fixed in port.fixed_ips:
            csnat = view.csnat_by_subnet.get(fixed.subnet_id)
            by_fip = fixed.address.version == 4 and view.in_external_scope(port)
            if csnat is not None and csnat.address.version == fixed.address.version and not by_fip:
                found.append(SnatRedirect(device, fixed.cidr, str(csnat.address)))
    return found


def _routing(
    view: HostView, allocations: HostAllocations, devices: Devices, redirects: list[SnatRedirect]
) -> tuple[list[Route], list[Rule], set[ExtraRoute]]:
    extra, used = extra_routes(view.router.routes, (leg(device, port) for device, port in devices))
    # Other subnets of an internal network get no on-link routes: the owner of a shared network could choose any prefix.
    routes: dict[tuple[str, int], Route] = {}
    own_default = any(route.dst == DEFAULT_V6 for route in extra)
    rules: list[Rule] = [*KERNEL_RULES]
    for device, cidr, csnat in redirects:
        index = redirect_index(cidr)
        family = 6 if ":" in cidr else 4
        rules.append(Rule(family, index, index, cidr))
        if family == 6 and allocations.pair is not None and not own_default:
            rules += _rules_before_main(cidr, index)
        route = make_route(DEFAULT_V6 if family == 6 else DEFAULT_V4, index, Hop(csnat, device))
        routes[route.key] = route
    if allocations.pair is not None:
        for route in _fip_routes(view, allocations.pair):
            routes[route.key] = route
        priorities = map(dict(allocations.priorities).get, view.local_addresses)
        found = _fip_rules.each(view.router.id, tuple(zip(view.local_pairs, priorities, strict=True)))
        rules += filter(None, found)
        rules += [Rule(4, SAME_SCOPE_PRIORITY, FIP_TABLE, subnet) for subnet in view.same_scope_subnets]
        rules += outward_rules(view)
    # A tenant's own default route replaces ours: the later route of a key counts.
    routes.update({route.key: route for route in extra})
    return list(routes.values()), rules, used


@itemwise
def _fip_rules(prioritised: Sequence[tuple[AddressPair, int | None]]) -> list[Rule | None]:
    """Return the rules by which the fixed addresses of floating IPs go to the fip namespace; each has a priority."""
    return [
        Rule(4, priority, FIP_TABLE, f"{fixed}/32") if priority is not None else None
        for (_address, fixed), priority in prioritised
    ]


def _rules_before_main(cidr: str, index: int) -> list[Rule]:
    """Make the two IPv6 rules before main: main without its default route, then the redirect to SNAT.

    Every index is greater than 32766, the priority of the kernel's rule for main, and main has an IPv6 default route to
    the fip namespace: the kernel never reaches Neutron's rule for the redirect, and the fip namespace has no route for
    the packets.  Not made where the document has an extra route ``::/0``, which replaces that default route and must be
    followed, as ``0.0.0.0/0`` is (``docs/dataplane.md``, "Rule priorities and tables").
    """
    return [
        Rule(6, V6_CONNECTED_PRIORITY, MAIN_TABLE, cidr, suppress_default=True),
        Rule(6, V6_REDIRECT_PRIORITY, index, cidr),
    ]


def _fip_routes(view: HostView, pair: FipPair) -> list[Route]:
    routes = [make_route(DEFAULT_V4, FIP_TABLE, Hop(pair.subnet.fip_address, view.rfp))]
    if view.router.gateway is not None and view.router.gateway.mtu >= IPV6_MIN_MTU:
        routes.append(make_route(DEFAULT_V6, MAIN_TABLE, Hop(link_local(pair.fpr_mac), view.rfp)))
    return routes


def _sysctls(view: HostView, redirects: list[SnatRedirect]) -> list[Sysctl]:
    sysctls = list(BASE_SYSCTLS)
    if view.router.gateway is not None:
        sysctls.append(Sysctl("ipv4/conf/all/send_redirects", "0"))
    return sysctls + [Sysctl(f"ipv4/conf/{device}/send_redirects", "0") for device, _cidr, _csnat in redirects]


def _tables(view: HostView, devices: Devices) -> tuple[Table, ...]:
    tables = [make_table(4, "nat", _nat(view))]
    settings = view.settings
    if settings.metadata:
        tables.append(make_table(6, "nat", {"PREROUTING": metadata_nat(settings, 6)}))
    for family in FAMILIES:
        scoped = _scoped(view, devices, family)
        fips = other_scope_fips(view, view.local_fips) if family == 4 else ()
        mangle = [*scope_mangle(scoped), *other_scope_ingress(view, fips, view.rfp)]
        mangle.append(metadata_mark(family, settings.metadata_mark))
        forward = other_scope_egress(view, fips, scoped)
        if family == 4:
            mangle += received_rules(view, view.local_fips, view.rfp)
            forward += sent_rules(view, view.local_fips, view.rfp)
        tables.append(make_table(family, "mangle", {"PREROUTING": tuple(mangle), "FORWARD": tuple(forward)}))
        blocked = metadata_filter(settings)
        blocked["FORWARD"] = (*blocked.get("FORWARD", ()), *scope_filter(scoped))
        tables.append(make_table(family, "filter", blocked))
    return tuple(tables)


def _nat(view: HostView) -> dict[str, tuple[FilterRule, ...]]:
    metadata = metadata_nat(view.settings, 4)
    if not view.local_fips:
        return {"PREROUTING": metadata}
    inbound = inbound_rules.each(view.router.id, view.local_pairs, view.rfp)
    east_west = FilterRule(ACCEPT, oif=Not(view.rfp), matches=(NOT_DNATED,))
    outbound = outbound_rules.each(view.router.id, view.local_pairs, view.settings.random_fully)
    return {"PREROUTING": (*metadata, *inbound), "POSTROUTING": (east_west, *outbound)}


def _scoped(view: HostView, devices: Devices, family: Family) -> list[ScopedDevice]:
    scoped = [
        ScopedDevice(device, view.marks[scope_of(port, family)]) for device, port in devices if has_family(port, family)
    ]
    gateway = view.router.gateway
    # Packets to floating IPs come in by rfp-, also where the gateway port has no IPv4 address.
    if view.agent_gateway is not None and gateway is not None and (family == 4 or has_family(gateway, family)):
        scoped.append(ScopedDevice(view.rfp, view.marks[scope_of(gateway, family)]))
    return scoped
