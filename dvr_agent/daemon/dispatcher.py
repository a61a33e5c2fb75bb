"""Takes jobs from the schedule, one at a time, has the worker thread carry them out, and passes on the results."""

from __future__ import annotations

import time
from functools import partial

from dvr_agent import logs
from dvr_agent.daemon import eventlet_shim, jobs
from dvr_agent.daemon.counters import DaemonCounters
from dvr_agent.daemon.drift_watch import DriftWatch
from dvr_agent.daemon.gc_freeze import GcFreeze
from dvr_agent.daemon.history import History
from dvr_agent.daemon.host_jobs import HostJobs
from dvr_agent.daemon.jobs import HostJob, RouterJob, Work
from dvr_agent.daemon.parts import Parts
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.state_files import StateFiles
from dvr_agent.daemon.table_lock import TableLock
from dvr_agent.daemon.work_queue import QueuedJob
from dvr_agent.daemon.worker import WorkerThread


class Dispatcher:
    """The one place where jobs start.  All methods belong to the hub's thread.

    :ivar finished: set when :meth:`run` has ended
    """

    def __init__(  # noqa: PLR0913 - the parts that take part in a job meet here
        self,
        parts: Parts,
        worker: WorkerThread,
        schedule: Schedule,
        host_jobs: HostJobs,
        state_files: StateFiles,
        counters: DaemonCounters,
        drift: DriftWatch,
        table_lock: TableLock,
        history: History,
    ) -> None:
        self._reconciler, self._source, self._worker = parts.reconciler, parts.source, worker
        self._schedule, self._host_jobs = schedule, host_jobs
        self._state_files, self._counters = state_files, counters
        self._drift, self._table_lock, self._history = drift, table_lock, history
        self._gc_freeze = GcFreeze()
        self._stopping = False
        self._current: tuple[str, float] | None = None
        self.finished = eventlet_shim.GreenEvent()

    @property
    def working_on(self) -> dict[str, object] | None:
        """The job under way, and for how many seconds."""
        if self._current is None:
            return None
        key, since = self._current
        return {"job": key, "seconds": round(time.monotonic() - since, 3)}

    def run(self) -> None:
        """Work until :meth:`stop`."""
        self._gc_freeze.freeze()
        while not self._stopping:
            job = self._schedule.take()
            if job is None:
                self._state_files.flush_if_due(idle=True)
                if not self._stopping:
                    self._schedule.wait(self._state_files.seconds_to_wait)
                continue
            self._current = (job.key, time.monotonic())
            try:
                self._do(job)
            finally:
                self._current = None
                self._schedule.done(job.key)
            self._state_files.flush_if_due(idle=False)
        self.finished.set()

    def stop(self) -> None:
        """Take no more jobs; :attr:`finished` is set when the current job has ended."""
        self._stopping = True
        self._schedule.wake()

    def _do(self, job: QueuedJob[Work]) -> None:
        if job.work is not HostJob.ANNOUNCE:
            self._state_files.mark_dirty()
        if isinstance(job.work, HostJob):
            began = time.monotonic()
            self._host_jobs.run(job.work)
            self._counters.host_job_ended(job.work.name.lower(), time.monotonic() - began)
        else:
            self._do_router(job, job.work)

    def _do_router(self, job: QueuedJob[Work], work: RouterJob) -> None:
        run, began = partial(jobs.run, job, self._reconciler), time.monotonic()
        (late, result), heard = self._worker.call(partial(self._drift.around, job.key, run))
        if result.locked and self._table_lock.wait(job):
            self._drift.job_waits(job.key, heard)
            return
        self._table_lock.router_job_ended(job.key, result)
        kind = jobs.kind_of(work, job.priority)
        self._counters.job_ended(kind, job.priority, late, time.monotonic() - began, result)
        with logs.job_context(job.key, work.floating_ips, result.request_id):  # no green thread switches inside
            self._schedule.job_ended(job, result)
            found = self._drift.job_ended(work, job.priority.repairs, result, heard)
        self._history.router_job_ended(work, job.priority, result, found)
        report = jobs.report_of(work, result)
        self._counters.floating_ips.job_ended(report)
        self._source.job_ended(report)
        self._host_jobs.router_job_ended(job.key, result)
        if not job.priority.repairs:
            self._gc_freeze.router_changed()
