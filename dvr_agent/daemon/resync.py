"""Makes rounds over all routers: resyncs and audits.  Decides when the stale sweep runs.

============  ===================================================  ============================================
round         begins                                               by
============  ===================================================  ============================================
first resync  with the first listing (``Synced``) of the source    ``source_reader`` → :meth:`Resync.listed`
resync        on ``POST /sync`` to the admin socket, after a       ``service`` → :meth:`Resync.begin`
              rescan of the source
resync        when layer 2 changed by itself                       ``watches`` → :meth:`Resync.begin`
audit         in portions, each of which is a round                ``audits`` → :meth:`Resync.audit`
audit         when events of the kernel were lost                  ``drift_watch`` → :meth:`Resync.audit_now`
============  ===================================================  ============================================

A later listing begins no round: its changed documents are jobs of their own.  A round queues each router's job at its
own low priority, so that changes overtake it.  It ends when each of its routers was tried once, successfully or not,
and a stale sweep followed.  A stale sweep also runs after a listing that lacks routers (``StaleSweep.is_due``); both
ways queue ``HostJob.SWEEP``, which the dispatcher passes to :meth:`Resync.sweep`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.buckets import ROUND_SECONDS, Buckets
from dvr_agent.daemon.fights import Fights
from dvr_agent.daemon.idle_bridges import IdleBridges
from dvr_agent.daemon.job_result import RouterState
from dvr_agent.daemon.jobs import HostJob
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.stale_sweep import StaleSweep
from dvr_agent.daemon.state_files import StateFiles
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.model.router import Router
from dvr_agent.plural import count

LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Round:
    """A round under way; ``waiting``: ids of routers that were not tried yet.

    :ivar sweeps: a stale sweep follows; not after the first portions of an audit
    :ivar spent: processor seconds of this process when it began
    """

    priority: Priority
    started: float
    size: int
    waiting: set[str]
    sweeps: bool = True
    spent: float = field(default_factory=time.process_time)

    @property
    def name(self) -> str:
        return "audit" if self.priority is Priority.AUDIT else "resync"


class Resync:
    """Begins rounds, follows their progress, ends them.  All methods belong to the hub's thread.

    :ivar first_done: set when the first resync is over, its stale sweep included
    :ivar last_audit: end of the last audit (of its last portion), seconds since the epoch
    :ivar next_audit: begin of the next portion of an audit, seconds since the epoch; None: never.
        ``audits`` sets it
    :ivar last_resync: end of the last resync, seconds since the epoch
    :ivar round_seconds: ``resync`` and ``audit`` (each portion) → how long rounds took
    :ivar trusting: the round under way does not read what events of the kernel vouch for; audits do in any case
    :ivar audit_cost: processor seconds that the newest portion of an audit took; None before the first
    """

    def __init__(
        self,
        schedule: Schedule,
        listing: RouterListing,
        stale_sweep: StaleSweep,
        idle_bridges: IdleBridges,
        state_files: StateFiles,
        fights: Fights,
    ) -> None:
        self._fights = fights
        self._audit_wanted = False
        self.trusting = True
        self._schedule, self._listing = schedule, listing
        self._stale_sweep, self._idle_bridges, self._state_files = stale_sweep, idle_bridges, state_files
        self._round: _Round | None = None
        self.first_done = eventlet_shim.GreenEvent()
        self.last_audit: float | None = None
        self.last_resync: float | None = None
        self.round_seconds = {"resync": Buckets(ROUND_SECONDS), "audit": Buckets(ROUND_SECONDS)}
        self.next_audit: float | None = None
        self.audit_cost: float | None = None

    @property
    def progress(self) -> str:
        """``resync: 12 of 500 routers``; empty when no round is under way."""
        if self._round is None:
            return ""
        done = self._round.size - len(self._round.waiting)
        return f"{self._round.name}: {done} of {count(self._round.size, 'router')}"

    def begin(self, trusting: bool = True) -> int:
        """Begin a resync of every router, whatever its state; returns the number of routers.

        :param trusting: do not read what events of the kernel vouch for
        """
        ids = {record.id for record in self._schedule.records if record.has_work}
        self._begin(Priority.RESYNC, ids, trusting=trusting)
        return len(ids)

    def documents(self) -> list[tuple[str, Router]]:
        """Return (name, router) of the good document of every router."""
        found = (record.document for record in self._schedule.records if not record.deleted)
        return [(document.name, document.router) for document in found if document is not None]

    def audit(self, ids: set[str], is_last: bool) -> None:
        """Begin an audit of a portion of the routers; none while a round is under way.

        :param is_last: a stale sweep follows, and the audit of all routers is complete
        """
        if self._round is None:
            self._begin(Priority.AUDIT, ids & self.auditable(), sweeps=is_last)
        else:
            LOG.debug("audit skipped: %s is under way", self.progress)

    def audit_now(self) -> None:
        """Audit all routers at once, or when the round under way has ended."""
        self._audit_wanted = self._round is not None or not self.first_done.is_set()
        if not self._audit_wanted:
            self._begin(Priority.AUDIT, self.auditable())

    def auditable(self) -> set[str]:
        """Return the routers of which a difference would be drift, without those whose fight forbids a repair now."""
        now = time.monotonic()
        return {
            record.id for record in self._schedule.records if record.auditable and not self._fights.wait(record.id, now)
        }

    def listed(self) -> None:
        """Act on a new listing: the first one begins the first resync, later ones may lead to a stale sweep."""
        if not self.first_done.is_set() and self._round is None:
            self._begin_first()
        elif self._stale_sweep.is_due() and self.first_done.is_set():
            self._schedule.put_host_job(HostJob.SWEEP, Priority.RESYNC)

    def router_tried(self, router_id: str) -> None:
        """Note that the job of a router ended, or that the router is gone; the round's last one queues the sweep."""
        if self._round is not None and router_id in self._round.waiting:
            self._round.waiting.discard(router_id)
            if not self._round.waiting:
                self._finish(self._round)

    def sweep(self) -> None:
        """Run the stale sweep, then remove idle bridges; ends the round if all its routers were tried."""
        removed = self._stale_sweep.run()
        if removed is not None:
            for router_id in removed:
                self.router_tried(router_id)
            self._idle_bridges.remove()
        ended = self._round
        if ended is not None and not ended.waiting:
            self._end(ended)

    def _begin_first(self) -> None:
        """Begin the first resync, of the routers not tried yet: some were worked on before the listing was complete."""
        records = [record for record in self._schedule.records if record.has_work]
        LOG.info("first resync: %s", count(len(records), "router"))
        self._begin(Priority.RESYNC, {record.id for record in records if record.job_state is RouterState.PENDING})

    def _begin(self, priority: Priority, ids: set[str], sweeps: bool = True, trusting: bool = True) -> None:
        self._round = _Round(priority, time.monotonic(), len(ids), set(ids), sweeps)
        self.trusting = trusting
        self._schedule.put_host_job(HostJob.BEGIN_ROUND, Priority.EVENT)
        for router_id in ids:
            self._schedule.requeue(router_id, priority)
        if not ids:
            self._finish(self._round)

    def _finish(self, tried: _Round) -> None:
        """Queue the stale sweep that ends a round, or end it without one."""
        if tried.sweeps:
            self._schedule.put_host_job(HostJob.SWEEP, Priority.RESYNC)
        else:
            self._end(tried)

    def _end(self, ended: _Round) -> None:
        self._round = None
        self._report(ended)
        if self._audit_wanted:
            self.audit_now()

    def _report(self, ended: _Round) -> None:
        if ended.sweeps:
            self._state_files.flush()
        seconds = time.monotonic() - ended.started
        self.round_seconds[ended.name].add(seconds)
        if ended.priority is Priority.AUDIT:
            self.audit_cost = time.process_time() - ended.spent
            if ended.sweeps:
                self.last_audit = time.time()
            LOG.debug("audit of %s took %.3f s", count(ended.size, "router"), seconds)
            return
        self.last_resync = time.time()
        states = self._schedule.records.states
        text = ", ".join(f"{number} {state.value}" for state, number in sorted(states.items())) or "no routers"
        fine = set(states) <= {RouterState.IN_SYNC, RouterState.ADMIN_DOWN, RouterState.NOT_SUPPORTED}
        LOG.log(logging.INFO if fine else logging.WARNING, "resync took %.3f s: %s", seconds, text)
        self.first_done.set()
