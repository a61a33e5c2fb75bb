"""Parts that the modules of several namespaces use: sysctls, links and addresses of ports, matches of rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dvr_agent.desired import names
from dvr_agent.desired.host_view import AddressPair, HostView, port_subnets
from dvr_agent.model.router import FloatingIp, RouterPort
from dvr_agent.state.address import Address
from dvr_agent.state.filter import CtStateMatch, Dnat, Family, FilterRule, Snat, Verdict
from dvr_agent.state.itemwise import frozen, itemwise
from dvr_agent.state.link import Link, Port
from dvr_agent.state.namespace import Outbound
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.sysctl import Sysctl

FAMILIES: tuple[Family, Family] = (4, 6)

BASE_SYSCTLS = (
    Sysctl("ipv4/ip_forward", "1"),
    Sysctl("ipv4/conf/default/forwarding", "1"),
    Sysctl("ipv4/conf/all/arp_ignore", "1"),
    Sysctl("ipv4/conf/all/arp_announce", "2"),
    Sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    Sysctl("ipv6/conf/all/forwarding", "1"),
)
"""Sysctls of every namespace of ours (``docs/dataplane.md``, "Sysctls")."""

NONLOCAL_BIND = Sysctl("ipv4/ip_nonlocal_bind", "1")

QROUTER_OWNERSHIP = Ownership(
    (names.INTERNAL, names.ROUTER_TO_FIP, names.GATEWAY, names.HA),
    rules=RuleOwner.QROUTER,
    kernel_rules=True,
    limited=names.LIMITED,
)
"""What is ours in a qrouter namespace, whatever kind the router is now: what it had of another kind goes."""

NOT_DNATED = CtStateMatch(frozenset({"DNAT"}), invert=True)
DNATED = CtStateMatch(frozenset({"DNAT"}))
ACCEPT = Verdict("ACCEPT")
DROP = Verdict("DROP")


@itemwise
def inbound_rules(pairs: Sequence[AddressPair], iif: str | None) -> list[FilterRule]:
    """Return the rules by which what comes to floating IPs goes to their fixed IPs."""
    return [FilterRule(Dnat(fixed), None, f"{address}/32", iif) for address, fixed in pairs]


@itemwise
def outbound_rules(pairs: Sequence[AddressPair], random_fully: bool) -> list[FilterRule]:
    """Return the rules by which fixed IPs go out as their floating IPs."""
    return [FilterRule(Snat(address, random_fully), f"{fixed}/32") for address, fixed in pairs]


def port_link(device: str, port: RouterPort, distributed: bool = False) -> Link:
    """Make the link of a Neutron port.

    :param distributed: the port is an interface of a distributed router
    """
    origin = Port(device, port.id, port.network_id, port.mac, port.mtu, distributed)
    return Link(device, port.mac, port.mtu, True, origin)


def port_addresses(device: str, port: RouterPort) -> list[Address]:
    """Make an address for each fixed IP of a port."""
    return [Address(device, fixed.cidr) for fixed in port.fixed_ips]


def outbound(
    view: HostView,
    fips: Sequence[FloatingIp],
    pairs: Sequence[AddressPair],
    inside: Iterable[tuple[str, RouterPort]],
    routes: Iterable[Route],
) -> Outbound:
    """Select the connections to delete when the namespace starts to translate their address to a floating IP.

    An address in the external network's address scope is routed without translation: its connections stay.

    :param pairs: addresses of these floating IPs
    :param inside: internal devices of the namespace, with their ports
    :param routes: routes of the main table by those devices
    """
    gateway = view.router.gateway
    scope = gateway.scope4 if gateway is not None else None
    translated = zip(fips, pairs, strict=True)
    addresses = tuple([fixed for fip, (_, fixed) in translated if scope is None or fip.fixed_scope != scope])
    ports = [port for _, port in inside]
    networks = {str(subnet.cidr) for port in ports for _, subnet in port_subnets(port) if subnet.cidr.version == 4}
    networks |= {str(ip.network) for port in ports for ip in port.fixed_ips if ip.address.version == 4}
    networks |= {route.dst for route in routes if route.table == MAIN_TABLE and ":" not in route.dst}
    return Outbound(frozen(view.router.id, "outbound", addresses), tuple(sorted(networks)))


def has_family(port: RouterPort, family: Family) -> bool:
    """True if the port has an address of the family."""
    return any(fixed.address.version == family for fixed in port.fixed_ips)
