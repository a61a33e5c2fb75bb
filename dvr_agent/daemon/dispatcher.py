"""Takes jobs from the queue, one after the other, has the worker do them, and settles what came of it.

Retries, repeated announcements and the flushing of state files live here, since they follow from a job's result.
What the source said comes from ``feed``; full syncs, audits and the stale sweep come from ``passes``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dvr_agent import logs
from dvr_agent.daemon import backoff, eventlet_shim, jobs
from dvr_agent.daemon.announcements import Announce, Repeater
from dvr_agent.daemon.counters import Counters
from dvr_agent.daemon.gc_freeze import Heap
from dvr_agent.daemon.jobs import Control, Degraded, Done, Failed, NotSupported, Remove, Result, Update, Work
from dvr_agent.daemon.routers import Record, Routers, State
from dvr_agent.daemon.work_queue import Job, Priority, Queue
from dvr_agent.daemon.worker import Worker
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.reconcile.api import Result as Outcome
from dvr_agent.sources.api import Document, Settled

LOG = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
FLUSH_RETRY_SECONDS = 5.0
"""Between two tries to write state files that could not be written."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds: of the first retry, and at most."""

    first: float
    maximum: float


class Dispatcher:
    """The one place where work starts.  All methods belong to the hub's thread.

    :ivar not_kept: why state files cannot be written, empty if they can
    :ivar controls: what to do for each :class:`Control` job; runs in the dispatcher's green thread
    :ivar on_settled: called with the id of each router whose job has ended
    :ivar on_changed: called when a job has changed something
    :ivar report: told what became of each router, for the source; must not block
    """

    def __init__(
        self, reconciler: Reconciler, announce: Announce, worker: Worker, retry: RetryPolicy, counters: Counters
    ) -> None:
        self._reconciler, self._worker = reconciler, worker
        self._retry, self._counters = retry, counters
        self._bell = eventlet_shim.Wakeup()
        self._stopping = False
        self._dirty, self._flushed = False, time.monotonic()
        self.not_kept = ""
        self._current: tuple[str, float] | None = None
        self.finished = eventlet_shim.Event()
        self.heap = Heap()
        self.routers = Routers()
        self.queue: Queue[Work] = Queue()
        self._repeater = Repeater(
            announce, worker, partial(self.control, Control.ANNOUNCE, Priority.AUDIT), self._announceable
        )
        self.controls: dict[Control, Callable[[], None]] = {Control.ANNOUNCE: self._repeater.send_some}
        self.on_settled: Callable[[str], None] = lambda router_id: None
        self.on_changed: Callable[[], None] = lambda: None
        self.report: Callable[[Settled], None] = lambda report: None

    # What comes in

    def changed(self, document: Document, now: float, priority: Priority = Priority.EVENT) -> None:
        """A router has a new document, or its document is good again."""
        record = self.routers.ensure(document.router.id)
        record.document, record.name = document, document.router.name
        was_bad, record.bad, record.deleted = bool(record.bad), "", False
        self._at_once(record, now, priority, recovering=was_bad or record.result is State.DEGRADED)

    def deleted(self, router_id: str, name: str, now: float) -> None:
        """The source says that the router is gone."""
        record = self.routers.ensure(router_id)
        record.deleted, record.bad = True, ""
        LOG.info("%s: its document %s was deleted", jobs.subject_text(router_id, record.name), logs.one_line(name))
        self._at_once(record, now, Priority.EVENT)

    def bad(self, router_id: str, text: str) -> None:
        """The router's document cannot be used; what the last good one asked for stays."""
        self.routers.ensure(router_id).bad = text

    def again(self, record: Record, priority: Priority) -> None:
        """Look at a router whose document has not changed."""
        self._put(record, priority, time.monotonic(), recovering=record.failures > 0)

    def look_at(self, router_id: str) -> None:
        """Something about the router changed by itself: look at it soon."""
        record = self.routers.get(router_id)
        if record is not None:
            record.cancel_retry()
            self.again(record, Priority.RETRY)

    def control(self, what: Control, priority: Priority) -> None:
        self.queue.put(what.value, what, priority, time.monotonic())
        self._bell.ring()

    def stop(self) -> None:
        """Take no more work; :attr:`finished` is set when the current job has ended."""
        self._stopping = True
        self._bell.ring()

    def _at_once(self, record: Record, now: float, priority: Priority, recovering: bool = False) -> None:
        record.cancel_retry()
        record.failures, record.result, record.reason = 0, State.PENDING, ""
        self._put(record, priority, now, recovering)

    def _put(self, record: Record, priority: Priority, now: float, recovering: bool) -> None:
        if record.deleted:
            self.queue.put(record.id, Remove(record.id, record.name), priority, now)
        elif record.document is not None:
            update = Update(record.document, frozenset(record.warned), recovering)
            self.queue.put(record.id, update, priority, now)
        self._bell.ring()

    @property
    def working_on(self) -> dict[str, object] | None:
        """The job that is being done, and for how many seconds."""
        if self._current is None:
            return None
        key, since = self._current
        return {"job": key, "seconds": round(time.monotonic() - since, 3)}

    # The loop

    def run(self) -> None:
        """Work until :meth:`stop`."""
        while not self._stopping:
            job = self.queue.take()
            if job is None:
                self._flush_if_due(idle=True)
                if not self._runnable():
                    self._bell.wait(FLUSH_SECONDS if self._dirty else None)
                continue
            self._current = (job.key, time.monotonic())
            try:
                self._do(job)
            finally:
                self._current = None
                self.queue.done(job.key)
            self._flush_if_due(idle=False)
        self.finished.set()

    def flush(self) -> None:
        """Have changed state files written.  A failure is logged once, and the next flush tries again."""
        self._flushed = time.monotonic()
        trouble = ""
        try:
            self._worker.call(self._reconciler.flush)
            self._dirty = False
        except DvrError as exc:
            trouble = str(exc)
        except Exception as exc:
            LOG.exception("state files could not be written")
            trouble = f"{type(exc).__name__}: {exc}"
        if trouble and trouble != self.not_kept:
            LOG.error("state files could not be written, retrying every %.0f s: %s", FLUSH_RETRY_SECONDS, trouble)
        elif self.not_kept and not trouble:
            LOG.info("recovered: state files are written again")
        self.not_kept = trouble

    def _runnable(self) -> bool:
        busy = self.queue.busy
        return self._stopping or any(job.key not in busy for job in self.queue)

    def _flush_if_due(self, idle: bool) -> None:
        since = time.monotonic() - self._flushed
        due = since >= FLUSH_RETRY_SECONDS if self.not_kept else idle or since >= FLUSH_SECONDS
        if self._dirty and due:
            self.flush()

    def _do(self, job: Job[Work]) -> None:
        if job.work is not Control.ANNOUNCE:
            self._dirty = True
        if isinstance(job.work, Control):
            self.controls[job.work]()
            return
        late, result = self._worker.call(partial(_run, job, self._reconciler))
        self._counters.jobs += 1
        if job.priority is Priority.EVENT:
            self._counters.latencies.append(late)
        self._settle(job, result)
        self.report(jobs.settled(job, result))
        self.on_settled(job.key)
        if job.priority is not Priority.AUDIT:
            self.heap.router_changed()

    # What comes of it

    def _settle(self, job: Job[Work], result: Result) -> None:
        record = self.routers.get(job.key)
        if isinstance(result, Failed | Degraded):
            self._counters.failures += 1
        if isinstance(result, Done | Degraded):
            self._note(job, record, result.outcome)
        if record is None or job.key in self.queue:  # a newer word waits: it will be judged by that
            return
        if isinstance(result, Failed | Degraded):
            self._failed(record, result.reason)
            return
        record.cancel_retry()
        record.failures = 0
        if isinstance(result, NotSupported):
            record.result, record.reason = State.NOT_SUPPORTED, result.reason
            self._warn_once(record, result.reason)
        elif isinstance(job.work, Remove):
            self.routers.drop(record.id)
        else:
            record.result, record.reason = _result(job.work, result.outcome)

    def _note(self, job: Job[Work], record: Record | None, outcome: Outcome) -> None:
        if outcome.plan and job.priority is Priority.AUDIT:
            self._counters.drift_repaired += 1
        if outcome.plan:
            self.on_changed()
        for router_id in outcome.affected:
            self.look_at(router_id)
        if record is None:
            return
        record.warned = {*outcome.plan.warnings, *outcome.plan.omitted}
        record.last_seconds = round(outcome.seconds, 6)
        if outcome.plan:
            record.last_change, record.last_counts = time.time(), outcome.plan.counts()
        self._repeater.later(record.id, outcome)

    def _failed(self, record: Record, reason: str) -> None:
        record.failures += 1
        record.result, record.reason = State.DEGRADED, reason
        seconds = backoff.delay(record.failures, self._retry.first, self._retry.maximum)
        record.cancel_retry()
        record.retry_at = time.monotonic() + seconds
        record.retry = eventlet_shim.Timer(seconds, partial(self._retry_now, record))
        LOG.warning("router %s: keeps what it has, try %d in %.1f s", record.id, record.failures + 1, seconds)

    def _retry_now(self, record: Record) -> None:
        record.retry = record.retry_at = None
        if self.routers.get(record.id) is record:
            self.again(record, Priority.RETRY)

    def _warn_once(self, record: Record, text: str) -> None:
        if text not in record.warned:
            record.warned.add(text)
            LOG.warning("%s: %s", jobs.subject_text(record.id, record.name), text)

    def _announceable(self, router_id: str) -> bool:
        record = self.routers.get(router_id)
        return record is not None and not record.deleted


def _result(work: Work, outcome: Outcome) -> tuple[State, str]:
    """State and reason of a router whose job is done.

    No retry can help where objects of the document are left out: only another document can.
    """
    if not isinstance(work, Update) or not work.document.router.admin_state_up:
        return State.ADMIN_DOWN, ""
    if outcome.plan.omitted:
        return State.DEGRADED, f"left out: {'; '.join(outcome.plan.omitted)}"
    return State.IN_SYNC, ""


def _run(job: Job[Work], reconciler: Reconciler) -> tuple[float, Result]:
    """In the worker thread: how late the job started, and what came of it."""
    late = jobs.started_late(job.since)
    return late, jobs.run(job, reconciler, late)
