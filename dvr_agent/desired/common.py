"""Parts that the three kinds of namespace share: sysctls, ports, address scope rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import NamedTuple

from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.desired.scope_marks import LOW_MASK, SCOPE_MASK
from dvr_agent.model.router import FloatingIp, RouterPort
from dvr_agent.state.address import Address
from dvr_agent.state.filter import (
    ConnmarkMatch,
    CtStateMatch,
    DportMatch,
    Family,
    FilterRule,
    MarkMatch,
    Redirect,
    RestoreConnmark,
    SetMark,
    Verdict,
)
from dvr_agent.state.link import Link, Port
from dvr_agent.state.namespace import Outbound
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.sysctl import Sysctl

FAMILIES: tuple[Family, Family] = (4, 6)

BASE_SYSCTLS = (
    Sysctl("ipv4/ip_forward", "1"),
    Sysctl("ipv4/conf/all/arp_ignore", "1"),
    Sysctl("ipv4/conf/all/arp_announce", "2"),
    Sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    Sysctl("ipv6/conf/all/forwarding", "1"),
)
"""Sysctls of every namespace of ours (``docs/dataplane.md``, "Sysctls")."""

IPV6_MIN_MTU = 1280
"""A device with a smaller MTU has no IPv6 at all: no addresses, routes or parameters (RFC 8200, IPV6_MIN_MTU)."""

NONLOCAL_BIND = Sysctl("ipv4/ip_nonlocal_bind", "1")

NOT_DNATED = CtStateMatch(frozenset({"DNAT"}), invert=True)
DNATED = CtStateMatch(frozenset({"DNAT"}))
ACCEPT = Verdict("ACCEPT")
DROP = Verdict("DROP")
UNMARKED_CONNECTION = ConnmarkMatch(0, SCOPE_MASK)
METADATA_ADDRESSES: dict[Family, str] = {4: "169.254.169.254/32", 6: "fe80::a9fe:a9fe/128"}


class ScopedDevice(NamedTuple):
    """A device, and the mark of an address scope that its packets of one family carry."""

    device: str
    mark: int


def port_link(device: str, port: RouterPort) -> Link:
    """Make the link of a Neutron port."""
    return Link(device, port.mac, port.mtu, True, Port(device, port.id, port.network_id, port.mac, port.mtu))


def port_addresses(device: str, port: RouterPort) -> list[Address]:
    """Make an address for each fixed IP of a port."""
    return [Address(device, fixed.cidr) for fixed in port.fixed_ips]


def outbound(
    view: HostView, fips: Iterable[FloatingIp], inside: Iterable[tuple[str, RouterPort]], routes: Iterable[Route]
) -> Outbound:
    """Select the connections to delete when the namespace starts to translate their address to a floating IP.

    An address in the external network's address scope is routed without translation: its connections stay.

    :param inside: internal devices of the namespace, with their ports
    :param routes: routes of the main table by those devices
    """
    gateway = view.router.gateway
    scope = gateway.scope4 if gateway is not None else None
    addresses = {str(fip.fixed_address) for fip in fips if scope is None or fip.fixed_scope != scope}
    ports = [port for _, port in inside]
    networks = {str(subnet.cidr) for port in ports for _, subnet in port_subnets(port) if subnet.cidr.version == 4}
    networks |= {
        str(IPv4Interface(ip.cidr).network) for port in ports for ip in port.fixed_ips if ip.address.version == 4
    }
    networks |= {route.dst for route in routes if route.table == MAIN_TABLE and ":" not in route.dst}
    return Outbound(frozenset(addresses), tuple(sorted(networks)))


def has_family(port: RouterPort, family: Family) -> bool:
    """True if the port has an address of the family."""
    return any(fixed.address.version == family for fixed in port.fixed_ips)


def scope_of(port: RouterPort, family: Family) -> str | None:
    """Return the address scope id of a port in a family."""
    return port.scope4 if family == 4 else port.scope6


def scope_mangle(devices: Iterable[ScopedDevice]) -> list[FilterRule]:
    """Mark incoming packets by the address scope of their device; a connection that has a mark keeps it."""
    marks = [FilterRule(SetMark(mark, SCOPE_MASK), iif=device) for device, mark in devices]
    return [*marks, RESTORE_SCOPE]


RESTORE_SCOPE = FilterRule(RestoreConnmark(SCOPE_MASK), matches=(ConnmarkMatch(0, SCOPE_MASK, invert=True),))


def scope_filter(devices: Iterable[ScopedDevice]) -> list[FilterRule]:
    """Drop packets that leave by a device of another address scope than they came from."""
    return [
        FilterRule(DROP, oif=device, matches=(MarkMatch(mark, SCOPE_MASK, invert=True),)) for device, mark in devices
    ]


def metadata_mark(family: Family, mark: int) -> FilterRule:
    """Mark requests of instances to the metadata address."""
    return FilterRule(
        SetMark(mark, LOW_MASK),
        dst=METADATA_ADDRESSES[family],
        iif="qr-+",
        protocol="tcp",
        matches=(DportMatch("tcp", 80, 80),),
    )


def metadata_redirect(family: Family, port: int) -> FilterRule:
    """Redirect requests to the metadata address to the proxy in the router's namespace."""
    return replace(metadata_mark(family, 0), target=Redirect(port))


def metadata_input(mark: int, port: int) -> tuple[FilterRule, ...]:
    """Accept redirected requests to the metadata address; drop packets that were sent to the proxy's port."""
    direct = FilterRule(DROP, protocol="tcp", matches=(DportMatch("tcp", port, port),))
    return FilterRule(ACCEPT, matches=(MarkMatch(mark, LOW_MASK),)), direct


def metadata_forward(mark: int) -> FilterRule:
    """Drop requests to the metadata address that were not redirected, because they are older than the rules."""
    return FilterRule(DROP, matches=(MarkMatch(mark, LOW_MASK),))
