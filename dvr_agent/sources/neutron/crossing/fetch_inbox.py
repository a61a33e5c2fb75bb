"""Work for the fetch thread: any thread adds it, most of it comes from notifications of the bus.

Several notifications about a router become one question to the server; so do several requests for a full sync.
``notification_handler`` makes work of notifications, ``source.rescan`` and the report thread request full syncs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition

from dvr_agent.sources.neutron.api import ArpEntry, ExternalNetworkGone, NetworkUpdated, ObjectsPushed, RouterDeleted


@dataclass(frozen=True, slots=True)
class Lookup:
    """A question about versioned objects that is to be asked.

    :ivar groups: see ``sources.neutron.objects``
    """

    resource_type: str
    groups: frozenset[str]


Note = ArpEntry | NetworkUpdated | ExternalNetworkGone | RouterDeleted | ObjectsPushed | Lookup
"""Notifications that the fetch thread processes itself, in order; all others only request routers or a full sync."""


class Reason(Enum):
    """Why a router is asked for; the newest reason counts."""

    UPDATED = "updated"
    """The server said that it changed."""
    REMOVED = "removed"
    """The server said that it left this host: an answer without it confirms that."""
    AGAIN = "again"
    """The last answer lacked it: a second one without it confirms that it left this host."""


@dataclass(frozen=True, slots=True)
class FetchWork:
    """Work that the fetch thread takes off the inbox; false if there is none.

    :ivar notes: in the order in which they came
    :ivar routers: ids of routers to ask for, in order
    :ivar sync: a full sync is due
    :ivar release: agent gateway ports without references may have to be deleted
    """

    notes: list[Note] = field(default_factory=list)
    routers: dict[str, Reason] = field(default_factory=dict)
    sync: bool = False
    release: bool = False

    def __bool__(self) -> bool:
        return bool(self.notes or self.routers or self.sync or self.release)


class PendingRouters:
    """Routers to ask for, now or later.  No lock: belongs to :class:`FetchInbox`.

    :ivar number: of the newest request for a router
    :ivar paused: leave all of them until the server answers again
    :ivar brought: router id → number of a request that a full sync under way is going to answer: left until then
    """

    def __init__(self) -> None:
        self._now: dict[str, tuple[Reason, int]] = {}
        """Router id → reason, and number of the request."""
        self._later: dict[str, tuple[float, Reason]] = {}
        """Router id → when (monotonic) to ask, and reason."""
        self.number = 0
        self.paused = False
        self.brought: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._now) + len(self._later)

    def ask(self, router_ids: Iterable[str], reason: Reason) -> None:
        """Ask for these routers now."""
        for router_id in router_ids:
            self.number += 1
            self._now[router_id] = (reason, self.number)
            self._later.pop(router_id, None)

    def ask_later(self, router_id: str, at: float, reason: Reason) -> None:
        """Ask for a router at a time, unless it is asked for now."""
        if router_id not in self._now:
            self._later[router_id] = (at, reason)

    def put_back(self, routers: dict[str, Reason]) -> None:
        """Ask again for routers that were taken; a newer request for one of them counts instead."""
        for router_id, reason in routers.items():
            self.number += 1
            self._now.setdefault(router_id, (reason, self.number))

    def forget(self, router_id: str) -> None:
        """Drop all requests for a router."""
        self._now.pop(router_id, None)
        self._later.pop(router_id, None)

    def answered(self, router_ids: Iterable[str], number: int) -> None:
        """Drop the requests for these routers up to a number, and all later ones."""
        for router_id in router_ids:
            if router_id in self._now and self._now[router_id][1] <= number:
                del self._now[router_id]
            self._later.pop(router_id, None)

    def take(self, now: float) -> dict[str, Reason]:
        """Return and remove the routers to ask for now; none while paused."""
        if self.paused:
            return {}
        due = {router_id: reason for router_id, (at, reason) in self._later.items() if at <= now}
        for router_id in due:
            del self._later[router_id]
        self.put_back(due)
        routers = {router_id: one for router_id, one in self._now.items() if one[1] > self.brought.get(router_id, 0)}
        for router_id in routers:
            del self._now[router_id]
        return {router_id: reason for router_id, (reason, _) in routers.items()}

    def bring(self, router_ids: Iterable[str]) -> list[str]:
        """Leave the requests for these routers to a full sync; returns the routers, those that are requested first."""
        self.brought = {router_id: self._now[router_id][1] for router_id in router_ids if router_id in self._now}
        return sorted(router_ids, key=lambda router_id: router_id not in self.brought)

    def times(self) -> list[float]:
        """Return when (monotonic) routers become due that are not due now."""
        return [] if self.paused else [at for at, _ in self._later.values()]


class SyncDeadline:
    """When the next full sync begins.  No lock: belongs to :class:`FetchInbox`."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._not_before = 0.0
        self.requests = 0
        """Number of requests so far; a sync that is tried again is none."""

    def request(self, at: float, recovered: bool = False) -> None:
        """Have a sync made at a time; an earlier request counts instead.

        :param recovered: do not wait for the end of a back-off
        """
        self.requests += 1
        if recovered:
            self._not_before = 0.0
        self._at = at if self._at is None else min(at, self._at)

    def back_off(self, now: float, seconds: float) -> None:
        """Have a sync made after some time, and not before."""
        self._at, self._not_before = now, now + seconds

    def due(self) -> float | None:
        """Return when (monotonic) it begins; None: none is requested."""
        return None if self._at is None else max(self._at, self._not_before)

    def take(self, now: float) -> bool:
        """Return True if it begins now; the request is done then."""
        due = self.due()
        if due is None or due > now:
            return False
        self._at = None
        return True


class FetchInbox:
    """Work for the fetch thread.  Any thread adds work; methods below the comment "Fetch thread" belong to that thread.

    Thread-safe by one condition variable; no method but :meth:`wait` waits.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._notes: list[Note] = []
        self._later: list[tuple[float, Note]] = []
        """When (monotonic) a note is due."""
        self._routers = PendingRouters()
        self._sync = SyncDeadline()
        self._begun = False
        self._release = False
        self._closed = False
        self._working = False
        """The fetch thread has taken work, and has not come back for more."""
        self._syncing = False
        """That work is a full sync."""

    # Any thread

    def add_note(self, note: Note, seconds: float = 0.0) -> None:
        """Add a notification.  Before the first full sync it is dropped: the sync will bring what it says.

        :param seconds: until it is due
        """
        with self._changed:
            if self._begun and seconds:
                self._later.append((time.monotonic() + seconds, note))
            elif self._begun:
                self._notes.append(note)
            self._changed.notify_all()

    def ask(self, router_ids: Iterable[str], reason: Reason) -> None:
        """Have the server asked for these routers soon."""
        with self._changed:
            self._routers.ask(router_ids, reason)
            self._changed.notify_all()

    def forget(self, router_id: str) -> None:
        """Drop requests for a router that is deleted."""
        with self._changed:
            self._routers.forget(router_id)

    def sync(self, jitter: float = 0.0, recovered: bool = False) -> None:
        """Request a full sync.

        :param jitter: begin it after a random part of so many seconds
        :param recovered: the server is known to answer again: do not wait for the end of a back-off
        """
        with self._changed:
            self._sync.request(time.monotonic() + random.uniform(0.0, jitter), recovered)
            self._changed.notify_all()

    def release(self) -> None:
        """Have the fetch thread delete agent gateway ports that have lost their references (``gateway_port_refs``)."""
        with self._changed:
            self._release = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Have :meth:`wait` evaluate its condition again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Have the fetch thread end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """True once the source is being closed."""
        return self._closed

    def pending(self) -> int:
        """Return how many routers are to be asked for."""
        with self._changed:
            return len(self._routers)

    def is_asking(self) -> bool:
        """Return True while routers are to be asked for, now or later, or work that was taken is under way."""
        with self._changed:
            return self._working or bool(self._routers) or self._sync.due() is not None

    def is_syncing(self) -> bool:
        """Return True while a full sync is requested, under way, or to be tried again."""
        with self._changed:
            return self._syncing or self._sync.due() is not None

    # Fetch thread

    def begin(self) -> None:
        """Request the first full sync, since the server knows this agent."""
        with self._changed:
            self._begun = True
            self._sync.request(time.monotonic())

    def ask_later(self, router_id: str, seconds: float, reason: Reason) -> None:
        """Have the server asked for a router after some time, unless it is asked earlier anyway."""
        with self._changed:
            self._routers.ask_later(router_id, time.monotonic() + seconds, reason)

    def put_back(self, routers: dict[str, Reason], release: bool = False) -> None:
        """Put work back that could not be done; a newer request for one of the routers counts instead."""
        with self._changed:
            self._routers.put_back(routers)
            self._release = self._release or release

    def sync_failed(self, seconds: float, pause: bool) -> None:
        """Request a full sync that begins after some time.

        :param pause: ask for no routers until :meth:`resume`
        """
        with self._changed:
            self._sync.back_off(time.monotonic(), seconds)
            self._routers.paused = pause

    def syncs_requested(self) -> int:
        """Return how many full syncs were requested so far; one that is tried again counts once."""
        with self._changed:
            return self._sync.requests

    def resume(self) -> None:
        """End the pause of :meth:`sync_failed`, since the server answers again."""
        with self._changed:
            self._routers.paused = False

    def bring(self, router_ids: list[str]) -> list[str]:
        """Leave what is asked about these routers until now to the full sync, so that nothing is asked twice.

        :param router_ids: whom the full sync is about to ask for
        :returns: the same, those that somebody waits for first
        """
        with self._changed:
            return self._routers.bring(router_ids)

    def bring_no_more(self) -> None:
        """End :meth:`bring`: what the full sync has not answered is asked for again."""
        with self._changed:
            self._routers.brought = {}

    def request_number(self) -> int:
        """Return the number of the newest request for a router, for :meth:`answered`."""
        with self._changed:
            return self._routers.number

    def answered(self, router_ids: Iterable[str], number: int) -> None:
        """Drop requests for routers that a full sync has brought.

        :param number: :meth:`request_number` before the server was asked; newer requests stay
        """
        with self._changed:
            self._routers.answered(router_ids, number)

    def wait(self, until: Callable[[], bool] | None = None) -> FetchWork:
        """Return work that is due, as soon as there is some; no work once closed.

        :param until: end condition of a wait during a full sync, evaluated again after :meth:`wake`: once it
            holds, no work is returned; before, no full sync
        """
        with self._changed:
            if until is None:
                self._syncing = False
            while not self._closed and not (until is not None and until()):
                found = self._take(sync=until is None)
                self._working = bool(found) or until is not None
                self._syncing = self._syncing or found.sync
                if found:
                    return found
                due = self._sync.due() if until is None else None
                times = [*self._routers.times(), *([] if due is None else [due]), *(at for at, _ in self._later)]
                self._changed.wait(max(0.0, min(times) - time.monotonic()) if times else None)
            return FetchWork()

    def take(self) -> FetchWork:
        """Return work that is due now, without full syncs: for the time between two steps of one."""
        with self._changed:
            return self._take(sync=False)

    def _take(self, sync: bool) -> FetchWork:
        now = time.monotonic()
        notes = [*self._notes, *(note for at, note in self._later if at <= now)]
        self._notes, self._later = [], [one for one in self._later if one[0] > now]
        release = self._release and not self._routers.paused
        if release:
            self._release = False
        return FetchWork(notes, self._routers.take(now), sync and self._sync.take(now), release)
