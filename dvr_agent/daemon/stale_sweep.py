"""Makes the stale sweep, which removes routers without a document, unless its guard takes their removal for a fault.

``resync`` says when a sweep runs.  A router whose document was deleted explicitly is removed by a job of its own, not
by the sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from dvr_agent import backoff, logs
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.history import History
from dvr_agent.daemon.job_texts import counts_text, log_changes, some_ids
from dvr_agent.daemon.jobs import HostJob
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.parts import Parts
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.mass_removal import is_mass_removal
from dvr_agent.plural import count, part
from dvr_agent.reconcile.api import Reconciler, RefusedError, Result
from dvr_agent.reconcile.plan_lines import Group, plan_groups
from dvr_agent.repeats import Repeats
from dvr_agent.sources.api import DataPlane, JobReport

LOG = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 1.0, 300.0
"""Seconds until a sweep that could not remove everything is repeated: at first, and at most."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The end of a stale sweep.

    :ivar result: what was removed; None if the guard refused
    :ivar guard: the guard's reason, empty if it did not refuse
    :ivar refused: what could not be removed, and why; empty if everything was
    :ivar gone: ids of the routers that were removed
    :ivar changes: what was removed, rule by rule
    :ivar request_id: of the sweep's log lines
    """

    result: Result | None
    guard: str = ""
    refused: str = ""
    gone: tuple[str, ...] = ()
    changes: tuple[Group, ...] = ()
    request_id: str = ""


class StaleSweep:
    """Decides whether a sweep is due, runs it, remembers what the guard refused.  Belongs to the hub's thread.

    :param allow_mass_removal: the guard never refuses
    :ivar guard: the guard's reason while it refuses removals, else empty
    :ivar trouble: why the last sweep could not remove everything; empty if it did
    """

    def __init__(
        self,
        parts: Parts,
        worker: WorkerThread,
        schedule: Schedule,
        listing: RouterListing,
        allow_mass_removal: bool,
        history: History,
    ) -> None:
        self._history, self._repeats = history, Repeats()
        self._parts, self._source, self._worker = parts, parts.source, worker
        self._schedule, self._listing = schedule, listing
        self._allow_mass_removal = allow_mass_removal
        self._refused: frozenset[str] = frozenset()
        """Routers whose removal the guard refuses."""
        self._refused_for: tuple[frozenset[str], str] | None = None
        """The listing (known routers, why it is suspect) that the guard refused last."""
        self._pending = False
        """A sweep was due and could not be done: the next usable listing makes up for it."""
        self._failures, self._retrying = 0, False
        self.guard = ""
        self.trouble = ""

    def is_due(self) -> bool:
        """Return True if the new listing makes a sweep necessary; to be called once per listing.

        That is: it lacks a router that the guard has not refused yet, it ends or changes a refusal, or it is the first
        complete one after a sweep that could not be made.
        """
        listing = self._listing
        gone = frozenset(record.id for record in self._schedule.records if record.id not in listing.known)
        # All refused routers have documents again: the guard's warning is over.  While only some have, more may follow.
        restored = bool(self._refused) and not self._refused & gone
        listed = (frozenset(listing.known), listing.suspect)
        due = bool(gone - self._refused) or restored or (self._pending and not listing.incomplete)
        due = due or (self._refused_for is not None and self._refused_for != listed)
        self._refused &= gone
        return due

    def run(self) -> frozenset[str] | None:
        """Sweep if the listing is usable; returns ids of the removed routers that had a record.

        :returns: None if nothing was done: the listing is not usable, the guard refused, or the sweep failed
        """
        listing = self._listing
        if listing.usable:
            return self._sweep()
        if listing.is_known and not listing.error and not self._pending:
            LOG.warning("stale sweep skipped: %s", listing.incomplete)
        self._pending = True
        return None

    def _sweep(self) -> frozenset[str] | None:
        listing, records = self._listing, self._schedule.records
        known = frozenset(listing.known | {record.id for record in records if record.deleted})
        listed = (frozenset(listing.known), listing.suspect)
        call = partial(self._in_worker, known, listing.suspect)
        swept = self._worker.try_call(call, "stale sweep failed")
        refused = "the sweep failed, see the log" if swept is None else swept.refused
        self._pending = bool(refused)
        self.trouble = f"stale objects cannot be removed: {refused}" if refused else ""
        self._retry_later()
        if swept is None:
            return None
        gone = frozenset(record.id for record in records if record.id not in known)
        self.guard = swept.guard
        if swept.result is None:
            LOG.error("stale sweep refused: %s", swept.guard)
            self._refused, self._refused_for = gone, listed
            self._schedule.records.hold_back(gone)
            return None
        self._refused_for = None
        self._schedule.records.hold_back(frozenset())
        self._keep(swept)
        for router_id in swept.result.affected:
            self._schedule.check_soon(router_id)
        removed = gone - listing.known - swept.result.staying  # a document may have appeared during the sweep
        for router_id in removed:
            self._schedule.drop_router(router_id)
            self._source.job_ended(JobReport(router_id, DataPlane.ABSENT))
        return removed

    def _keep(self, swept: SweepResult) -> None:
        """Add what was removed to the history."""
        names = dict.fromkeys(swept.gone, "")
        names |= {record.id: record.name for record in self._schedule.records if record.id in names}
        self._history.removed("sweep", swept.request_id, swept.changes, names)

    def _in_worker(self, known: Collection[str], suspect: str) -> SweepResult:
        """Sweep, and have the judge of events forget the routers that are gone.  For the worker thread."""
        try:
            return sweep(self._parts.reconciler, known, self._allow_mass_removal, suspect, self._repeats)
        finally:
            if self._parts.drift is not None:
                self._parts.drift.forget_gone()

    def _retry_later(self) -> None:
        """Queue another sweep, later after each failure, if this one could not remove everything."""
        if not self.trouble:
            self._failures = 0
            return
        self._failures += 1
        if not self._retrying:
            self._retrying = True
            eventlet_shim.GreenTimer(backoff.delay(self._failures, FIRST_RETRY, LAST_RETRY), self._retry_now)

    def _retry_now(self) -> None:
        self._retrying = False
        if self.trouble:
            self._schedule.put_host_job(HostJob.SWEEP, Priority.AUDIT)


def sweep(
    reconciler: Reconciler,
    known: Collection[str],
    allow_mass_removal: bool,
    suspect: str = "",
    repeats: Repeats | None = None,
) -> SweepResult:
    """Remove stale routers and objects, unless the guard refuses.  For the worker thread.

    :param known: ids of routers that are not stale
    :param suspect: why the source's listing must not remove any router, however few; empty: their number decides
    :param repeats: knows what was refused lately, which is not logged again at once
    :raises DvrError: the kernel could not be read; the next sweep tries again
    """
    with logs.job_context() as request_id:
        stale, present = reconciler.planner.stale_routers(known)
        if stale and not allow_mass_removal and (suspect or is_mass_removal(len(stale), present)):
            return SweepResult(None, guard_text(len(stale), present, suspect))
        refused = ""
        try:
            result = reconciler.remove_stale(known)
        except RefusedError as exc:
            result, refused, shown = exc.result, str(exc), exc.brief()
        # Not inside the except clause: there oslo.log would append the exception to the line.
        gone, changes = sorted(set(stale) - result.staying), plan_groups(result.plan)[0]
        if result.plan:
            of = f"{count(len(gone), 'router')} without document ({some_ids(gone)}): " if gone else ""
            LOG.info("stale objects removed: %s%s; %.1f ms", of, counts_text(result.plan), result.seconds * 1e3)
            log_changes("", changes)
        if refused and (repeats is None or repeats.is_due(refused)):
            LOG.error("stale sweep: everything was removed but what was refused: %s", shown)
        return SweepResult(result, "", refused, tuple(gone), changes, request_id)


def guard_text(stale: int, present: int, suspect: str = "") -> str:
    """Return the guard's reason, and what an operator can do."""
    why = f"{suspect}, which" if suspect else "removing so many"
    return (
        f"{part(stale, present, 'router', 'has', 'have')} no document any more on this host; {why} looks like a fault "
        "of the source, so nothing was removed. If it is right: restart with [dvr_agent] allow_mass_removal = true, "
        "or stop the agent and remove them by dvrctl cleanup"
    )
