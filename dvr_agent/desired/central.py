"""The namespace of a router's gateway port (``docs/dataplane.md``, "snat" and "Legacy routers"), on the gateway's host.

It is ``snat-<router id>`` of a distributed router; of a legacy one ``qrouter-<router id>``, which is the whole router.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dvr_agent.desired import names, ndp_proxy
from dvr_agent.desired.accounting import received_rules, sent_rules
from dvr_agent.desired.common import (
    ACCEPT,
    BASE_SYSCTLS,
    DNATED,
    FAMILIES,
    NONLOCAL_BIND,
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
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import AddressPair, CentralNamespace, HostView
from dvr_agent.desired.metadata_rules import metadata_filter, metadata_mark, metadata_nat
from dvr_agent.desired.port_forwarding import forwarding_addresses, forwarding_rules
from dvr_agent.desired.qos import central_limits, with_known_limits
from dvr_agent.desired.routes import default_routes, extra_routes, gateway_routes, has_ipv6_gateway, leg, onlink_routes
from dvr_agent.desired.scope_marks import LOW_MASK, SCOPE_MASK
from dvr_agent.desired.scope_rules import (
    UNMARKED_CONNECTION,
    ScopedDevice,
    other_scope_egress,
    other_scope_fips,
    other_scope_ingress,
    scope_filter,
    scope_mangle,
    scope_of,
)
from dvr_agent.model.router import IPV6_MIN_MTU, ExtraRoute, RouterPort
from dvr_agent.state.address import Address
from dvr_agent.state.filter import (
    ConnmarkMatch,
    Family,
    FilterRule,
    MarkMatch,
    Not,
    SaveConnmark,
    SetMark,
    Snat,
    Table,
)
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.itemwise import frozen, itemwise
from dvr_agent.state.namespace import Announcement, NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import DEFAULT_V6, MAIN_TABLE, Hop, Route, make_route
from dvr_agent.state.rule import KERNEL_RULES
from dvr_agent.state.sysctl import Sysctl

OWNERSHIP = Ownership(prefixes=(names.CSNAT, names.GATEWAY, names.HA), kernel_rules=True, limited=names.LIMITED)


class Outside(NamedTuple):
    """The gateway port of a router, with its device."""

    device: str
    port: RouterPort


def central_state(view: HostView, central: CentralNamespace) -> tuple[NamespaceState, set[ExtraRoute]]:
    """Compute the desired state of the namespace, and the extra routes that it contains."""
    gateway = view.gateway_here
    outside = Outside(names.device(names.GATEWAY, gateway.id), gateway) if gateway is not None else None
    ports = [*central.inside, *([outside] if outside is not None else [])]
    external = _external_addresses(view, outside)
    routes, inner, used = _routes(view, central, outside)
    proxied = ndp_proxy.central_addresses(view, central.name) if outside is not None else ()
    proxies = ndp_proxy.proxies(proxied, outside.device) if outside is not None else []
    ownership = OWNERSHIP if view.router.distributed else QROUTER_OWNERSHIP
    state = NamespaceState(
        central.name,
        with_known_limits(ndp_proxy.owning_proxies(view, ownership), view),
        links=frozenset(port_link(device, port) for device, port in ports),
        addresses=frozen(
            view.router.id,
            "central",
            (*(address for device, port in central.inside for address in port_addresses(device, port)), *external),
        ),
        routes=frozenset(routes),
        rules=KERNEL_RULES,
        proxy_neighbours=frozenset(proxies),
        sysctls=frozenset(_sysctls(view, outside)),
        limits=central_limits(view),
        tables=(*_tables(view, central, outside), *helper_tables(view, outside is not None)),
        announcements=(
            *_announced.each(view.router.id, external),
            *(Announcement(proxy.device, proxy.dst, proxy) for proxy in proxies),
        ),
        outbound=outbound(view, view.central_fips, view.central_pairs, central.inside, inner),
    )
    return state, used


def _external_addresses(view: HostView, outside: Outside | None) -> tuple[Address, ...]:
    if outside is None:
        return ()
    fips = _addresses.each(view.router.id, view.central_pairs, outside.device)
    return (*port_addresses(*outside), *fips, *forwarding_addresses(view, outside.device))


@itemwise
def _addresses(pairs: Sequence[AddressPair], device: str) -> list[Address]:
    return [Address(device, f"{address}/32") for address, _fixed in pairs]


@itemwise
def _announced(addresses: Sequence[Address]) -> list[Announcement]:
    return [Announcement(address.device, address.ip, address) for address in addresses]


def _routes(
    view: HostView, central: CentralNamespace, outside: Outside | None
) -> tuple[list[Route], list[Route], set[ExtraRoute]]:
    """Return the routes, those of the document by internal devices, and the entries of the document that they cover."""
    inner_legs = [leg(dev, port) for dev, port in central.inside]
    outer_legs = [leg(*outside)] if outside is not None else []
    if view.router.distributed:
        # A tenant's default route by an instance is for qrouter; here it would turn SNATed traffic back inside.
        inner, used = extra_routes(view.router.routes, inner_legs, default=False, others=outer_legs)
        outer, used_outside = extra_routes(view.router.routes, outer_legs, others=inner_legs)
    else:
        # There is one main table: next hops inside and outside can be of one route.
        found, used = extra_routes(view.router.routes, [*inner_legs, *outer_legs])
        inner, outer, used_outside = [*_avoiding(found, outside)], found, set[ExtraRoute]()
    routes: dict[tuple[str, int], Route] = {}
    if outside is not None:
        routes |= {route.key: route for route in onlink_routes([outside], central.ports)}
        routes |= {route.key: route for route in gateway_routes(*outside)}
        routes |= {route.key: route for route in default_routes(*outside, MAIN_TABLE)}
        routes |= {route.key: route for route in _substitute(view, outside)}
    # A tenant's own default route replaces ours: the later route of a key counts.
    routes |= {route.key: route for route in (*outer, *inner)}
    return list(routes.values()), inner, used | used_outside


def _avoiding(routes: Iterable[Route], outside: Outside | None) -> Iterator[Route]:
    """Yield the routes that do not lead outside."""
    for route in routes:
        if outside is None or all(hop.device != outside.device for hop in route.hops):
            yield route


def _substitute(view: HostView, outside: Outside) -> Iterator[Route]:
    """Yield the IPv6 default route by the configured next hop, where the gateway port has no IPv6 gateway."""
    hop = view.settings.ipv6_gateway
    if hop is not None and not has_ipv6_gateway(outside.port) and outside.port.mtu >= IPV6_MIN_MTU:
        yield make_route(DEFAULT_V6, MAIN_TABLE, Hop(str(hop), outside.device))


def _sysctls(view: HostView, outside: Outside | None) -> Iterator[Sysctl]:
    yield from BASE_SYSCTLS
    if view.router.distributed:
        yield NONLOCAL_BIND
        yield Sysctl("netfilter/nf_conntrack_tcp_loose", "0")
    if outside is not None and outside.port.mtu >= IPV6_MIN_MTU:
        # The IPv6 gateway is learned from router advertisements (2: although the namespace forwards).
        learns = view.settings.ipv6_gateway is None and not has_ipv6_gateway(outside.port)
        yield Sysctl(f"ipv6/conf/{outside.device}/accept_ra", "2" if learns else "0")
    if outside is not None:
        yield from ndp_proxy.central_parameters(view, outside.device, outside.port.mtu)


def _tables(view: HostView, central: CentralNamespace, outside: Outside | None) -> tuple[Table, ...]:
    metadata = None if view.router.distributed else view.settings
    tables = [make_table(4, "nat", _nat(view, outside, metadata))]
    if metadata is not None and metadata.metadata:
        tables.append(make_table(6, "nat", {"PREROUTING": metadata_nat(metadata, 6)}))
    for family in FAMILIES:
        inner = _scoped(view, central.inside, family)
        scoped = [*inner, *_scoped(view, [outside] if outside is not None else [], family)]
        mangle = _mangle(view, outside, scoped, family)
        if metadata is not None:
            mangle["PREROUTING"] = (*mangle["PREROUTING"], metadata_mark(family, metadata.metadata_mark))
        tables.append(make_table(family, "mangle", mangle))
        # SNATed packets of any scope may leave: they no longer carry an address of the scope.
        blocked = scope_filter(inner if family == 4 and view.router.enable_snat else scoped)
        filters = metadata_filter(metadata) if metadata is not None else {}
        closed = ndp_proxy.forward_rules(view, central.name, outside.device) if outside and family == 6 else ()
        filters["FORWARD"] = (*filters.get("FORWARD", ()), *blocked, *closed)
        tables.append(make_table(family, "filter", filters))
    return tuple(tables)


def _mangle(
    view: HostView, outside: Outside | None, scoped: list[ScopedDevice], family: Family
) -> dict[str, tuple[FilterRule, ...]]:
    rules = scope_mangle(scoped)
    if outside is None or family == 6:
        return {"PREROUTING": tuple(rules), "FORWARD": (), "POSTROUTING": ()}
    qg, fips = outside.device, other_scope_fips(view, view.central_fips)
    rules += other_scope_ingress(view, fips, qg)
    rules.append(FilterRule(SetMark(view.settings.ingress_mark, LOW_MASK), iif=qg))
    save = FilterRule(SaveConnmark(SCOPE_MASK), oif=qg, matches=(UNMARKED_CONNECTION,))
    # Without SNAT packets of other scopes may not leave by qg-, but those that will carry a floating IP may.
    translated = view.router.enable_snat
    forward = [] if translated else other_scope_egress(view, fips, scoped)
    rules += received_rules(view, view.central_fips, qg)
    forward += sent_rules(view, view.central_fips, qg)
    return {
        "PREROUTING": tuple(rules),
        "FORWARD": tuple(forward),
        "POSTROUTING": (save,) if translated else (),
    }


def _scoped(view: HostView, devices: list[tuple[str, RouterPort]], family: Family) -> list[ScopedDevice]:
    return [
        ScopedDevice(device, view.marks.get(scope_of(port, family), view.marks[None]))
        for device, port in devices
        if has_family(port, family)
    ]


def _nat(view: HostView, outside: Outside | None, metadata: HostSettings | None) -> dict[str, tuple[FilterRule, ...]]:
    """Compute the IPv4 nat table.

    :param metadata: None: instances' requests to the metadata address come to another namespace
    """
    first = metadata_nat(metadata, 4) if metadata is not None else ()
    if outside is None:
        return {"PREROUTING": first}
    qg, gateway = outside
    gateway_ip = next((str(fixed.address) for fixed in gateway.fixed_ips if fixed.address.version == 4), None)
    pairs, random = view.central_pairs, view.settings.random_fully
    dnat = inbound_rules.each(view.router.id, pairs, None)
    forwarded = forwarding_rules(view)
    snat = [*outbound_rules.each(view.router.id, pairs, random)]
    if gateway_ip is None:
        return {"PREROUTING": (*first, *dnat, *forwarded), "OUTPUT": dnat, "POSTROUTING": tuple(snat)}
    to_gateway = Snat(gateway_ip, random)
    if view.router.enable_snat:
        if gateway.scope4 is not None:
            external = ConnmarkMatch(view.marks[gateway.scope4], SCOPE_MASK)
            snat.append(FilterRule(ACCEPT, oif=qg, matches=(external,)))
        snat.append(FilterRule(to_gateway, oif=qg))
    came_from_inside = MarkMatch(view.settings.ingress_mark, LOW_MASK, invert=True)
    hairpin = FilterRule(to_gateway, matches=(came_from_inside, DNATED))
    internal = FilterRule(ACCEPT, oif=Not(qg), matches=(NOT_DNATED,))
    return {"PREROUTING": (*first, *dnat, *forwarded), "OUTPUT": dnat, "POSTROUTING": (internal, *snat, hairpin)}
