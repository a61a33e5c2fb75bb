"""Decides which job the dispatcher takes next: router records, work queue, and retries of failed routers.

Events of the source, resyncs, services and timers become queued jobs here.  Belongs to the hub's thread.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from functools import partial

from dvr_agent import backoff, logs
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.change_rate import ChangeRate
from dvr_agent.daemon.failure_log import SUM_PAUSE, FailureLog
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.job_texts import log_hindrances, subject_text
from dvr_agent.daemon.jobs import HostJob, RemoveRouter, UpdateRouter, Work
from dvr_agent.daemon.router_records import RouterRecord, RouterRecords
from dvr_agent.daemon.work_queue import Priority, QueuedJob, WorkQueue
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import Document

LOG = logging.getLogger(__name__)


class Schedule:
    """Queues jobs, stores their results, schedules retries.

    :ivar records: all routers; only this class calls the methods that change them
    """

    def __init__(self, retry: RetryPolicy) -> None:
        self._retry = retry
        self._queue: WorkQueue[Work] = WorkQueue()
        self._wakeup = eventlet_shim.Wakeup()
        self._retries: dict[str, eventlet_shim.GreenTimer] = {}
        self._rate = ChangeRate()
        self._delayed: dict[str, eventlet_shim.GreenTimer] = {}
        self._is_paused = False
        self._failures = FailureLog()
        self._failure_timer: eventlet_shim.GreenTimer | None = None
        self.records = RouterRecords()

    # Input

    def document_changed(self, document: Document, now: float, priority: Priority = Priority.EVENT) -> None:
        """Queue an update: the router's document is new, or good again; of changes in quick succession the last one."""
        before, record = self.records.document_changed(document)
        self._cancel_retry(record.id)
        recovering = bool(before.bad) or before.job_state is RouterState.DEGRADED
        waits = record.id in self._delayed or record.id in self._queue or record.id in self._queue.busy
        seconds = self._rate.change_came(record.id, time.monotonic(), waits)
        if record.id in self._delayed:  # its timer takes the newest document
            return
        if seconds:
            call = partial(self._queue_delayed, record.id, priority, now, recovering)
            self._delayed[record.id] = eventlet_shim.GreenTimer(seconds, call)
        else:
            self._queue_router(record, priority, now, recovering)

    def document_deleted(self, router_id: str, name: str, now: float) -> None:
        """Queue a removal: the source announced the deletion of the router's document ``name``."""
        record = self.records.document_deleted(router_id)
        self._cancel_retry(router_id)
        self._cancel_delayed(router_id)
        LOG.info("%s: its document %s was deleted", subject_text(router_id, record.name), logs.one_line(name))
        self._queue_router(record, Priority.EVENT, now)

    def document_bad(self, router_id: str, error: str) -> None:
        """Note that the router's document cannot be used; its last good document stays in force."""
        self.records.document_bad(router_id, error)

    def check_soon(self, router_id: str) -> None:
        """Queue a check of a router whose state may have changed without a new document; no job for unknown ids."""
        if router_id in self.records:
            self.requeue(router_id, Priority.RETRY)

    def drift_found(self, router_id: str) -> bool:
        """Queue a check of a router of which something was changed in the kernel.

        :returns: False for a router that does not agree with its document yet: another job is due already
        """
        record = self.records.get(router_id)
        if record is None or not record.repairable:
            return False
        self._queue_router(record, Priority.DRIFT, time.monotonic(), recovering=record.failures > 0)
        return True

    def requeue(self, router_id: str, priority: Priority) -> None:
        """Queue the router's current document, or its removal, once more."""
        record = self.records.get(router_id)
        if record is not None:
            if priority is Priority.RETRY:
                self._cancel_retry(router_id)
            self._queue_router(record, priority, time.monotonic(), recovering=record.failures > 0)

    def put_host_job(self, kind: HostJob, priority: Priority) -> None:
        """Queue work that belongs to no router."""
        self._queue.put(kind.value, kind, priority, time.monotonic())
        self._wakeup.ring()

    def drop_router(self, router_id: str) -> None:
        """Forget a router that is gone, with its waiting job and its retry."""
        self._queue.discard(router_id)
        self._cancel_retry(router_id)
        self._cancel_delayed(router_id)
        self._rate.forget(router_id)
        self._failures.forget(router_id)
        self.records.drop(router_id)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Start no job inside the block."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False
            self._wakeup.ring()

    # For the dispatcher

    def take(self) -> QueuedJob[Work] | None:
        """Take the next job; None if no job may start now."""
        job = None if self._is_paused else self._queue.take()
        if job is not None:
            self._rate.job_begins(job.key, time.monotonic())
        return job

    def done(self, key: str) -> None:
        """Mark the taken job of ``key`` as finished."""
        self._queue.done(key)
        self._rate.job_ended(key, time.monotonic())

    def wait(self, seconds: float | None) -> None:
        """Suspend the calling green thread until a job is queued, :meth:`wake` is called, or time is up."""
        if self._is_paused or not self._queue.runnable:
            self._wakeup.wait(seconds)

    def wake(self) -> None:
        """End the current or the next :meth:`wait`."""
        self._wakeup.ring()

    def is_queued(self, router_id: str) -> bool:
        """Return True if a job of the router waits or is at work."""
        return router_id in self._queue or router_id in self._queue.busy or router_id in self._delayed

    @property
    def depth(self) -> int:
        """Number of jobs that wait or are at work."""
        return len(self._queue) + len(self._queue.busy) + len(self._delayed)

    @property
    def oldest(self) -> float | None:
        """Time of the event that has waited longest for its job, by the monotonic clock; None: no job waits.

        A job that waits for its retry is none of these.
        """
        return min((job.since for job in self._queue), default=None)

    @property
    def waiting(self) -> list[QueuedJob[Work]]:
        """Jobs that wait, the one that has waited longest first."""
        return sorted(self._queue, key=lambda job: job.since)

    @property
    def runnable(self) -> bool:
        """True if :meth:`take` would return a job."""
        return not self._is_paused and self._queue.runnable

    def job_ended(self, job: QueuedJob[Work], result: JobResult) -> None:
        """Store the result in the router's record, and schedule the retry of a job that failed."""
        affected = result.reconciled.affected if result.reconciled is not None else ()
        for router_id in (*affected, *result.affected):
            self.check_soon(router_id)
        if result.reconciled is not None:
            subject = subject_text(job.key, job.work.name) if isinstance(job.work, UpdateRouter) else job.key
            log_hindrances(*self.records.hindrances_found(job.key, result.reconciled.plan.hindrances), subject)
            self.records.job_done(job.key, result.reconciled)
        record = self.records.get(job.key)
        if record is None:
            return
        if job.key in self._queue or job.key in self._delayed:  # the waiting, newer job decides the state
            if result.retry:
                self._log_failure(record, result, 0.0)
            return
        if result.retry:
            self._schedule_retry(self.records.job_failed(job.key, result), result, job.priority.of_retry)
        elif result.state is RouterState.REMOVED:
            self.drop_router(job.key)
        else:
            self._cancel_retry(job.key)
            self.records.job_ended(job.key, result)
            self._log_success(job, result)

    def _queue_router(self, record: RouterRecord, priority: Priority, now: float, recovering: bool = False) -> None:
        if record.deleted:
            self._queue.put(record.id, RemoveRouter(record.id, record.name), priority, now)
        elif record.document is not None:
            work = UpdateRouter(record.document, record.logged, recovering)
            self._queue.put(record.id, work, priority, now)
        self._wakeup.ring()

    def _queue_delayed(self, router_id: str, priority: Priority, since: float, recovering: bool) -> None:
        """Queue the newest document of a router whose changes came faster than jobs."""
        self._delayed.pop(router_id, None)
        record = self.records.get(router_id)
        if record is not None:
            self._queue_router(record, priority, since, recovering)

    def _cancel_delayed(self, router_id: str) -> None:
        timer = self._delayed.pop(router_id, None)
        if timer is not None:
            timer.cancel()

    def _schedule_retry(self, record: RouterRecord, result: JobResult, priority: Priority) -> None:
        seconds = backoff.delay(record.failures, self._retry.first, self._retry.maximum)
        self._cancel_retry(record.id)
        self.records.set_retry(record.id, time.monotonic() + seconds)
        self._retries[record.id] = eventlet_shim.GreenTimer(seconds, partial(self._retry_now, record.id, priority))
        self._log_failure(record, result, seconds)

    def _log_failure(self, record: RouterRecord, result: JobResult, seconds: float) -> None:
        """Log a failure, unless it is in the log already; ``seconds`` until the next try."""
        subject, reason = subject_text(record.id, record.name), result.shown or result.reason
        self._failures.failed(record.id, subject, reason, seconds, time.monotonic())
        self._log_failures_later()

    def _log_success(self, job: QueuedJob[Work], result: JobResult) -> None:
        """Log the end of failures, or of a bad document; not where objects are left out, which is in the log."""
        if result.state not in (RouterState.IN_SYNC, RouterState.ADMIN_DOWN):
            self._failures.forget(job.key)
            return
        work = job.work
        assert not isinstance(work, HostJob)
        subject = subject_text(job.key, work.name)
        failed = self._failures.succeeded(job.key, subject, time.monotonic())
        if not failed and isinstance(work, UpdateRouter) and work.recovering:
            LOG.info("%s: recovered", subject)

    def _log_failures_later(self) -> None:
        """Have sums of failures logged every few seconds while there may be some."""
        if self._failure_timer is None and self._failures.is_busy:
            self._failure_timer = eventlet_shim.GreenTimer(SUM_PAUSE, self._log_failures)

    def _log_failures(self) -> None:
        self._failure_timer = None
        self._failures.tick(time.monotonic())
        self._log_failures_later()

    def _retry_now(self, router_id: str, priority: Priority) -> None:
        self._retries.pop(router_id, None)
        self.records.set_retry(router_id, None)
        self.requeue(router_id, priority)

    def _cancel_retry(self, router_id: str) -> None:
        timer = self._retries.pop(router_id, None)
        if timer is not None:
            timer.cancel()
        self.records.set_retry(router_id, None)
