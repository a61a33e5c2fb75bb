"""The SNAT namespace of a router, ``snat-<router id>``, on the host of its gateway (``docs/dataplane.md``, "snat")."""

from __future__ import annotations

from dataclasses import replace

from dvr_agent.desired import names, ndp_proxy
from dvr_agent.desired.common import (
    ACCEPT,
    BASE_SYSCTLS,
    DNATED,
    FAMILIES,
    NONLOCAL_BIND,
    NOT_DNATED,
    has_family,
    outbound,
    port_addresses,
    port_link,
)
from dvr_agent.desired.conntrack_helpers import helper_tables
from dvr_agent.desired.host_view import HostView
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
    Dnat,
    Family,
    FilterRule,
    MarkMatch,
    Not,
    SaveConnmark,
    SetMark,
    Snat,
    Table,
    make_table,
)
from dvr_agent.state.namespace import Announcement, NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import DEFAULT_V6, MAIN_TABLE, Hop, make_route
from dvr_agent.state.rule import KERNEL_RULES
from dvr_agent.state.sysctl import Sysctl

OWNERSHIP = Ownership(prefixes=(names.CSNAT, names.GATEWAY), kernel_rules=True)
WITH_PROXIES = replace(OWNERSHIP, proxied=ndp_proxy.EVERYTHING)


def snat_state(view: HostView, gateway: RouterPort) -> tuple[NamespaceState, set[ExtraRoute]]:
    """Compute the desired state of the namespace, and the extra routes that it contains."""
    qg = names.device(names.GATEWAY, gateway.id)
    inside = [(names.device(names.CSNAT, port.id), port) for port in view.router.snat_interfaces if port.admin_state_up]
    addresses = [address for device, port in inside for address in port_addresses(device, port)]
    outside = [
        *port_addresses(qg, gateway),
        *(Address(qg, f"{fip.address}/32") for fip in view.central_fips),
    ]
    # A tenant's default route by an instance is for qrouter; here it would turn SNATed traffic back inside.
    inner_legs, outer_legs = [leg(dev, port) for dev, port in inside], [leg(qg, gateway)]
    inner, used = extra_routes(view.router.routes, inner_legs, default=False, others=outer_legs)
    outer, used_outside = extra_routes(view.router.routes, outer_legs, others=inner_legs)
    routes = {route.key: route for route in onlink_routes([(qg, gateway)], (port for _, port in inside))}
    for route in (*gateway_routes(qg, gateway), *default_routes(qg, gateway, MAIN_TABLE), *outer, *inner):
        routes[route.key] = route
    substitute = None if has_ipv6_gateway(gateway) else view.settings.ipv6_gateway
    if substitute is not None and gateway.mtu >= IPV6_MIN_MTU:
        route = make_route(DEFAULT_V6, MAIN_TABLE, Hop(str(substitute), qg))
        routes[route.key] = route
    learns = substitute is None and not has_ipv6_gateway(gateway)
    proxies = ndp_proxy.proxies(ndp_proxy.central_addresses(view, view.snat), qg)
    state = NamespaceState(
        view.snat,
        WITH_PROXIES if ndp_proxy.is_served(view) else OWNERSHIP,
        links=frozenset({port_link(qg, gateway), *(port_link(device, port) for device, port in inside)}),
        addresses=frozenset([*addresses, *outside]),
        routes=frozenset(routes.values()),
        rules=KERNEL_RULES,
        proxy_neighbours=frozenset(proxies),
        sysctls=frozenset([*_sysctls(qg, gateway.mtu, learns), *ndp_proxy.central_parameters(view, qg, gateway.mtu)]),
        tables=(*_tables(view, gateway, qg, inside), *helper_tables(view)),
        announcements=(
            *(Announcement(qg, address.ip, address) for address in outside),
            *(Announcement(qg, proxy.dst, proxy) for proxy in proxies),
        ),
        outbound=outbound(view, view.central_fips, inside, inner),
    )
    return state, used | used_outside


def _sysctls(qg: str, mtu: int, learns: bool) -> list[Sysctl]:
    """Compute the kernel parameters.

    :param learns: the IPv6 gateway is learned from router advertisements (2: although the namespace forwards)
    """
    sysctls = [*BASE_SYSCTLS, NONLOCAL_BIND, Sysctl("netfilter/nf_conntrack_tcp_loose", "0")]
    if mtu >= IPV6_MIN_MTU:
        sysctls.append(Sysctl(f"ipv6/conf/{qg}/accept_ra", "2" if learns else "0"))
    return sysctls


def _tables(view: HostView, gateway: RouterPort, qg: str, inside: list[tuple[str, RouterPort]]) -> tuple[Table, ...]:
    tables = [make_table(4, "nat", _nat(view, gateway, qg))]
    for family in FAMILIES:
        inner = _scoped(view, inside, family)
        scoped = [*inner, *_scoped(view, [(qg, gateway)], family)]
        translated = family == 4 and view.router.enable_snat
        fips = other_scope_fips(view, view.central_fips) if family == 4 else []
        mangle = [*scope_mangle(scoped), *other_scope_ingress(view, fips, qg)]
        if family == 4:
            mangle.append(FilterRule(SetMark(view.settings.ingress_mark, LOW_MASK), iif=qg))
        postrouting = (
            [FilterRule(SaveConnmark(SCOPE_MASK), oif=qg, matches=(UNMARKED_CONNECTION,))] if translated else []
        )
        # Without SNAT packets of other scopes may not leave by qg-, but those that will carry a floating IP may.
        forward = [] if translated else other_scope_egress(view, fips, scoped)
        rules = {"PREROUTING": mangle, "FORWARD": forward, "POSTROUTING": postrouting}
        tables.append(make_table(family, "mangle", {chain: tuple(found) for chain, found in rules.items()}))
        # SNATed packets of any scope may leave: they no longer carry an address of the scope.
        blocked = inner if translated else scoped
        closed = ndp_proxy.forward_rules(view, view.snat, qg) if family == 6 else ()
        tables.append(make_table(family, "filter", {"FORWARD": (*scope_filter(blocked), *closed)}))
    return tuple(tables)


def _scoped(view: HostView, devices: list[tuple[str, RouterPort]], family: Family) -> list[ScopedDevice]:
    return [
        ScopedDevice(device, view.marks.get(scope_of(port, family), view.marks[None]))
        for device, port in devices
        if has_family(port, family)
    ]


def _nat(view: HostView, gateway: RouterPort, qg: str) -> dict[str, tuple[FilterRule, ...]]:
    gateway_ip = next((str(fixed.address) for fixed in gateway.fixed_ips if fixed.address.version == 4), None)
    fips, random = view.central_fips, view.settings.random_fully
    dnat = tuple(FilterRule(Dnat(str(fip.fixed_address)), dst=f"{fip.address}/32") for fip in fips)
    snat = [FilterRule(Snat(str(fip.address), random), src=f"{fip.fixed_address}/32") for fip in fips]
    if gateway_ip is None:
        return {"PREROUTING": dnat, "OUTPUT": dnat, "POSTROUTING": tuple(snat)}
    to_gateway = Snat(gateway_ip, random)
    if view.router.enable_snat:
        if gateway.scope4 is not None:
            external = ConnmarkMatch(view.marks[gateway.scope4], SCOPE_MASK)
            snat.append(FilterRule(ACCEPT, oif=qg, matches=(external,)))
        snat.append(FilterRule(to_gateway, oif=qg))
    came_from_inside = MarkMatch(view.settings.ingress_mark, LOW_MASK, invert=True)
    hairpin = FilterRule(to_gateway, matches=(came_from_inside, DNATED))
    internal = FilterRule(ACCEPT, oif=Not(qg), matches=(NOT_DNATED,))
    return {"PREROUTING": dnat, "OUTPUT": dnat, "POSTROUTING": (internal, *snat, hairpin)}
