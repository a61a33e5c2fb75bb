"""What has to be asked of the server: noted by any thread, taken by the fetch thread.

Several notes about a router, and several wishes for a full sync, become one question.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition

from dvr_agent.sources.neutron.api import ArpEntry, ExternalNetworkGone, NetworkUpdated, RouterDeleted

Note = ArpEntry | NetworkUpdated | ExternalNetworkGone | RouterDeleted


class Reason(Enum):
    """Why a router is asked for; the newest one counts."""

    UPDATED = "updated"
    """The server says that it changed."""
    REMOVED = "removed"
    """The server says that it is not of this host any more: an answer without it confirms that."""
    AGAIN = "again"
    """The last answer left it out: another one without it makes it certain."""


@dataclass(frozen=True, slots=True)
class Round:
    """Work for the fetch thread, taken off the notes.

    :ivar notes: in the order in which they came
    :ivar routers: ids to ask for, in order
    :ivar sync: a full sync is due
    :ivar release: external networks may have gone out of use
    """

    notes: list[Note] = field(default_factory=list)
    routers: dict[str, Reason] = field(default_factory=dict)
    sync: bool = False
    release: bool = False

    def __bool__(self) -> bool:
        return bool(self.notes or self.routers or self.sync or self.release)


class Requests:
    """Thread-safe; no method but :meth:`wait` waits."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._notes: list[Note] = []
        self._routers: dict[str, tuple[Reason, int]] = {}
        """Router id → why, and the number of the note."""
        self._later: dict[str, tuple[float, Reason]] = {}
        """Router id → when (monotonic) to ask, and why."""
        self._number = 0
        self._sync_at: float | None = None
        self._not_before = 0.0
        self._begun = False
        self._held = False
        self._release = False
        self._closed = False

    # Any thread

    def note(self, note: Note) -> None:
        """Notes that come before the first full sync is asked for are about what it will bring."""
        with self._changed:
            if self._begun:
                self._notes.append(note)
                self._changed.notify_all()

    def routers(self, router_ids: Iterable[str], reason: Reason) -> None:
        """Ask for these routers soon."""
        with self._changed:
            for router_id in router_ids:
                self._number += 1
                self._routers[router_id] = (reason, self._number)
                self._later.pop(router_id, None)
            self._changed.notify_all()

    def forget(self, router_id: str) -> None:
        """The router is deleted: nothing is to be asked about it."""
        with self._changed:
            self._routers.pop(router_id, None)
            self._later.pop(router_id, None)

    def sync(self, jitter: float = 0.0, back: bool = False) -> None:
        """A full sync is wanted.

        :param jitter: it may wait a random part of so many seconds
        :param back: the server is known to be there again: do not wait for the end of a back-off
        """
        with self._changed:
            at = time.monotonic() + random.uniform(0.0, jitter)
            if back:
                self._not_before = 0.0
            self._sync_at = at if self._sync_at is None else min(at, self._sync_at)
            self._changed.notify_all()

    def release(self) -> None:
        """External networks may have gone out of use."""
        with self._changed:
            self._release = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def pending(self) -> int:
        """How many routers wait to be asked for."""
        with self._changed:
            return len(self._routers) + len(self._later)

    # The fetch thread

    def later(self, router_id: str, seconds: float, reason: Reason) -> None:
        """Ask for a router after some time, unless it is asked for anyway."""
        with self._changed:
            if router_id not in self._routers:
                self._later[router_id] = (time.monotonic() + seconds, reason)

    def begin(self) -> None:
        """The server knows this agent: the first full sync is due."""
        with self._changed:
            self._begun = True
            self._sync_at = time.monotonic()

    def sync_failed(self, seconds: float, hold: bool) -> None:
        """Do not begin a full sync for some time, but then.

        :param hold: leave routers noted until a full sync has found the server there again
        """
        with self._changed:
            now = time.monotonic()
            self._not_before = now + seconds
            self._sync_at = now
            self._held = hold

    def resume(self) -> None:
        """The server is there."""
        with self._changed:
            self._held = False

    def put_back(self, routers: dict[str, Reason], release: bool = False) -> None:
        """These could not be asked for; a newer note about one of them counts more."""
        with self._changed:
            for router_id, reason in routers.items():
                self._number += 1
                self._routers.setdefault(router_id, (reason, self._number))
            self._release = self._release or release

    def mark(self) -> int:
        """For :meth:`answered`: what is noted up to now."""
        with self._changed:
            return self._number

    def answered(self, router_ids: Iterable[str], mark: int) -> None:
        """A full sync brought these routers: what was noted about them before it asked is done."""
        with self._changed:
            for router_id in router_ids:
                if router_id in self._routers and self._routers[router_id][1] <= mark:
                    del self._routers[router_id]
                self._later.pop(router_id, None)

    def wait(self) -> Round:
        """Work that is due, as soon as there is some; nothing once closed."""
        with self._changed:
            while not self._closed:
                found = self._take(time.monotonic(), sync=True)
                if found:
                    return found
                self._changed.wait(self._seconds())
            return Round()

    def take(self) -> Round:
        """Work that is due now, without full syncs: for the time between two steps of one."""
        with self._changed:
            return self._take(time.monotonic(), sync=False)

    def wait_beside(self, over: Callable[[], bool]) -> Round:
        """Work that is due, without full syncs, as soon as there is some; nothing once ``over`` or closed.

        :param over: looked at again after :meth:`wake`
        """
        with self._changed:
            while not self._closed and not over():
                found = self._take(time.monotonic(), sync=False)
                if found:
                    return found
                self._changed.wait(self._seconds(sync=False))
            return Round()

    def wake(self) -> None:
        """Have :meth:`wait_beside` look again."""
        with self._changed:
            self._changed.notify_all()

    def _take(self, now: float, sync: bool) -> Round:
        notes, self._notes = self._notes, []
        routers: dict[str, Reason] = {}
        release = False
        if not self._held:
            for router_id in [router_id for router_id, (at, _) in self._later.items() if at <= now]:
                self._number += 1
                self._routers.setdefault(router_id, (self._later.pop(router_id)[1], self._number))
            routers = {router_id: reason for router_id, (reason, _) in self._routers.items()}
            self._routers = {}
            release, self._release = self._release, False
        due = sync and self._sync_due() is not None and (self._sync_due() or 0.0) <= now
        if due:
            self._sync_at = None
        return Round(notes, routers, due, release)

    def _sync_due(self) -> float | None:
        return None if self._sync_at is None else max(self._sync_at, self._not_before)

    def _seconds(self, sync: bool = True) -> float | None:
        due = self._sync_due() if sync else None
        times = [] if due is None else [due]
        if not self._held:
            times += [at for at, _ in self._later.values()]
        return max(0.0, min(times) - time.monotonic()) if times else None
