"""Read what a slice of a namespace holds: one window, one netlink socket, a dump per kind of object.

Two ways.  With device *prefixes* the whole namespace is read.  With device *names* only (a slice of a shared
namespace) the kernel does the filtering: what reaches Python has the size of the slice, not that of the namespace.
What is ours is decided by :class:`~dvr_agent.state.ownership.Ownership` alone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from dvr_agent.errors import NamespaceGoneError
from dvr_agent.kernel import sysctl
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.address import decode_addresses, decode_link_locals, dump_addresses
from dvr_agent.kernel.netlink.link import LOOPBACK, LinkInfo, decode_brief, dump_links, get_link, index_and_name
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, Data, Request
from dvr_agent.kernel.netlink.neighbour import decode_neighbours, dump_neighbours
from dvr_agent.kernel.netlink.route import decode_routes, dump_routes, hop_indexes
from dvr_agent.kernel.netlink.rule import KERNEL_PRIORITIES, decode_rules, dump_rules
from dvr_agent.kernel.netlink.transport import NetlinkSocket, open_raw
from dvr_agent.kernel.netns import entered
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.rule import Rule

_NO_DEVICE = frozenset({errno.ENODEV})
_NO_TABLE = frozenset({errno.ENOENT})
_ALL_TABLES = 0


def observe(
    namespace: str, ownership: Ownership, sysctls: Iterable[str], counters: WriteCounters
) -> NamespaceState | None:
    """See :meth:`dvr_agent.kernel.api.InterfacePlumber.observe`."""
    keys = tuple(sysctls)
    paths = sysctl.paths_of(namespace, keys)
    try:
        with entered(namespace):
            raw = open_raw(namespace)
            values = sysctl.read_here(paths)
    except NamespaceGoneError:
        return None
    with NetlinkSocket(namespace, raw, counters) as sock:
        whole = bool(ownership.prefixes)
        found, loopback = _links(sock) if whole else _named_links(sock, ownership)
        names = {link.ifindex: link.name for link in found}
        ours = {link.ifindex: link.name for link in found if ownership.owns_device(link.name)}
        addresses = list(_on_devices(sock, dump_addresses, whole, ours))
        routes = _routes(sock, names) if whole else _routes_of(sock, ownership, names)
        return NamespaceState(
            name=namespace,
            ownership=ownership,
            links=frozenset(_state(link) for link in found if link.ifindex in ours),
            addresses=frozenset(decode_addresses(addresses, ours)),
            routes=frozenset(route for route in routes if _owns_route(ownership, route)),
            rules=frozenset(rule for rule in _rules(sock, ownership) if _owns_rule(ownership, rule)),
            neighbours=frozenset(decode_neighbours(_on_devices(sock, dump_neighbours, whole, ours), ours)),
            sysctls=sysctl.as_values(namespace, keys, values),
            link_locals=frozenset(decode_link_locals(addresses, ours)),
            loopback=_state(loopback) if loopback is not None and ownership.kernel_rules else None,
        )


def _state(link: LinkInfo) -> Link:
    return Link(link.name, link.mac, link.mtu, link.up)


def _links(sock: NetlinkSocket) -> tuple[list[LinkInfo], LinkInfo | None]:
    """All links of the namespace, and which of them is ``lo``."""
    found = [decode_brief(data) for data in sock.dump(dump_links())]
    return found, next((link for link in found if link.ifindex == LOOPBACK), None)


def _named_links(sock: NetlinkSocket, ownership: Ownership) -> tuple[list[LinkInfo], LinkInfo | None]:
    """Links by name, and ``lo`` where the slice sees to it."""
    wanted: list[str | int] = [*sorted(ownership.devices)]
    if ownership.kernel_rules:
        wanted.append(LOOPBACK)
    answers = sock.get([get_link(link, _NO_DEVICE) for link in wanted])
    found = [decode_brief(data) for data in answers if data is not None]
    loopback = next((link for link in found if link.ifindex == LOOPBACK), None)
    return [link for link in found if link is not loopback or ownership.owns_device(link.name)], loopback


def _on_devices(
    sock: NetlinkSocket, request: Callable[[int], Request], whole: bool, ours: Iterable[int]
) -> Iterable[Data]:
    """Messages about addresses or neighbours: all of the namespace, or device by device."""
    if whole:
        return sock.dump(request(0))
    return [data for index in ours for data in sock.dump(request(index))]


def _routes(sock: NetlinkSocket, names: dict[int, str]) -> Iterable[Route]:
    return [route for family in (AF_INET, AF_INET6) for route in decode_routes(sock.dump(dump_routes(family)), names)]


def _routes_of(sock: NetlinkSocket, ownership: Ownership, names: dict[int, str]) -> Iterable[Route]:
    """Routes by the slice's devices (all tables or the main one), and those of the slice's own tables."""
    table = MAIN_TABLE if ownership.main_only else _ALL_TABLES
    requests = [dump_routes(family, table, index, _NO_TABLE) for family in (AF_INET, AF_INET6) for index in names]
    messages = [data for request in requests for data in sock.dump(request)]
    if ownership.tables:
        requests = [
            dump_routes(family, own, 0, _NO_TABLE) for family in (AF_INET, AF_INET6) for own in sorted(ownership.tables)
        ]
        own = [data for request in requests for data in sock.dump(request)]
        _learn(sock, {index for data in own for index in hop_indexes(data)}, names)
        messages += own
    return decode_routes(messages, names)


def _learn(sock: NetlinkSocket, indexes: set[int], names: dict[int, str]) -> None:
    """Names of further devices, which the routes of the slice's own tables use."""
    answers = sock.get([get_link(index, _NO_DEVICE) for index in sorted(indexes - names.keys())])
    names.update(index_and_name(data) for data in answers if data is not None)


def _rules(sock: NetlinkSocket, ownership: Ownership) -> Iterable[Rule]:
    if ownership.rules is RuleOwner.NONE:
        return decode_rules(sock.dump_containing(dump_rules(), KERNEL_PRIORITIES)) if ownership.kernel_rules else ()
    if ownership.rules is RuleOwner.BY_IIF:
        if ownership.prefixes:
            return decode_rules(sock.dump(dump_rules()))
        return decode_rules(sock.dump_containing(dump_rules(), [name.encode() + b"\0" for name in ownership.devices]))
    return decode_rules(sock.dump(dump_rules()))


def _owns_route(ownership: Ownership, route: Route) -> bool:
    hops = route.hops
    devices = (hops[0].device,) if len(hops) == 1 else tuple(hop.device for hop in hops)
    return ownership.owns_route(route.table, devices)


def _owns_rule(ownership: Ownership, rule: Rule) -> bool:
    return ownership.owns_rule(rule)
