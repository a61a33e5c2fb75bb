"""Read and write bandwidth limits in traffic control, for kernels whose nf_tables cannot limit.

Each limit is a u32 filter with a police action (:mod:`~dvr_agent.kernel.netlink.police`) in the ``clsact`` qdisc of its
device: its two hooks are before NAT on the way in and after it on the way out, and it takes no part in queueing, where
the ``htb`` of neutron-l3-agent has a lock that every packet passes.  ``clsact`` comes with the first limit of a device,
and goes with our last filter unless another program has filters there.  Where neutron-l3-agent's ``ingress`` is in its
place, without filters of other programs, one netlink batch puts ``clsact`` there.

Changes are made one after the other, not in a transaction: each of them leaves no packet unlimited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dvr_agent.kernel.netlink.link import decode_brief, dump_links
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.police import (
    HOOKS,
    INGRESS,
    PoliceFilter,
    add_clsact,
    count_filters,
    decode_filters,
    decode_qdiscs,
    delete_filter,
    delete_filters,
    delete_ingress_qdisc,
    dump_filters,
    dump_limits,
    dump_qdiscs,
    put_filter,
)
from dvr_agent.kernel.netlink.policer import decode_policers
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import DIRECTIONS, Drops, Limit


def read_limits(sock: NetlinkSocket, devices: Mapping[int, str] | None = None) -> Iterator[Limit]:
    """Yield the limits on devices of the socket's namespace.

    :param devices: index → name; None: all
    """
    for one in _read(sock, devices):
        yield one.limit


def read_drops(sock: NetlinkSocket) -> Iterator[Drops]:
    """Yield what the limits in the socket's namespace have dropped: nothing of an address that has lost no packet."""
    for _handle, limit, drops in _read(sock, None):
        if drops:
            yield Drops(limit.device, limit.direction, limit.address, drops)


def write_limits(sock: NetlinkSocket, changes: Iterable[Change]) -> None:
    """Add, change and remove limits in the socket's namespace.

    :raises KernelError: naming the first change that was refused; others were made
    """
    by_device: dict[str, list[tuple[Action, Limit]]] = {}
    for change in changes:
        if isinstance(change.item, Limit):
            by_device.setdefault(change.item.device, []).append((change.action, change.item))
    kinds = _qdiscs(sock)
    requests: list[Request] = []
    for device, wanted in by_device.items():
        index = sock.index_of(device) or 0  # the kernel refuses what is for a device that is not there
        if any(action is not Action.REMOVE for action, _limit in wanted):
            _make_clsact(sock, device, index, kinds.get(index, ""))
        requests += _requests(sock, device, index, wanted)
    sock.batch(requests)


def _read(sock: NetlinkSocket, devices: Mapping[int, str] | None) -> Iterator[PoliceFilter]:
    kinds = _qdiscs(sock)
    if devices is None:
        devices = {link.ifindex: link.name for link in map(decode_brief, sock.dump(dump_links()))} if kinds else {}
    for index, device in devices.items():
        for direction in DIRECTIONS if kinds.get(index) == "clsact" else ():
            yield from decode_filters(sock.dump(dump_limits(index, direction)), device, direction)


def _qdiscs(sock: NetlinkSocket) -> dict[int, str]:
    """Return the kind of a device's ``clsact`` or ``ingress``, by index.

    A filter that is meant for either hook of ``clsact`` is accepted at the one hook of ``ingress``.
    """
    return {index: kind for index, handle, kind in decode_qdiscs(sock.dump(dump_qdiscs())) if handle == INGRESS}


def _make_clsact(sock: NetlinkSocket, device: str, index: int, kind: str) -> None:
    """Make a ``clsact`` qdisc, before any filter is sent for it.

    :param kind: of the qdisc that is in its place; empty: none
    """
    if kind == "clsact":
        return
    if kind != "ingress":
        sock.batch([add_clsact(device, index)])
    elif _is_of_neutron(sock, device, index):
        sock.batch([delete_ingress_qdisc(device, index, kind), add_clsact(device, index)])
    else:
        sock.batch([add_clsact(device, index, " in place of ingress, which has filters of another program")])


def _requests(sock: NetlinkSocket, device: str, index: int, wanted: Sequence[tuple[Action, Limit]]) -> list[Request]:
    """Return what makes the changes on one device."""
    requests: list[Request] = []
    removed, left = 0, 0
    for direction in DIRECTIONS:
        found = sock.dump(dump_limits(index, direction))
        ours = list(decode_filters(found, device, direction))
        puts, deletes = _edits(ours, index, [one for one in wanted if one[1].direction == direction])
        stay = len(puts) + count_filters(found) - len(deletes)
        requests += [*puts, *(deletes if stay or not deletes else [delete_filters(device, index, direction)])]
        removed, left = removed + len(deletes), left + stay
    if removed and not left and removed == _count_all(sock, index):
        return [delete_ingress_qdisc(device, index, "clsact")]
    return requests


def _edits(
    ours: Iterable[PoliceFilter], index: int, wanted: Iterable[tuple[Action, Limit]]
) -> tuple[list[Request], list[Request]]:
    """Return the filters to be made or replaced, and those to be deleted, at one hook."""
    handles: dict[str, list[int]] = {}
    for one in ours:
        handles.setdefault(one.limit.address, []).append(one.handle)
    puts, deletes = list[Request](), list[Request]()
    for action, limit in wanted:
        old = handles.pop(limit.address, [])
        if action is not Action.REMOVE:
            puts.append(put_filter(limit, index, old.pop(0) if old else 0))
        deletes += [delete_filter(limit, index, handle) for handle in old]
    return puts, deletes


def _count_all(sock: NetlinkSocket, index: int) -> int:
    """Return the number of filters in a ``clsact`` qdisc, of all programs."""
    return sum(count_filters(sock.dump(dump_filters(index, hook))) for hook in HOOKS.values())


def _is_of_neutron(sock: NetlinkSocket, device: str, index: int) -> bool:
    """True if an ``ingress`` qdisc has no filters but those of neutron-l3-agent."""
    found = sock.dump(dump_filters(index, INGRESS))
    return count_filters(found) == sum(1 for _ in decode_policers(found, device, "entering"))
