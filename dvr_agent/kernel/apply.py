"""Make changes in one namespace: in the given order, in as few netlink batches as that order allows.

A batch ends only where the next change needs it: for the index of a device that was just made, or a kernel parameter
that is written in between.  Called by :mod:`dvr_agent.kernel.plumber`.

An object that the kernel refuses is noted (:mod:`dvr_agent.state.missing`), and the others go on: the kernel carries
out the rest of a batch anyway.  What depends on it is skipped, or refused with it in the same batch and not reported.
Rules lead traffic away, so they have a batch of their own: they are not sent before all on their path was acknowledged.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel import job_sockets, sysctl, tc_limits
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.kernel.kinds import HANDLER_OF
from dvr_agent.kernel.link_changes import PeerNamespaces, link_request
from dvr_agent.kernel.netlink.handler import GONE, AnyHandler, Rivals, WriteContext
from dvr_agent.kernel.netlink.link import delete_links
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.limits import write_limits
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.kind import AnyKind, KernelObject
from dvr_agent.state.limit import Limit
from dvr_agent.state.link import Link
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import KIND_OF
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sysctl import Sysctl

LOG = logging.getLogger(__name__)


def apply(namespace: str, changes: Sequence[Change], counters: WriteCounters, missing: Missing) -> None:
    """Make the changes; see :meth:`dvr_agent.kernel.api.InterfacePlumber.apply`."""
    with job_sockets.netlink(namespace, counters) as sock:
        runs = list(_runs(changes))
        writer = _Writer(namespace, sock, counters, runs, missing)
        try:
            for run in runs:
                _stage(run)(writer, run)
            writer.flush()
        finally:
            writer.close()


class _Run(NamedTuple):
    """Successive changes of one kind that are handled alike.

    :ivar kind: class of the objects
    :ivar action: of all changes; None: it makes no difference
    :ivar devices: whose indexes the requests need
    """

    kind: type[KernelObject]
    action: Action | None
    changes: Sequence[Change]
    devices: frozenset[str]


class _Writer:
    """One call of :func:`apply`: the requests not sent yet, and the device indexes learned so far."""

    def __init__(
        self,
        namespace: str,
        sock: NetlinkSocket,
        counters: WriteCounters,
        runs: Sequence[_Run],
        missing: Missing,
    ) -> None:
        self._namespace = namespace
        self._sock = sock
        self._counters = counters
        self._missing = missing
        self._pending: list[Request] = []
        self._changes: list[Change] = []  # of each pending request
        self._peers = PeerNamespaces()
        self._context = WriteContext()
        self._absent: set[str] = set()
        self._named = {device for run in runs for device in run.devices}
        self._coming = {name for run in runs if run.kind is Link for name in _names(run)}
        self._leaving = _leaving(runs)

    def close(self) -> None:
        """Close what the writer has opened."""
        self._peers.close()

    def flush(self, needed: Collection[str] = ()) -> None:
        """Send the pending requests; an object that exists already must be equal to the new one.

        Then the indexes are asked for of the devices that changes name, unless these are made later.

        :param needed: devices whose indexes must be known
        """
        if not self._pending and not needed:
            return
        requests, self._pending = self._pending, []
        changes, self._changes = self._changes, []
        failed = self._sock.attempt(requests) if requests else []
        self._learn(needed)
        present: dict[Request, frozenset[KernelObject]] = {}
        refused: Change | None = None
        for index, code, hint in failed:
            request, change = requests[index], changes[index]
            if code in request.tolerate:
                if code != errno.EEXIST or self._exists(request, present):
                    continue
                if self._replace(request):
                    continue
                hint = "another one is in its place"
            if change is not refused:
                refused = change
                self._refuse(change, self._sock.refused(request, code, hint))

    # Stages: how runs are handled.

    def links(self, run: _Run) -> None:
        """Encode new and changed links into the pending batch."""
        for change in run.changes:
            if isinstance(change.item, Link) and not self._missing.takes(self._namespace, change):
                self._forget(change.item.name)
                self._queue(change, [link_request(change.item, change, self._peers)])

    def objects(self, run: _Run) -> None:
        """Encode changes into the pending batch: all at once where nothing is in their way."""
        handler, context = HANDLER_OF[run.kind], self._context
        if not run.devices <= context.indexes.keys() | self._absent:
            if any(isinstance(pending.item, Link) for pending in self._changes):  # it may be among them
                self.flush(run.devices)
            else:
                self._learn(run.devices)
        replaces = (self._leaving and handler.kind.place is not None) or handler.adds_singly
        if run.action is Action.ADD and not (replaces or self._missing) and self._absent.isdisjoint(run.devices):
            self._pending += handler.add([change.item for change in run.changes], context)
            self._changes += run.changes
            return
        for change in run.changes:
            if not self._missing.takes(self._namespace, change):
                devices = handler.kind.devices(change.item) if handler.by_index else ()
                if self._absent.isdisjoint(devices) or self._is_left(change, devices):
                    self._encode(handler, change)

    def rules(self, run: _Run) -> None:
        """Encode rules, once the kernel has answered for all before them, and have it answer for them."""
        self.flush()
        self.objects(run)
        self.flush()
        if not job_sockets.is_new(self._namespace):
            self._remove_rivals(run.changes)

    def sysctls(self, run: _Run) -> None:
        """Write parameters, after everything before them."""
        self.flush()
        todo = [change for change in run.changes if not self._missing.takes(self._namespace, change)]
        while todo:
            items = [change.item for change in todo if isinstance(change.item, Sysctl)]
            try:
                return sysctl.write(self._namespace, items, self._counters)
            except KernelError as exc:
                names = [item.text for item in items]
                if exc.what not in names:
                    raise
                at = names.index(exc.what)
                self._missing.refuse(self._namespace, todo[at], exc)
                todo = todo[at + 1 :]

    def limits(self, run: _Run) -> None:
        """Write bandwidth limits, after everything before them: all at once, and one by one if one is refused."""
        self.flush()
        todo = [change for change in run.changes if not self._missing.takes(self._namespace, change)]
        try:
            if HostLimits.by_tc:
                tc_limits.write_limits(self._sock, todo)
            else:
                write_limits(self._namespace, todo, self._counters)
        except NamespaceGoneError:
            raise
        except KernelError as exc:
            if len(todo) == 1:
                self._missing.refuse(self._namespace, todo[0], exc)
                return
            for change in todo:
                self.limits(run._replace(changes=[change]))

    def unlink(self, run: _Run) -> None:
        """Encode the removal of links, all in one step."""
        going = [change for change in run.changes if not self._missing.takes(self._namespace, change)]
        links = [change.item for change in going if isinstance(change.item, Link)]
        requests = delete_links([(link.name, link) for link in links], GONE)
        for index, request in enumerate(requests):
            self._queue(going[min(index, len(going) - 1)], [request])
        for link in links:
            self._forget(link.name)
            self._named.discard(link.name)

    def _queue(self, change: Change, requests: Iterable[Request]) -> None:
        """Add the requests of a change to the pending batch."""
        for request in requests:
            self._pending.append(request)
            self._changes.append(change)

    def _encode(self, handler: AnyHandler, change: Change) -> None:
        """Add the requests of one change to the pending batch; an object in its place is removed right before it."""
        item, context = change.item, self._context
        if change.action is Action.REMOVE:
            self._queue(change, handler.remove(item, context))
            return
        if self._leaving:
            old = self._leaving.get(_place(handler.kind, item))
            if old is not None and old != item:
                self._queue(change, handler.remove(old, context))
        make = handler.change if change.action is Action.CHANGE else None
        self._queue(change, make(item, context) if make is not None else handler.add([item], context))

    def _refuse(self, change: Change, error: KernelError) -> None:
        """Note a refused change, unless something that it needs was refused in the same batch."""
        if not self._missing.takes(self._namespace, change):
            self._missing.refuse(self._namespace, change, error)

    # Device names and indexes.

    def _learn(self, needed: Collection[str]) -> None:
        """Ask for the indexes of devices, and of those that changes name, unless they are made later."""
        indexes = self._context.indexes
        for name in sorted((self._named - self._coming).union(needed) - indexes.keys() - self._absent):
            index = self._sock.index_of(name)
            if index is None:
                self._absent.add(name)
            else:
                indexes[name] = index

    def _forget(self, name: str) -> None:
        """Forget a device's index, since the device is added, changed or removed."""
        self._context.indexes.pop(name, None)
        self._absent.discard(name)
        self._coming.discard(name)

    def _is_left(self, change: Change, devices: Sequence[str]) -> bool:
        """True if a removal must be sent although a device is absent: of a route that has hops by other devices."""
        if change.action is Action.REMOVE:
            return any(device in self._context.indexes for device in devices)
        self.flush()  # the device itself may have been refused
        absent = sorted(self._absent.intersection(devices))
        error = KernelError(self._namespace, change.item.text, errno.ENODEV, f"no device {', '.join(absent)}")
        self._refuse(change, error)
        return False

    # An object that exists already.

    def _exists(self, request: Request, present: dict[Request, frozenset[KernelObject]]) -> bool:
        """True if the object for which the kernel answered EEXIST is equal to the new one.

        :param present: request for objects → the objects, of requests that were sent already
        """
        item = request.what
        handler = HANDLER_OF.get(type(item))  # type: ignore[arg-type]  # a text has none
        if handler is None or handler.dump_place is None or handler.decode_place is None:
            return handler is not None
        dump = handler.dump_place(item, self._context)
        if dump not in present:
            names = {index: name for name, index in self._context.indexes.items()}
            present[dump] = frozenset(handler.decode_place(self._sock.dump(dump), names))
        return item in present[dump]

    def _replace(self, request: Request) -> bool:
        """Put the object in the place of what is there; False if that is not possible."""
        item = request.what
        handler = HANDLER_OF.get(type(item))  # type: ignore[arg-type]  # a text has none
        if handler is None or handler.dump_place is None or handler.instead is None:
            return False
        found = self._sock.dump(handler.dump_place(item, self._context))
        instead, foreign = handler.instead(item, request, found, self._context)
        failed = self._sock.attempt(instead)
        if not instead or any(code not in instead[at].tolerate for at, code, _hint in failed):
            return False
        if foreign:
            LOG.warning("namespace %s: %s: %s was in its place: replaced", self._namespace, request.text, foreign)
        return True

    def _remove_rivals(self, changes: Iterable[Change]) -> None:
        """Remove what comes before an object that was added, though the kernel has taken both."""
        due: dict[Rivals[Any], list[tuple[Change, bytes]]] = {}
        for change in changes:
            rivals = HANDLER_OF[type(change.item)].rivals
            if rivals is not None and not self._missing.takes(self._namespace, change):
                due.setdefault(rivals, []).append((change, rivals.needle(change.item)))
        for rivals, added in due.items():
            found = self._sock.dump_containing(rivals.dump(), list({needle: None for _change, needle in added}))
            for change, needle in added:
                for request, what in rivals.find(change.item, [data for data in found if needle in data]):
                    self._queue(change, [request])
                    text = change.item.text
                    LOG.warning("namespace %s: %s: %s was before it: removed", self._namespace, text, what)
        self.flush()


_STAGES: dict[type[KernelObject], Callable[[_Writer, _Run], None]] = {Sysctl: _Writer.sysctls, Limit: _Writer.limits}
"""Class of objects that have a stage of their own, whatever the change."""


def _stage(run: _Run) -> Callable[[_Writer, _Run], None]:
    """Return the function that handles a run."""
    removes = run.action is Action.REMOVE
    if run.kind is Link:
        return _Writer.unlink if removes else _Writer.links
    if run.kind is Rule:
        leads = any(change.item not in KERNEL_RULES for change in run.changes)
        return _Writer.rules if leads and not removes else _Writer.objects
    return _STAGES.get(run.kind, _Writer.objects)


def _runs(changes: Iterable[Change]) -> Iterator[_Run]:
    """Split changes into runs."""
    for (kind, action), group in groupby(changes, key=_kind_and_action):
        found, handler = list(group), HANDLER_OF.get(kind)
        named = handler.kind.devices if handler is not None and handler.by_index else None
        devices = chain.from_iterable([named(change.item) for change in found]) if named is not None else ()
        yield _Run(kind, action, found, frozenset(devices))


def _kind_and_action(change: Change) -> tuple[type[KernelObject], Action | None]:
    kind = type(change.item)
    return kind, None if kind in _STAGES else change.action


def _names(run: _Run) -> Iterator[str]:
    """Yield the names of the devices of a run of links."""
    return (change.item.name for change in run.changes if isinstance(change.item, Link))


def _place(kind: AnyKind, item: KernelObject) -> Hashable | None:
    return None if kind.place is None else kind.place(item)


def _leaving(runs: Iterable[_Run]) -> dict[Hashable, KernelObject]:
    """Return the removed objects by place, of kinds in which one object at a time can have a place (``Kind.place``)."""
    removed = (change.item for run in runs if run.action is Action.REMOVE for change in run.changes)
    found = {_place(KIND_OF[type(item)], item): item for item in removed}
    found.pop(None, None)
    return found
