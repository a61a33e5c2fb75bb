"""Passes over all routers: the full sync (at the start or on request), the audit, and the stale sweep at their end.

A pass puts its routers into the queue at its own low priority, so that changes overtake it, and is over when each of
them was tried once, well or not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dvr_agent.daemon import eventlet_shim, jobs
from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.jobs import Control
from dvr_agent.daemon.routers import State
from dvr_agent.daemon.source_reader import Feed
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import Worker
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.sources.api import Fate, Settled

T = TypeVar("T")

LOG = logging.getLogger(__name__)

TIDY_SECONDS = (1.0, 10.0)
"""After a change, how long until idle bridges are looked for.  The kernel tears namespaces down in the background, and
may be slow: so twice."""
HELD_BACK = "it has no document any more; its removal is held back"


@dataclass(slots=True)
class _Pass:
    priority: Priority
    started: float
    size: int
    waiting: set[str]


class Passes:
    """All methods belong to the hub's thread.

    :ivar first_sync_done: set when the first full sync is over, its sweep included
    :ivar guard: the guard's words while it holds the sweep back, else empty
    :ivar last_audit: when the last audit ended, seconds since the epoch
    :ivar next_audit: when the next one begins, likewise; None: never
    """

    def __init__(
        self,
        reconciler: Reconciler,
        worker: Worker,
        dispatcher: Dispatcher,
        feed: Feed,
        allow_mass_removal: Callable[[], bool],
    ) -> None:
        self._reconciler, self._worker = reconciler, worker
        self._dispatcher, self._feed = dispatcher, feed
        self._allow_mass_removal = allow_mass_removal
        self._current: _Pass | None = None
        self._refused: frozenset[str] = frozenset()
        """Routers whose removal the guard holds back."""
        self._refused_for: tuple[frozenset[str], str] | None = None
        """What the source listed (known routers, why it is suspect) when the guard held the last sweep back."""
        self._owed = False
        """A sweep was due and could not be done: the next good listing makes up for it."""
        self.first_sync_done = eventlet_shim.Event()
        self.guard = ""
        self.last_audit: float | None = None
        self.next_audit: float | None = None
        self._tidy_timers: set[float] = set()
        """Of :data:`TIDY_SECONDS` those that run."""
        dispatcher.on_settled = self._settled
        dispatcher.on_changed = self._changed
        dispatcher.controls[Control.TIDY] = self._tidy
        dispatcher.controls[Control.BEGIN_PASS] = self._begin_pass
        dispatcher.controls[Control.SWEEP] = self._sweep
        feed.on_synced = self._synced

    @property
    def progress(self) -> str:
        """``first sync: 12 of 500 routers``, empty when no pass is under way."""
        if self._current is None:
            return ""
        done = self._current.size - len(self._current.waiting)
        return f"{_name(self._current.priority)}: {done} of {self._current.size} routers"

    def full_sync(self) -> int:
        """Look at every router again, whatever its state; returns how many."""
        ids = {record.id for record in self._dispatcher.routers if record.document is not None or record.deleted}
        self._begin(Priority.SYNC, ids)
        return len(ids)

    def _first_sync(self) -> None:
        """The routers not tried yet: documents may have come, and been worked on, before the listing ended."""
        records = [record for record in self._dispatcher.routers if record.document is not None or record.deleted]
        ids = {record.id for record in records if record.result is State.PENDING}
        LOG.info("first sync: %d routers", len(records))
        self._begin(Priority.SYNC, ids)

    def audit_for_ever(self, interval: float) -> None:
        """An audit each ``interval`` seconds, the first one that long after the first sync."""
        self.first_sync_done.wait()
        while True:
            self.next_audit = time.time() + interval
            eventlet_shim.sleep(interval)
            if self._current is None:
                self._begin(Priority.AUDIT, {record.id for record in self._dispatcher.routers if record.auditable})
            else:
                LOG.debug("no audit now: %s is under way", self.progress)

    def _begin(self, priority: Priority, ids: set[str]) -> None:
        self._current = _Pass(priority, time.monotonic(), len(ids), set(ids))
        self._dispatcher.control(Control.BEGIN_PASS, Priority.EVENT)
        for router_id in ids:
            record = self._dispatcher.routers.get(router_id)
            if record is not None:
                self._dispatcher.again(record, priority)
        if not ids:
            self._tried_all()

    def _begin_pass(self) -> None:
        self._in_worker(self._reconciler.begin_resync, "shared parts cannot be prepared")

    def _settled(self, router_id: str) -> None:
        if self._current is not None and router_id in self._current.waiting:
            self._current.waiting.discard(router_id)
            if not self._current.waiting:
                self._tried_all()

    def _tried_all(self) -> None:
        self._dispatcher.control(Control.SWEEP, Priority.SYNC)

    def _synced(self) -> None:
        """A complete listing was taken over: the first starts the first sync, later ones may show missed deletions."""
        if self._feed.last_sync is not None and not self.first_sync_done.is_set() and self._current is None:
            self._first_sync()
            return
        known = self._feed.known or set()
        gone = frozenset(record.id for record in self._dispatcher.routers if record.id not in known)
        # All that the guard held back are there again: its warning is over.  While only some are, more may follow.
        restored = bool(self._refused) and not self._refused & gone
        listed = (frozenset(known), self._feed.suspect)
        due = bool(gone - self._refused) or restored or (self._owed and self._feed.complete)
        due = due or (self._refused_for is not None and self._refused_for != listed)
        if due and self.first_sync_done.is_set():
            self._dispatcher.control(Control.SWEEP, Priority.SYNC)
        self._refused &= gone

    def _sweep(self) -> None:
        """The end of each pass, and what follows a listing that lacks routers."""
        listed = None if self._feed.error else self._feed.known
        if listed is None:
            self._owed = True
        elif not self._feed.complete:
            if not self._owed:
                LOG.warning("no stale sweep now: %s", self._feed.incomplete_because)
            self._owed = True
        else:
            self._owed = not self._sweep_now(listed)
        ended = self._current
        if ended is not None and not ended.waiting:
            self._current = None
            self._end(ended)

    def _sweep_now(self, listed: set[str]) -> bool:
        """True if it was done or the guard refused it; False if it failed."""
        # Routers whose deletion was announced are no business of the guard: their own jobs remove them.
        known = frozenset(listed | {record.id for record in self._dispatcher.routers if record.deleted})
        swept = self._in_worker(
            partial(jobs.sweep, self._reconciler, known, self._allow_mass_removal(), self._feed.suspect),
            "stale sweep failed",
        )
        if swept is None:
            return False
        self._refused_for = (frozenset(listed), self._feed.suspect) if swept.guard else None
        gone = [record for record in self._dispatcher.routers if record.id not in known]
        self.guard = swept.guard
        for record in self._dispatcher.routers:
            if record.reason == HELD_BACK:
                record.reason = ""
        if swept.guard:
            LOG.error("stale sweep refused: %s", swept.guard)
            self._refused = frozenset(record.id for record in gone)
            for record in gone:
                record.reason = HELD_BACK
            return True
        for record in gone:
            if record.id not in (self._feed.known or set()):  # it may have come back while the worker was at it
                self._dispatcher.queue.discard(record.id)
                self._dispatcher.routers.drop(record.id)
                self._dispatcher.report(Settled(record.id, Fate.ABSENT))
                self._settled(record.id)
        self._tidy()
        return True

    def _changed(self) -> None:
        """A router changed or went: a bridge may be idle from now on.  Many changes are looked at together."""
        if self.first_sync_done.is_set():  # the sweep at the end of the first sync looks for all
            for seconds in TIDY_SECONDS:
                if seconds not in self._tidy_timers:
                    self._tidy_timers.add(seconds)
                    eventlet_shim.Timer(seconds, partial(self._tidy_soon, seconds))

    def _tidy_soon(self, seconds: float) -> None:
        self._tidy_timers.discard(seconds)
        self._dispatcher.control(Control.TIDY, Priority.AUDIT)

    def _tidy(self) -> None:
        """Remove idle bridges, if it is certain that all router documents are known."""
        if self._feed.known is None or self._feed.error or not self._feed.complete or self.guard:
            return
        documents = [record.document for record in self._dispatcher.routers if record.document is not None]
        networks = {network_id for document in documents for network_id in document.router.networks}
        self._in_worker(partial(jobs.remove_bridges, self._reconciler, networks), "bridges cannot be removed")

    def _end(self, ended: _Pass) -> None:
        self._dispatcher.flush()
        seconds = time.monotonic() - ended.started
        if ended.priority is Priority.AUDIT:
            self.last_audit = time.time()
            LOG.debug("audit of %d routers took %.3f s", ended.size, seconds)
            return
        states = self._dispatcher.routers.states
        text = ", ".join(f"{number} {state.value}" for state, number in sorted(states.items())) or "no routers"
        well = set(states) <= {State.IN_SYNC, State.ADMIN_DOWN, State.NOT_SUPPORTED}
        LOG.log(logging.INFO if well else logging.WARNING, "full sync took %.3f s: %s", seconds, text)
        self.first_sync_done.set()

    def _in_worker(self, call: Callable[[], T], trouble: str) -> T | None:
        try:
            return self._worker.call(call)
        except DvrError as exc:
            LOG.error("%s: %s", trouble, exc)
        except Exception:
            LOG.exception("%s by an error that should not happen", trouble)
        return None


def _name(priority: Priority) -> str:
    return "audit" if priority is Priority.AUDIT else "full sync"
