"""Read the objects of a slice of a namespace: one entry into the namespace, one netlink socket, a dump per kind.

The ownership of the slice decides how much is read.  With device *prefixes* the whole namespace is read.  With device
*names* only (a slice of a shared namespace) the kernel filters: the answers have the size of the slice, not that of the
namespace.  Called by :mod:`dvr_agent.kernel.plumber`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from pyroute2.netlink import NETLINK_NETFILTER, NETLINK_ROUTE

from dvr_agent.errors import NamespaceGoneError
from dvr_agent.kernel import job_sockets, sysctl, tc_limits
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.kernel.kinds import HANDLERS
from dvr_agent.kernel.netlink.address import read_link_locals
from dvr_agent.kernel.netlink.handler import NO_DEVICE, AnyHandler, SliceReader
from dvr_agent.kernel.netlink.kernel_route import find_lost, find_lost_local
from dvr_agent.kernel.netlink.link import LOOPBACK, LinkInfo, adverse_parameters, decode_brief, dump_links, get_link
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.limits import read_drops, read_limits
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.limit import Drops, Limit
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership


def observe(
    namespace: str,
    ownership: Ownership,
    sysctls: Iterable[str],
    counters: WriteCounters,
    neighbours: Collection[Neighbour] | None = None,
) -> NamespaceState | None:
    """Read a slice; see :meth:`dvr_agent.kernel.api.InterfacePlumber.observe`.

    Where a route seems to be lost all is read once more: addresses, devices and routes are not read at one moment.
    """
    keys = tuple(sysctls)
    state = _observe(namespace, ownership, keys, counters, neighbours)
    if state is None or not state.lost_routes:
        return state
    return _observe(namespace, ownership, keys, counters, neighbours, state.lost_routes)


def _observe(
    namespace: str,
    ownership: Ownership,
    keys: tuple[str, ...],
    counters: WriteCounters,
    neighbours: Collection[Neighbour] | None,
    suspected: Collection[KernelRoute] | None = None,
) -> NamespaceState | None:
    """Read a slice once.

    :param suspected: the routes that seemed to be lost when it was read before
    """
    read_sysctls = functools.partial(sysctl.read_here, sysctl.paths_of(namespace, keys))
    in_tables = ownership.limited and not HostLimits.by_tc
    protocols = (NETLINK_ROUTE, NETLINK_NETFILTER) if in_tables else (NETLINK_ROUTE,)
    try:
        (opened, *filters), values = job_sockets.netlink_and(namespace, counters, protocols, read_sysctls)
    except NamespaceGoneError:
        return None
    with opened as sock:
        limits = _limits(filters[0], ownership) if filters else frozenset()
        found_links, loopback = _links(sock) if ownership.prefixes else _named_links(sock, ownership)
        links = [link for link, _ in found_links]
        names = {link.ifindex: link.name for link in links}
        owned = {link.ifindex: link.name for link in links if ownership.owns_device(link.name)}
        devices = frozenset(owned.values())
        if HostLimits.by_tc:
            limits = _tc_limits(sock, owned, ownership)
        reader = SliceReader(sock, ownership, names, owned, neighbours)
        found: dict[str, Any] = {handler.kind.field: _owned(handler, reader) for handler in HANDLERS}
        up = {link.ifindex for link in links if link.up and link.ifindex in owned and link is not loopback}
        lost = find_lost(reader, up)
        if suspected is not None and (lost := lost.intersection(suspected)):
            lost |= find_lost_local(reader, up)
        return NamespaceState(
            name=namespace,
            ownership=ownership,
            links=frozenset(_state(link) for link in links if link.ifindex in owned),
            sysctls=sysctl.as_values(namespace, keys, values),
            limits=frozenset(limit for limit in limits if limit.device in devices),
            link_locals=frozenset(read_link_locals(reader)),
            loopback=_state(loopback) if loopback is not None and ownership.kernel_rules else None,
            lost_routes=lost,
            adverse=frozenset(
                one
                for link, data in found_links
                if link.ifindex in owned
                for one in adverse_parameters(data, link.name)
            ),
            **found,
        )


def observe_limits(namespace: str, ownership: Ownership) -> frozenset[Limit]:
    """Read bandwidth limits only; see :meth:`dvr_agent.kernel.api.InterfacePlumber.limits`."""
    if HostLimits.by_tc:
        with job_sockets.netlink(namespace, None) as sock:
            names = {link.ifindex: link.name for link in map(decode_brief, sock.dump(dump_links()))}
            return _tc_limits(sock, names, ownership)
    return _limits(job_sockets.netlink(namespace, None, NETLINK_NETFILTER), ownership)


def observe_limit_drops(namespace: str) -> tuple[Drops, ...]:
    """Read what limits have dropped; see :meth:`dvr_agent.kernel.api.InterfacePlumber.limit_drops`."""
    if HostLimits.by_tc:
        with job_sockets.netlink(namespace, None) as sock:
            return tuple(tc_limits.read_drops(sock))
    with job_sockets.netlink(namespace, None, NETLINK_NETFILTER) as sock:
        return tuple(read_drops(sock))


def _limits(filters: AbstractContextManager[NetlinkSocket], ownership: Ownership) -> frozenset[Limit]:
    """Read the bandwidth limits in nf_tables that the slice owns.

    :param filters: socket of the netfilter family
    """
    with filters as sock:
        return frozenset(limit for limit in read_limits(sock) if ownership.limits(limit.device))


def _tc_limits(sock: NetlinkSocket, names: Mapping[int, str], ownership: Ownership) -> frozenset[Limit]:
    """Read the bandwidth limits in traffic control that the slice owns."""
    limited = {index: name for index, name in names.items() if ownership.limits(name)}
    return frozenset(tc_limits.read_limits(sock, limited)) if limited else frozenset()


def _owned(handler: AnyHandler, reader: SliceReader) -> frozenset[Any]:
    """Read the objects of one kind that the slice owns."""
    found = handler.read(reader)
    if handler.reads_owned_only:
        return frozenset(found)
    owned, ownership = handler.kind.owned, reader.ownership
    return frozenset([item for item in found if owned(ownership, item)])


def _state(link: LinkInfo) -> Link:
    return Link(link.name, link.mac, link.mtu, link.up)


def _links(sock: NetlinkSocket) -> tuple[list[tuple[LinkInfo, Data]], LinkInfo | None]:
    """Read all links of the namespace, with their messages; the second value is ``lo``."""
    found = [(decode_brief(data), data) for data in sock.dump(dump_links())]
    return found, next((link for link, _ in found if link.ifindex == LOOPBACK), None)


def _named_links(sock: NetlinkSocket, ownership: Ownership) -> tuple[list[tuple[LinkInfo, Data]], LinkInfo | None]:
    """Read links by name, with their messages, and ``lo`` where it belongs to the slice."""
    wanted: list[str | int] = [*sorted(ownership.devices)]
    if ownership.kernel_rules:
        wanted.append(LOOPBACK)
    answers = sock.get([get_link(link, NO_DEVICE) for link in wanted])
    found = [(decode_brief(data), data) for data in answers if data is not None]
    loopback = next((link for link, _ in found if link.ifindex == LOOPBACK), None)
    return [one for one in found if one[0] is not loopback or ownership.owns_device(one[0].name)], loopback
