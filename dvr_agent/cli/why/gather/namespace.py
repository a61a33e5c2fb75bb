"""Reads a namespace as it is, foreign objects too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import TypeVar

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.cli.why.facts import ConnectionFacts, FilterFacts, NamespaceFacts, PolicyFacts
from dvr_agent.cli.why.gather.filter_text import parse_iptables, parse_nft
from dvr_agent.cli.why.gather.ip_text import parse_links, parse_neighbours, parse_policies, parse_routes, parse_rules
from dvr_agent.cli.why.gather.tools import ip, run_in
from dvr_agent.errors import DvrError
from dvr_agent.kernel import capability
from dvr_agent.kernel.conntrack.message import Connection, decode_connection, dump_connections, transport
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.filter import Family
from dvr_agent.state.ownership import Ownership
from dvr_agent.trace.packet import PROTOCOLS

FAMILIES: tuple[Family, ...] = (4, 6)
TRACKED = ("netfilter/nf_conntrack_count", "netfilter/nf_conntrack_max")
MOST_CONNECTIONS = 1000
T = TypeVar("T")
_PROTOCOLS = {number: name for name, number in PROTOCOLS.items()}


def read_namespace(kernel: KernelReader, name: str, addresses: Collection[str]) -> NamespaceFacts:
    """Read a namespace.

    :param addresses: whose tracked connections are read
    """
    if not kernel.namespaces.exists(name):
        return NamespaceFacts(name, exists=False)
    unread: dict[str, str] = {}
    return NamespaceFacts(
        name,
        links=_try(unread, "links", lambda: parse_links(ip(name, "-j", "-d", "link", "show")), ()),
        rules=_try(unread, "rules", lambda: _both(name, parse_rules, "rule", "show"), ()),
        routes=_try(unread, "routes", lambda: _both(name, parse_routes, "route", "show", "table", "all"), ()),
        neighbours=_try(unread, "neighbours", lambda: tuple(parse_neighbours(ip(name, "neigh", "show"))), ()),
        filters=read_filters(name, unread),
        policies=_try({}, "xfrm", lambda: _policies(name), ()),  # a kernel without IPsec has none
        connections=_try(unread, "conntrack", lambda: _connections(name, addresses), ()),
        tracked=_try(unread, "conntrack", lambda: _tracked(kernel, name), None),
        drops=_try(unread, "nft", lambda: kernel.interfaces.limit_drops(name), ()),
        unread=unread,
    )


def read_filters(name: str, unread: dict[str, str]) -> tuple[FilterFacts, ...]:
    """Read the packet filter rules of others that drop or translate, in a namespace; ``""`` is the host's.

    :param unread: gets what could not be read
    """
    found: list[FilterFacts] = []
    for family, program in zip(FAMILIES, ("iptables", "ip6tables"), strict=True):
        if not capability.has_legacy_tables(family):
            continue
        save = f"{program}-legacy-save"
        read = _try(unread, "iptables", lambda save=save: run_in(name, save, "-c"), "")  # type: ignore[misc]
        found += parse_iptables(read, program)
    found += parse_nft(_try(unread, "nft", lambda: run_in(name, "nft", "list", "ruleset"), ""))
    return tuple(found)


def _both(name: str, parse: Callable[[str, int], object], *words: str) -> tuple:  # type: ignore[type-arg]
    """Parse the output of both families."""
    return tuple(one for family in FAMILIES for one in parse(ip(name, f"-{family}", *words), family))  # type: ignore[attr-defined]


def _try(unread: dict[str, str], what: str, read: Callable[[], T], otherwise: T) -> T:
    """Return what a function reads; where it cannot, note why."""
    try:
        return read()
    except (DvrError, ValueError) as exc:
        unread.setdefault(what, str(exc))
        return otherwise


def _policies(name: str) -> tuple[PolicyFacts, ...]:
    return tuple(parse_policies(ip(name, "xfrm", "policy"), ip(name, "xfrm", "state")))


def _tracked(kernel: KernelReader, name: str) -> tuple[int, int] | None:
    state = kernel.interfaces.observe(name, Ownership(), TRACKED)
    values = {sysctl.key: sysctl.value for sysctl in state.sysctls} if state is not None else {}
    if not all(values.get(key, "").isdigit() for key in TRACKED):
        return None
    return int(values[TRACKED[0]]), int(values[TRACKED[1]])


def _connections(name: str, addresses: Collection[str]) -> tuple[ConnectionFacts, ...]:
    """Read the tracked IPv4 connections of these addresses, the first :data:`MOST_CONNECTIONS` of them."""
    wanted = [ip_address(one).packed for one in addresses if ":" not in one]
    if not wanted:
        return ()
    with NetlinkSocket.open(name, None, NETLINK_NETFILTER) as sock:
        data = sock.dump_containing(dump_connections(4, "tracked connections"), tuple(wanted))
    found = [decode_connection(one, 4) for one in data[:MOST_CONNECTIONS]]
    return tuple(_connection(one) for one in found if one is not None and set(one.addresses) & set(wanted))


def _connection(one: Connection) -> ConnectionFacts:
    protocol, sport, dport = transport(one)
    name = _PROTOCOLS.get(protocol, str(protocol) if protocol >= 0 else "")
    src, dst, reply_src, reply_dst = ("" if ip is None else str(ip_address(ip)) for ip in one.addresses)
    return ConnectionFacts(src, dst, reply_src, reply_dst, name, sport, dport)
