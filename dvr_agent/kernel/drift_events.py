"""Hears changes of links, addresses, routes, rules, neighbours and nf_tables, as they happen.  Knows no routers.

One socket hears all namespaces that :meth:`DriftEvents.listen` named.  It lives in a nameless namespace of its own, in
which they have numbers (NSID) and the host's namespace has none: so that it does not hear the host's routes and
neighbours, of which a host that speaks BGP or EVPN has any number, and so that programs on the host that hear all
numbered namespaces (ovs-vswitchd) get no more to hear.  A second socket hears the links of the host: taps and bridges.
A third one, where nf_tables are used, lives beside the first and hears that another program has changed the rule set of
a namespace; what it has changed there is to be read.  inotify(7) on ``/run/netns`` tells of namespaces that are
removed.

Linux delivers notifications of a namespace to sockets in another one to openers with CAP_NET_BROADCAST only.
Blocking code for one thread, except :meth:`DriftEvents.fileno`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.rtnl import RTM_DELNSID

from dvr_agent.errors import KernelError
from dvr_agent.kernel import event_decoding, netns
from dvr_agent.kernel.inotify import Inotify, Mask
from dvr_agent.kernel.netlink.endpoint import open_raw
from dvr_agent.kernel.netlink.handler import NO_DEVICE
from dvr_agent.kernel.netlink.link import dump_links, get_link, index_and_name
from dvr_agent.kernel.netlink.listener import ALL_GROUPS, LINKS, NFTABLES, OWN, Listener, Notification
from dvr_agent.kernel.netlink.nsid import NETNSA_FD, decode_nsid, get_nsid, new_nsid
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.message import decode_author
from dvr_agent.state.kind import KernelObject

HOST = ""
"""Name of the host's namespace."""
_ALL, _HOST_LINKS, _RULE_SETS, _ASKING = "all", "host-links", "rule-sets", "asking"
"""What the sockets are for."""
_EXISTS = frozenset({errno.EEXIST})
NUMBERS = 1 << 30
"""More than all namespaces that there will be."""


class RuleSetChange(NamedTuple):
    """A transaction of another program on the nf_tables of a namespace, its own tables or ours.

    :ivar namespace: name
    :ivar pid: of the program
    """

    namespace: str
    pid: int
    program: str


class Event(NamedTuple):
    """A change that was heard.

    :ivar namespace: name, :data:`HOST` for the host's
    :ivar item: the object as it is now, or was; None: the namespace's name was removed
    :ivar present: the object is there now
    :ivar port: port id of the socket that asked for the change, 0: the kernel, or not known
    :ivar protocol: of a route or rule that was added: the program that it is of; empty: not known
    :ivar is_new: a link that was not there before
    """

    namespace: str
    item: KernelObject | None
    present: bool
    port: int
    protocol: str = ""
    is_new: bool = False


AnyEvent = Event | RuleSetChange


class _Ear(NamedTuple):
    """A namespace that is heard: its number, the inode it had when it got it; ``is_whole``: heard since it is there."""

    number: int
    inode: int
    is_whole: bool = False


class Kept(NamedTuple):
    """What :meth:`DriftEvents.keep` leaves for the next process.

    :ivar record: JSON: which namespaces are heard by which numbers, with the names of their devices
    :ivar descriptors: the sockets, by what they are for
    """

    record: dict[str, Any]
    descriptors: dict[str, int]


class DriftEvents:
    """All sockets of the host's events behind one descriptor.

    :param nftables: hear changes of nf_tables too
    :param kept: what an earlier process has kept; its descriptors are closed with this object, or if this fails
    :param is_busy: says, by the name, of a namespace in which things change all the time, whatever its age
    :ivar heard: number of notifications so far
    :raises KernelError: a socket cannot be opened, or what was kept cannot be used
    """

    def __init__(
        self, nftables: bool = False, kept: Kept | None = None, is_busy: Callable[[str], bool] = lambda name: False
    ) -> None:
        self._ears: dict[str, _Ear] = {}
        self._names: dict[int, str] = {}
        self._devices: dict[str, dict[int, str]] = {}
        self._is_busy, self._first_number, self._last_number = is_busy, 0, NUMBERS
        self._kept: set[str] = set()
        self._replaced: list[str] = []
        """Names that have got another namespace, of which the next read tells."""
        self.heard = 0
        sockets = _open(nftables) if kept is None else _adopt(nftables, kept.descriptors)
        self._all, self._host, self._rule_sets, self._asking = sockets
        self._listeners: dict[Listener, Callable[[Notification], Iterable[AnyEvent]]] = {
            self._all: self._events,
            self._host: _host_events,
        }
        if self._rule_sets is not None:
            self._listeners[self._rule_sets] = self._rule_set_events
        self._inotify = Inotify()
        self._watched = -1
        self._epoll = select.epoll()
        for descriptor in [one.fileno() for one in self._listeners] + [self._inotify.fileno()]:
            self._epoll.register(descriptor, select.EPOLLIN)
        if kept is not None:
            try:
                self._remember(kept.record)
            except (KeyError, TypeError, ValueError) as exc:
                self.close()
                raise KernelError("", "netlink socket", errno.EINVAL, "the kept record cannot be read") from exc

    def keep(self) -> Kept:
        """Return what another process needs to go on hearing all this; the sockets stay open here."""
        record = {
            "numbers": [self._first_number, self._last_number],
            "namespaces": {
                name: [ear.number, ear.inode, list(self._devices.get(name, {}).items())]
                for name, ear in self._ears.items()
            },
        }
        sockets: dict[str, Listener | NetlinkSocket | None] = {
            _ALL: self._all,
            _HOST_LINKS: self._host,
            _ASKING: self._asking,
            _RULE_SETS: self._rule_sets,
        }
        return Kept(record, {what: one.fileno() for what, one in sockets.items() if one is not None})

    def is_kept(self, name: str) -> bool:
        """Return True if a namespace was heard without a gap since an earlier process has kept its events."""
        return name in self._kept

    def _remember(self, record: dict[str, Any]) -> None:
        """Take over the numbers of the namespaces that are still those which the earlier process has heard."""
        self._first_number, self._last_number = map(int, record["numbers"])
        self._watch_names()  # first: a name that is removed from now on is heard
        for name, (number, inode, devices) in record["namespaces"].items():
            self._names[number] = name
            if netns.inode_of(name) == inode:  # not reused: the kernel numbers namespaces, and we hold none
                self._ears[name] = _Ear(number, inode)
                self._devices[name] = {int(index): str(device) for index, device in devices}
                self._kept.add(name)

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events."""
        return self._epoll.fileno()

    @property
    def buffer_size(self) -> int:
        """Size in bytes of the receive buffer that overflowed last, or may overflow next."""
        return max(listener.buffer_size for listener in self._listeners)

    def listen(self, name: str) -> bool:
        """Hear a namespace from now on; cheap for one that is heard already.

        :returns: False if it cannot be heard, or does not exist
        """
        inode = netns.inode_of(name)
        ear = self._ears.get(name)
        if inode is None:
            return False
        self._watch_names()  # also for a namespace that was heard before it had a name
        if ear is not None and ear.inode == inode:
            return True
        with contextlib.suppress(KernelError):
            fd = netns.open_namespace(name)
            try:
                self._hear(name, fd)
                self._devices[name] = _device_names(name)  # else the former name of one that is renamed is not known
            finally:
                os.close(fd)
        return name in self._ears

    def listen_new(self, name: str, descriptor: int) -> None:
        """Hear a namespace that is being made, before anybody else can change it.

        :param descriptor: of the namespace, whose name is not there yet
        """
        with contextlib.suppress(KernelError):
            self._hear(name, descriptor, is_whole=True)

    def _hear(self, name: str, descriptor: int, is_whole: bool = False) -> None:
        self._replace(name)
        number = self._number(name, descriptor)
        self._ears[name] = _Ear(number, os.fstat(descriptor).st_ino, is_whole)
        self._names[number] = name

    def hears_whole(self, name: str) -> bool:
        """Return True if a namespace is heard since it is there."""
        ear = self._ears.get(name)
        return ear is not None and ear.is_whole

    def read(self, limit: int) -> tuple[list[AnyEvent], bool]:
        """Return the next events, of at most ``limit`` notifications from each socket, and whether there may be more.

        :raises OverflowedError: the kernel has dropped some; the others are still there
        """
        events: list[AnyEvent] = [*self._removed_names()]
        full = False
        for listener, make in self._listeners.items():
            begun = self.heard
            for notification in listener.read(limit):
                self.heard += 1
                events += make(notification)
            full = full or self.heard - begun >= limit
        events += [Event(name, None, False, 0) for name in self._replaced]
        self._replaced.clear()
        return events, full

    def discard(self) -> None:
        """Throw away all waiting notifications: there are too many, or some were lost, and an audit follows.

        A namespace is heard anew when it is next listened to: that another one has its name is among what was lost.
        """
        for listener in self._listeners:
            listener.discard()
        self._ears.clear()
        self._devices.clear()
        self._kept.clear()

    def close(self) -> None:
        """Close everything."""
        for listener in self._listeners:
            listener.close()
        for one in (self._epoll, self._asking, self._inotify):
            one.close()

    def _events(self, notification: Notification) -> Iterator[Event]:
        """Yield the events of a notification."""
        if notification.namespace == OWN:
            if notification.kind == RTM_DELNSID:
                self._namespace_ended(decode_nsid(notification.body))
            return
        name = self._names.get(notification.namespace)
        if name is None:
            return
        if notification.kind in event_decoding.LINK_KINDS:
            yield from self._of_link(name, notification)
            return
        indexes = self._names_of(name, event_decoding.device_indexes(notification))
        for found in event_decoding.decode(notification, indexes):
            yield Event(name, *found, notification.port, event_decoding.protocol_of(notification))

    def _rule_set_events(self, notification: Notification) -> Iterator[RuleSetChange]:
        """Yield the event of a transaction on nf_tables in one of the namespaces."""
        name = self._names.get(notification.namespace)
        if name is not None:
            yield RuleSetChange(name, *decode_author(notification.body))

    def _of_link(self, name: str, notification: Notification) -> Iterator[Event]:
        """Learn the name of a link; yield its event, after the end of the link that had its index by another name."""
        index, now = event_decoding.link_of(notification)
        known = self._devices.setdefault(name, {})
        before = known.get(index)
        if notification.kind in event_decoding.GONE_LINK:
            known.pop(index, None)
        else:
            known[index] = now
        for item, present in event_decoding.decode(notification, {}):
            if before not in (now, None):
                yield Event(name, item._replace(name=before), False, notification.port)  # type: ignore[attr-defined]
            yield Event(name, item, present, notification.port, is_new=before is None)

    def _names_of(self, name: str, indexes: Iterable[int]) -> dict[int, str]:
        """Return index → name of the devices of a namespace that are known: those of a notification are, if they exist.

        A name that was heard stays until its change is heard: the kernel may be ahead of the events.
        """
        known = self._devices.setdefault(name, {})
        unknown = [index for index in indexes if index not in known]
        if unknown:
            with contextlib.suppress(KernelError), NetlinkSocket.open(name, None) as sock:
                answers = sock.get([get_link(index, NO_DEVICE) for index in unknown])
                known.update(index_and_name(data) for data in answers if data is not None)
        return known

    def _number(self, name: str, fd: int) -> int:
        """Give a namespace a number in the sockets' namespace, or return the one that it has.

        Numbers are never used twice, so that late events of a removed namespace are not taken for its successor's.
        They go downwards, but for busy namespaces: for each notification the kernel looks for its namespace among all
        with a number, one by one from the lowest on (``__peernet2id``), and most are of the newest namespace.
        """
        what = f"number of namespace {name}"
        if self._is_busy(name):
            number = self._first_number = self._first_number + 1
        else:
            number = self._last_number = self._last_number - 1
        refused = self._asking.batch([new_nsid(what, NETNSA_FD, fd, _EXISTS, number)])
        if not refused:
            return number
        (answer,) = self._asking.get([get_nsid(what, NETNSA_FD, fd)])
        return number if answer is None else decode_nsid(answer)

    def _namespace_ended(self, number: int) -> None:
        """Forget a number: its namespace is gone, and another one may get the inode."""
        name = self._names.pop(number, None)
        if name is not None and self._ears.get(name, _Ear(-1, 0)).number == number:
            self._forget(name)

    def _replace(self, name: str) -> None:
        """Forget a name that has another namespace by now; its removal, if it waits to be read, looks outdated."""
        if name in self._ears:
            self._replaced.append(name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Forget a name; its number stays known for the events that come until the kernel has removed the namespace."""
        self._ears.pop(name, None)
        self._devices.pop(name, None)
        self._kept.discard(name)

    def _removed_names(self) -> Iterator[Event]:
        """Yield the names that were removed from ``/run/netns`` and have no namespace now."""
        if self._watched < 0:
            return
        for event in self._inotify.read():
            if event.mask & (Mask.IGNORED | Mask.UNMOUNT):
                self._watched = -1
            if event.mask & (Mask.DELETE | Mask.MOVED_FROM) and event.name in self._ears:
                ear = self._ears[event.name]
                if netns.inode_of(event.name) != ear.inode:
                    self._forget(event.name)
                    yield Event(event.name, None, False, 0)

    def _watch_names(self) -> None:
        """Watch ``/run/netns``, which exists when there is a namespace; watched again when it was replaced."""
        if self._watched >= 0:
            return
        with contextlib.suppress(OSError):
            directory = os.open(netns.NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._watched = self._inotify.watch(directory, Mask.DELETE | Mask.MOVED_FROM)
            finally:
                os.close(directory)


def _device_names(namespace: str) -> dict[int, str]:
    """Return index → name of the devices of a namespace."""
    with NetlinkSocket.open(namespace, None) as sock:
        return dict(map(index_and_name, sock.dump(dump_links())))


def _host_events(notification: Notification) -> Iterator[Event]:
    """Yield the events of a notification of the host's namespace."""
    for found in event_decoding.decode(notification, {}):
        yield Event(HOST, *found, notification.port)


_Sockets = tuple[Listener, Listener, Listener | None, NetlinkSocket]
"""What hears all namespaces, the host's links, and nf_tables; and the one that asks for numbers."""


def _open(nftables: bool) -> _Sockets:
    """Open the sockets; all but that of the host in a nameless namespace, which lives as long as they do.

    :raises KernelError: they cannot be opened
    """
    try:
        with netns.nameless():
            everywhere = Listener(ALL_GROUPS, everywhere=True)
            rule_sets = Listener(NFTABLES, everywhere=True, protocol=NETLINK_NETFILTER) if nftables else None
            asking = NetlinkSocket(HOST, open_raw(HOST), None)
    except OSError as exc:
        raise KernelError("", "namespace", exc.errno or errno.EIO, "events cannot be heard") from exc
    return everywhere, Listener(LINKS), rule_sets, asking


def _adopt(nftables: bool, kept: Mapping[str, int]) -> _Sockets:
    """Take over the sockets of an earlier process.

    :raises KernelError: they are not those that are needed; all are closed
    """
    sockets = {what: socket.socket(fileno=descriptor) for what, descriptor in kept.items()}
    try:
        if sockets.keys() != {_ALL, _HOST_LINKS, _ASKING, *([_RULE_SETS] if nftables else [])}:
            raise KernelError("", "netlink socket", errno.EBADF, f"kept were {', '.join(sorted(kept)) or 'none'}")
        return (
            Listener(ALL_GROUPS, everywhere=True, kept=sockets[_ALL]),
            Listener(LINKS, kept=sockets[_HOST_LINKS]),
            Listener(NFTABLES, True, NETLINK_NETFILTER, sockets[_RULE_SETS]) if nftables else None,
            NetlinkSocket(HOST, sockets[_ASKING], None),
        )
    except KernelError:
        for one in sockets.values():
            one.close()
        raise
