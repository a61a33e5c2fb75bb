"""Carry out changes in one namespace: in the given order, in as few netlink batches as that order allows.

A batch ends only where an answer is needed: the index of a device that was just made, a parameter that has to be
written between, links that are removed together.  Called by :mod:`dvr_agent.kernel.plumber`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from dvr_agent.errors import KernelError
from dvr_agent.kernel import sysctl
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.address import (
    add_address,
    decode_addresses,
    decode_link_locals,
    delete_address,
    dump_addresses,
)
from dvr_agent.kernel.netlink.link import (
    PeerEnd,
    add_veth,
    delete_group,
    delete_link,
    get_link,
    index_and_name,
    keep_secondaries,
    set_link,
)
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, Data, Request
from dvr_agent.kernel.netlink.neighbour import add_neighbour, delete_neighbour
from dvr_agent.kernel.netlink.route import (
    add_route,
    decode_routes,
    delete_route,
    dump_routes,
    is_connected_only,
    prepend_route,
    replace_route,
)
from dvr_agent.kernel.netlink.rule import add_rule, delete_rule
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import open_namespace
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change, Item
from dvr_agent.state.link import Link, Veth, VethPeer
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl

GROUP_TO_DELETE = 0x64767264
"""Link group ("dvrd") in which links meet on their way out; whatever is in it was put there to be removed."""

_EXISTS = frozenset({errno.EEXIST})
_NO_DEVICE = frozenset({errno.ENODEV})
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL})
"""What the kernel answers when the object to be removed is not there (any more)."""

_NO_IPV4 = _GONE | {errno.EAFNOSUPPORT}


def apply(namespace: str, changes: Sequence[Change], counters: WriteCounters) -> None:
    """See :meth:`dvr_agent.kernel.api.InterfacePlumber.apply`."""
    with NetlinkSocket.open(namespace, counters) as sock:
        job = _Job(namespace, sock, counters, changes)
        try:
            for stage, group in groupby(changes, key=_stage):
                stage(job, list(group))
            job.flush()
        finally:
            job.close()


class _Job:
    """One call of :func:`apply`: the requests not sent yet, and the device indexes learned so far."""

    def __init__(self, namespace: str, sock: NetlinkSocket, counters: WriteCounters, changes: Sequence[Change]) -> None:
        self._namespace = namespace
        self._sock = sock
        self._counters = counters
        self._pending: list[Request] = []
        self._descriptors: dict[str, int] = {}
        self._indexes: dict[str, int] = {}
        self._absent: set[str] = set()
        self._promoting: set[str] = set()
        self._leaving = {
            (change.item.device, change.item.ip): change.item
            for change in changes
            if change.action is Action.REMOVE and isinstance(change.item, Address) and ":" in change.item.cidr
        }

    def close(self) -> None:
        for fd in self._descriptors.values():
            os.close(fd)
        self._descriptors.clear()

    def flush(self) -> None:
        """Send what is pending; what was there already must be just what was to be made."""
        requests, self._pending = self._pending, []
        present: dict[tuple[int, int], frozenset[object]] = {}
        for request, code in self._sock.batch(requests):
            if code == errno.EEXIST and not self._same(request.what, present):
                instead = self._instead(request)
                if instead:
                    self._sock.batch(instead)
                    continue
                raise KernelError(self._namespace, request.text, code, "another one is in its place")

    # Stages: runs of changes that are handled alike.

    def objects(self, changes: Sequence[Change]) -> None:
        """Everything that goes into a batch one by one."""
        for position, change in enumerate(changes):
            item = change.item
            devices = _devices(item)
            if any(device not in self._indexes and device not in self._absent for device in devices):
                self.flush()
                self._learn(changes[position:])
            if not self._absent.isdisjoint(devices) and not self._without_device(change):
                continue
            _ENCODERS[type(item)](self, change)

    def sysctls(self, changes: Sequence[Change]) -> None:
        self.flush()
        items = [change.item for change in changes if isinstance(change.item, Sysctl)]
        sysctl.write(self._namespace, items, self._counters)

    def unlink(self, changes: Sequence[Change]) -> None:
        """Links that go.  Several at once go by group: the kernel waits for RCU once, not once for each."""
        names = [change.item.name for change in changes if isinstance(change.item, Link)]
        if len(names) == 1:
            self._pending.append(delete_link(names[0], changes[0].item, _GONE))
        else:
            self._pending += [
                set_link(name, group=GROUP_TO_DELETE, what=change.item, tolerate=_GONE)
                for name, change in zip(names, changes, strict=True)
            ]
            self._pending.append(delete_group(GROUP_TO_DELETE, f"links {', '.join(names)}", _GONE))
        for name in names:
            self._forget(name)

    # Device names and indexes.

    def _learn(self, changes: Iterable[Change]) -> None:
        """Look up all devices that the coming changes name, in one go."""
        missing = sorted({name for change in changes for name in _devices(change.item)} - self._indexes.keys())
        answers = self._sock.get([get_link(name, _NO_DEVICE) for name in missing])
        for name, data in zip(missing, answers, strict=True):
            if data is None:
                self._absent.add(name)
            else:
                self._indexes[name] = index_and_name(data)[0]

    def _forget(self, name: str) -> None:
        self._indexes.pop(name, None)
        self._absent.discard(name)

    def _without_device(self, change: Change) -> bool:
        """A device is not there: True if something remains to be done, namely hops of a route by other devices."""
        if change.action is not Action.REMOVE:
            self.flush()
            missing = sorted(self._absent.intersection(_devices(change.item)))
            raise KernelError(self._namespace, change.item.text, errno.ENODEV, f"no device {', '.join(missing)}")
        return isinstance(change.item, Route) and any(hop.device in self._indexes for hop in change.item.hops)

    # One encoder per kind of object.

    def link(self, change: Change) -> None:
        link = change.item
        assert isinstance(link, Link)
        self._forget(link.name)
        if change.action is Action.CHANGE:
            self._pending.append(_changed_link(link, change.old))
        elif isinstance(link.origin, VethPeer):
            self._pending.append(set_link(link.name, up=link.up, mac=link.mac, mtu=link.mtu, what=link))
        elif isinstance(link.origin, Veth):
            name, mac = link.origin.peer_name, link.origin.peer_mac
            peer = PeerEnd(name, mac, link.mtu, self._descriptor(link.origin.peer_namespace))
            what = f"{link.text} (veth, peer {name} in {link.origin.peer_namespace or '(host)'})"
            self._pending.append(add_veth(link.name, link.mac, link.mtu, link.up, peer, what))
        else:
            raise ValueError(f"a {type(link.origin).__name__} is made by its attach driver: {link.text}")

    def address(self, change: Change) -> None:
        address = change.item
        assert isinstance(address, Address)
        index = self._indexes[address.device]
        if change.action is not Action.REMOVE:
            # IPv6 has an address once per device, whatever its prefix length: the old one has to go first.
            old = self._leaving.get((address.device, address.ip))
            if old is not None and old != address:
                self._pending.append(delete_address(old, index, _GONE))
            self._pending.append(add_address(address, index, _EXISTS))
            return
        if ":" not in address.cidr and address.device not in self._promoting:
            self._promoting.add(address.device)
            self._pending.append(keep_secondaries(index, f"promote_secondaries of {address.device}", _NO_IPV4))
        self._pending.append(delete_address(address, index, _GONE))

    def route(self, change: Change) -> None:
        route = change.item
        assert isinstance(route, Route)
        if change.action is Action.ADD:
            self._pending.append(add_route(route, self._indexes, _EXISTS))
        elif change.action is Action.CHANGE:
            self._pending.append(replace_route(route, self._indexes))
        else:
            left = tuple(hop for hop in route.hops if hop.device in self._indexes)
            self._pending.append(delete_route(route._replace(hops=left), self._indexes, _GONE))

    def rule(self, change: Change) -> None:
        assert isinstance(change.item, Rule)
        if change.action is Action.REMOVE:
            self._pending.append(delete_rule(change.item, _GONE))
        else:
            self._pending.append(add_rule(change.item, _EXISTS))

    def neighbour(self, change: Change) -> None:
        neighbour = change.item
        assert isinstance(neighbour, Neighbour)
        index = self._indexes[neighbour.device]
        if change.action is Action.REMOVE:
            self._pending.append(delete_neighbour(neighbour, index, _GONE))
        else:
            self._pending.append(add_neighbour(neighbour, index))

    def _descriptor(self, namespace: str) -> int:
        fd = self._descriptors.get(namespace)
        if fd is None:
            fd = self._descriptors[namespace] = open_namespace(namespace)
        return fd

    def _instead(self, request: Request) -> list[Request]:
        """Requests that get an object to its place although the kernel has put one of its own there; else empty.

        * The IPv4 route of a subnet that was connected until now: its address goes after all that is new has come.
          IPv6 has such routes at a metric of their own.
        * The link-local address of a device that was raised just now, where it is to have another prefix length.
        """
        item = request.what
        if isinstance(item, Route) and ":" not in item.dst:
            if is_connected_only(self._sock.dump(dump_routes(AF_INET, item.table)), item):
                return [prepend_route(item, self._indexes)]
        elif isinstance(item, Address):
            index = self._indexes[item.device]
            found = decode_link_locals(self._sock.dump(dump_addresses(index)), {index: item.device})
            old = next((one for one in found if one.ip == item.ip), None)
            if old is not None:
                return [delete_address(old, index, _GONE), request]
        return []

    def _same(self, item: object, present: dict[tuple[int, int], frozenset[object]]) -> bool:
        """Whether what the kernel has in the place of ``item`` is no different from it.

        :param present: what was read for that already, by device or by family and table
        """
        if isinstance(item, Address):
            key = (0, self._indexes[item.device])
        elif isinstance(item, Route):
            key = (AF_INET6 if ":" in item.dst else AF_INET, item.table)
        else:
            return isinstance(item, Rule)  # the kernel compares all of a rule
        if key not in present:
            names = {index: name for name, index in self._indexes.items()}
            present[key] = frozenset(
                decode_routes(self._sock.dump(dump_routes(*key)), names)
                if isinstance(item, Route)
                else _addresses(self._sock.dump(dump_addresses(key[1])), names)
            )
        return item in present[key]


def _addresses(messages: list[Data], names: dict[int, str]) -> Iterable[Address]:
    yield from decode_addresses(messages, names)
    yield from decode_link_locals(messages, names)


_ENCODERS: dict[type[Item], Callable[[_Job, Change], None]] = {
    Link: _Job.link,
    Address: _Job.address,
    Route: _Job.route,
    Rule: _Job.rule,
    Neighbour: _Job.neighbour,
}


def _stage(change: Change) -> Callable[[_Job, Sequence[Change]], None]:
    if isinstance(change.item, Sysctl):
        return _Job.sysctls
    if isinstance(change.item, Link) and change.action is Action.REMOVE:
        return _Job.unlink
    return _Job.objects


def _devices(item: Item) -> tuple[str, ...]:
    """Devices whose index the request for this item needs."""
    if isinstance(item, Address | Neighbour):
        return (item.device,)
    if isinstance(item, Route):
        return tuple(hop.device for hop in item.hops)
    return ()


def _changed_link(link: Link, old: Item | None) -> Request:
    """Only what differs, so that a wrong MTU does not touch the MAC address."""
    was = old if isinstance(old, Link) else None
    return set_link(
        link.name,
        up=link.up if was is None or was.up != link.up else None,
        mac=link.mac if was is None or was.mac != link.mac else None,
        mtu=link.mtu if was is None or was.mtu != link.mtu else None,
        what=link,
    )
