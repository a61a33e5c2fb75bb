"""Handlers: how the objects of one kind are read from a namespace and written to it.

Each kind's module ends with its :class:`Handler`; :mod:`dvr_agent.kernel.kinds` lists them all.  ``kernel/observe.py``
reads, and ``kernel/apply.py`` writes, every kind that has one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.state.kind import KernelObject, Kind
from dvr_agent.state.ownership import Ownership

if TYPE_CHECKING:
    from dvr_agent.kernel.netlink.transport import NetlinkSocket
    from dvr_agent.state.neighbour import Neighbour

EXISTS = frozenset({errno.EEXIST})
"""The kernel's answer when an object of the same identity exists."""
GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL})
"""The kernel's answers when the object to be removed is not there (any more)."""

NO_DEVICE = frozenset({errno.ENODEV})
"""The kernel's answer to a request for a device, or for the objects on it, when the device is not there (any more)."""

T = TypeVar("T", bound=KernelObject)


@dataclass(slots=True)
class SliceReader:
    """One read of a slice of a namespace.

    :ivar names: index → name of every device that was found
    :ivar owned: index → name of every device that the slice owns
    :ivar neighbours: the only neighbours to look at; None: all
    :ivar routes: RTM_NEWROUTE messages of the routes that were read, also of those that the kernel made
    """

    sock: NetlinkSocket
    ownership: Ownership
    names: dict[int, str]
    owned: dict[int, str]
    neighbours: Collection[Neighbour] | None = None
    routes: Sequence[Data] = ()
    _dumps: dict[Callable[[int], Request], Sequence[Data]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """True if the whole namespace is read, False if the kernel selects by device name."""
        return bool(self.ownership.prefixes)

    def on_devices(self, dump: Callable[[int], Request]) -> Sequence[Data]:
        """Dump the objects on devices, once per ``dump``: all of the namespace, or one owned device after the other.

        :param dump: makes the request for the device with an index, 0: for all devices
        """
        found = self._dumps.get(dump)
        if found is None:
            indexes: Iterable[int] = (0,) if self.whole else self.owned
            requests = [dump(index)._replace(tolerate=NO_DEVICE) if index else dump(0) for index in indexes]
            found = self._dumps[dump] = [data for request in requests for data in self.sock.dump(request)]
        return found


@dataclass(slots=True)
class WriteContext:
    """Device indexes, and requests made already, of one call of ``apply``.

    :ivar indexes: name → index of the devices that the objects name
    """

    indexes: dict[str, int] = field(default_factory=dict)
    _done: set[object] = field(default_factory=set)

    def first_time(self, what: object) -> bool:
        """True at the first call with this value: for a request that is needed once per device, not once per object."""
        if what in self._done:
            return False
        self._done.add(what)
        return True


class Instead(NamedTuple):
    """Requests that put an object into a place that is taken.

    :ivar requests: empty if none helps
    :ivar foreign: what another program had put there, for the log; empty if it was the kernel
    """

    requests: Sequence[Request] = ()
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class Rivals(Generic[T]):
    """Objects of other programs that come before an object of ours for the same traffic, though the kernel takes both.

    :ivar dump: request for the objects among which they are
    :ivar needle: bytes that a rival's message contains
    :ivar find: yields (request that removes a rival, its text) from the messages with the needle
    """

    dump: Callable[[], Request]
    needle: Callable[[T], bytes]
    find: Callable[[T, Iterable[Data]], Iterable[tuple[Request, str]]]


@dataclass(frozen=True, slots=True)
class Handler(Generic[T]):
    """How the objects of one kind are read and written.

    :ivar read: yields objects of the kind
    :ivar add: requests that add objects, one for each, in their order; they tolerate ``EXISTS``.  Of an object that
        needs several (``adds_singly``) it is asked alone
    :ivar remove: requests that remove an object; they tolerate ``GONE``
    :ivar change: requests that give an object another value in place; None: those of ``add`` do that
    :ivar reads_owned_only: ``read`` yields nothing that the slice does not own, so that this is not checked again
    :ivar adds_singly: ``add`` may return several requests for an object
    :ivar by_index: requests name devices by index, so that these are looked up first; False: by name or not at all
    :ivar dump_place: request for the objects of which one may be the reason for EEXIST (``Kind.place``), decoded by
        ``decode_place``; None: the kernel answers EEXIST only where an equal object exists
    :ivar instead: what to send instead of the refused request, to take the place of what is there; gets the object, the
        refused request, the answer to ``dump_place`` and the context
    :ivar rivals: finds and removes what would still take the traffic of an object that was added; see :class:`Rivals`
    """

    kind: Kind[T]
    read: Callable[[SliceReader], Iterable[T]]
    add: Callable[[Sequence[T], WriteContext], list[Request]]
    remove: Callable[[T, WriteContext], list[Request]]
    change: Callable[[T, WriteContext], list[Request]] | None = None
    reads_owned_only: bool = False
    adds_singly: bool = False
    by_index: bool = True
    dump_place: Callable[[T, WriteContext], Request] | None = None
    decode_place: Callable[[Iterable[Data], Mapping[int, str]], Iterable[T]] | None = None
    instead: Callable[[T, Request, Sequence[Data], WriteContext], Instead] | None = None
    rivals: Rivals[T] | None = None


AnyHandler = Handler[Any]
