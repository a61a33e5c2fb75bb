"""The router's own namespace, ``qrouter-<router id>`` (dataplane contract, "qrouter")."""

from __future__ import annotations

from dvr_agent.desired import names
from dvr_agent.desired.common import (
    ACCEPT,
    BASE_SYSCTLS,
    FAMILIES,
    IPV6_MIN_MTU,
    NOT_DNATED,
    ScopedDevice,
    has_family,
    metadata_forward,
    metadata_input,
    metadata_mark,
    metadata_redirect,
    outbound,
    port_addresses,
    port_link,
    scope_filter,
    scope_mangle,
    scope_of,
)
from dvr_agent.desired.host_allocations import Facts, FipLink
from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.desired.routes import extra_routes, leg
from dvr_agent.desired.scope_rules import other_scope_egress, other_scope_fips, other_scope_ingress
from dvr_agent.desired.table_ids import redirect_index
from dvr_agent.model.router import ExtraRoute, RouterPort, SubnetPort
from dvr_agent.state.address import Address, link_local
from dvr_agent.state.filter import (
    Dnat,
    Family,
    FilterRule,
    Not,
    Snat,
    Table,
    make_table,
)
from dvr_agent.state.link import Link, Veth
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import (
    FIP_TABLE,
    SAME_SCOPE_PRIORITY,
    V6_CONNECTED_PRIORITY,
    V6_REDIRECT_PRIORITY,
    Ownership,
    RuleOwner,
)
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, MAIN_TABLE, Hop, Route, make_route
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sysctl import Sysctl

OWNERSHIP = Ownership((names.INTERNAL, names.ROUTER_TO_FIP), rules=RuleOwner.QROUTER, kernel_rules=True)

Devices = list[tuple[str, RouterPort]]
Redirect = tuple[str, RouterPort, str, str]
"""Device, port, router port address with prefix, csnat address."""


def qrouter_state(view: HostView, facts: Facts) -> tuple[NamespaceState, set[ExtraRoute]]:
    """What the namespace must hold, and the extra routes that it realises."""
    devices: Devices = [(names.device(names.INTERNAL, port.id), port) for port in view.interfaces]
    redirects = _redirects(view, devices)
    routes, rules, used = _routing(view, facts, devices, redirects)
    link = facts.link
    state = NamespaceState(
        view.qrouter,
        OWNERSHIP,
        links=frozenset(_links(view, link, devices)),
        addresses=frozenset(_addresses(view, link, devices)),
        routes=frozenset(routes),
        rules=frozenset(rules),
        neighbours=frozenset(_neighbours(view, link, devices)),
        sysctls=frozenset(_sysctls(view, redirects)),
        tables=_tables(view, devices),
        outbound=outbound(view, view.local_fips, devices, routes),
    )
    return state, used


def _links(view: HostView, link: FipLink | None, devices: Devices) -> list[Link]:
    links = [port_link(device, port) for device, port in devices]
    if link is not None and view.fip is not None and view.router.gateway is not None:
        origin = Veth(view.fip, view.fpr, link.fpr_mac)
        links.append(Link(view.rfp, link.rfp_mac, view.router.gateway.mtu, True, origin))
    return links


def _addresses(view: HostView, link: FipLink | None, devices: Devices) -> list[Address]:
    addresses = [address for device, port in devices for address in port_addresses(device, port)]
    return [*addresses, Address(view.rfp, f"{link.pair.router_address}/31")] if link else addresses


def _redirects(view: HostView, devices: Devices) -> list[Redirect]:
    """Internal port addresses whose outbound traffic goes to the snat namespace, wherever that is."""
    if view.router.gateway is None:
        return []
    found: list[Redirect] = []
    for device, port in devices:
        for fixed in port.fixed_ips:
            csnat = view.csnat_by_subnet.get(fixed.subnet_id)
            by_fip = fixed.address.version == 4 and view.in_external_scope(port)
            if csnat is not None and csnat.address.version == fixed.address.version and not by_fip:
                found.append((device, port, fixed.cidr, str(csnat.address)))
    return found


def _routing(
    view: HostView, facts: Facts, devices: Devices, redirects: list[Redirect]
) -> tuple[list[Route], list[Rule], set[ExtraRoute]]:
    extra, used = extra_routes(view.router.routes, (leg(device, port) for device, port in devices))
    # Other subnets of an internal network get no on-link routes: whoever owns a shared network could name any prefix.
    routes: dict[tuple[str, int], Route] = {}
    own_default = any(route.dst == DEFAULT_V6 for route in extra)
    rules: list[Rule] = [*KERNEL_RULES]
    for device, _, cidr, csnat in redirects:
        index = redirect_index(cidr)
        family = 6 if ":" in cidr else 4
        rules.append(Rule(family, index, index, cidr))
        if family == 6 and facts.link is not None and not own_default:
            rules += _before_main(cidr, index)
        route = make_route(DEFAULT_V6 if family == 6 else DEFAULT_V4, index, Hop(csnat, device))
        routes[route.key] = route
    if facts.link is not None:
        for route in _fip_routes(view, facts.link):
            routes[route.key] = route
        fixed = {str(fip.address): f"{fip.fixed_address}/32" for fip in view.local_fips}
        rules += [Rule(4, priority, FIP_TABLE, fixed[fip]) for fip, priority in facts.priorities if fip in fixed]
        rules += [Rule(4, SAME_SCOPE_PRIORITY, FIP_TABLE, subnet) for subnet in view.same_scope_subnets]
    # A tenant's own default route comes after ours and so takes its place.
    routes.update({route.key: route for route in extra})
    return list(routes.values()), rules, used


def _before_main(cidr: str, index: int) -> list[Rule]:
    """The IPv6 redirect once more, where it works.

    Every index is greater than 32766, the priority of the kernel's rule for main, and main has an IPv6 default route by
    the fip namespace: the contract's own rule never comes to bear, and packets end in a namespace that has no way out
    for them.  So main is asked for all but its default route first, and then the redirect.  Not where an extra route
    ``::/0`` of the document stands in the place of that default route: it is to be followed, as ``0.0.0.0/0`` is.
    """
    return [
        Rule(6, V6_CONNECTED_PRIORITY, MAIN_TABLE, cidr, specific=True),
        Rule(6, V6_REDIRECT_PRIORITY, index, cidr),
    ]


def _fip_routes(view: HostView, link: FipLink) -> list[Route]:
    routes = [make_route(DEFAULT_V4, FIP_TABLE, Hop(link.pair.fip_address, view.rfp))]
    if view.router.gateway is not None and view.router.gateway.mtu >= IPV6_MIN_MTU:
        routes.append(make_route(DEFAULT_V6, MAIN_TABLE, Hop(link_local(link.fpr_mac), view.rfp)))
    return routes


def _neighbours(view: HostView, link: FipLink | None, devices: Devices) -> list[Neighbour]:
    """Every port of each subnet, on all hosts: a distributed router must not ask for addresses by ARP."""
    ports_by_subnet = dict(view.router.ports_by_subnet)
    own_ports = {port.id for _, port in devices}
    own_addresses = {str(fixed.address) for _, port in devices for fixed in port.fixed_ips}
    found: dict[tuple[str, str], str] = {}
    for device, port in devices:
        for _, subnet in port_subnets(port):
            members = [member for member in ports_by_subnet.get(subnet.id, ()) if member.id not in own_ports]
            # The last word has an address's own port; before it, of ports with the same pair, one that is up.
            for member in sorted(members, key=_is_up):
                for mac, net in member.pairs:
                    if net.num_addresses == 1 and net.version == subnet.cidr.version and net[0] in subnet.cidr:
                        found[str(net[0]), device] = mac
            for member in members:
                for subnet_id, address in member.addresses:
                    if subnet_id == subnet.id:
                        found[str(address), device] = member.mac
            for csnat in view.router.snat_interfaces:
                for fixed in csnat.fixed_ips:
                    if fixed.subnet_id == subnet.id:
                        found[str(fixed.address), device] = csnat.mac
    neighbours = [Neighbour(dst, dev, mac) for (dst, dev), mac in found.items() if dst not in own_addresses]
    return [*neighbours, Neighbour(link.pair.fip_address, view.rfp, link.fpr_mac)] if link else neighbours


def _is_up(member: SubnetPort) -> bool:
    return member.is_up


def _sysctls(view: HostView, redirects: list[Redirect]) -> list[Sysctl]:
    sysctls = list(BASE_SYSCTLS)
    if view.router.gateway is not None:
        sysctls.append(Sysctl("ipv4/conf/all/send_redirects", "0"))
    return sysctls + [Sysctl(f"ipv4/conf/{device}/send_redirects", "0") for device, *_ in redirects]


def _tables(view: HostView, devices: Devices) -> tuple[Table, ...]:
    tables = [make_table(4, "nat", _nat(view))]
    settings = view.settings
    if settings.metadata:
        tables.append(make_table(6, "nat", {"PREROUTING": (metadata_redirect(6, settings.metadata_port),)}))
    for family in FAMILIES:
        scoped = _scoped(view, devices, family)
        fips = other_scope_fips(view, view.local_fips) if family == 4 else []
        mangle = [*scope_mangle(scoped), *other_scope_ingress(view, fips, view.rfp)]
        mangle.append(metadata_mark(family, settings.metadata_mark))
        forward = other_scope_egress(view, fips, scoped)
        tables.append(make_table(family, "mangle", {"PREROUTING": tuple(mangle), "FORWARD": tuple(forward)}))
        blocked = {"FORWARD": tuple(scope_filter(scoped))}
        if settings.metadata:
            blocked["FORWARD"] = (metadata_forward(settings.metadata_mark), *blocked["FORWARD"])
            blocked["INPUT"] = metadata_input(settings.metadata_mark, settings.metadata_port)
        tables.append(make_table(family, "filter", blocked))
    return tuple(tables)


def _nat(view: HostView) -> dict[str, tuple[FilterRule, ...]]:
    metadata = (metadata_redirect(4, view.settings.metadata_port),) if view.settings.metadata else ()
    if not view.local_fips:
        return {"PREROUTING": metadata}
    inbound = (
        FilterRule(Dnat(str(fip.fixed_address)), dst=f"{fip.address}/32", iif=view.rfp) for fip in view.local_fips
    )
    east_west = FilterRule(ACCEPT, oif=Not(view.rfp), matches=(NOT_DNATED,))
    outbound = [
        FilterRule(Snat(str(fip.address), view.settings.random_fully), src=f"{fip.fixed_address}/32")
        for fip in view.local_fips
    ]
    return {"PREROUTING": (*metadata, *inbound), "POSTROUTING": (east_west, *outbound)}


def _scoped(view: HostView, devices: Devices, family: Family) -> list[ScopedDevice]:
    scoped = [
        ScopedDevice(device, view.marks[scope_of(port, family)]) for device, port in devices if has_family(port, family)
    ]
    gateway = view.router.gateway
    # Floating IPs come in by it whether the gateway port has an IPv4 address or not.
    if view.agent_gateway is not None and gateway is not None and (family == 4 or has_family(gateway, family)):
        scoped.append(ScopedDevice(view.rfp, view.marks[scope_of(gateway, family)]))
    return scoped
