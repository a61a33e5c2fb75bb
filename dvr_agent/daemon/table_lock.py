"""Lets jobs wait for the lock of iptables programs without holding up others.

The worker never waits for the lock: a job that needs it while another program holds it ends before its first write and
is remembered here, and other jobs go on.  The hub tries the lock (a call that does not block) and queues all these jobs
again once it is free.  A job that has waited :data:`PATIENCE` counts as failed, and is still queued at once then.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.job_result import JobResult
from dvr_agent.daemon.job_texts import subject_text
from dvr_agent.daemon.jobs import RouterJob, Work
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority, QueuedJob
from dvr_agent.kernel.iptables import lock

LOG = logging.getLogger(__name__)

PATIENCE = lock.TIMEOUT
"""Seconds after which a job that waits for the lock is reported as failed."""
PAUSE = 0.05
"""Seconds between two tries of the lock."""
QUIET = 1.0
"""Seconds for which the lock may be held before it is in log and status: iptables holds it for some milliseconds."""


@dataclass(slots=True)
class _Waiting:
    priority: Priority
    since: float
    failed: bool = False


class TableLock:
    """The jobs that wait for the lock of iptables programs.  All methods belong to the hub's thread."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._jobs: dict[str, _Waiting] = {}
        self._since = 0.0
        self._holder = ""

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for the lock."""
        return len(self._jobs)

    @property
    def trouble(self) -> str:
        """The trouble that status shows; empty if no job has waited for long."""
        if not self._holder:
            return ""
        seconds = time.monotonic() - self._since
        return f"{lock.XTABLES_LOCK} held by {self._holder} for {seconds:.0f} s: {self.waiting} routers wait for it"

    def wait(self, job: QueuedJob[Work], work: RouterJob) -> bool:
        """Remember a job that found the lock held; False if its patience is over: it has failed."""
        now = time.monotonic()
        if not self._jobs:
            self._since = now
            eventlet_shim.spawn(self._await_lock)
        waiting = self._jobs.setdefault(job.key, _Waiting(job.priority, now))
        waiting.priority = min(waiting.priority, job.priority)
        if not waiting.failed:
            return True
        LOG.error("%s: failed: %s", subject_text(job.key, work.name), self.trouble or "lock held")
        return False

    def router_job_ended(self, router_id: str, result: JobResult) -> None:
        """Forget the router's waiting job: a newer job has done without the lock, or got it."""
        if not result.locked:
            self._jobs.pop(router_id, None)

    def _await_lock(self) -> None:
        """Try the lock until it is free or no job waits any more, then queue the jobs again."""
        while self._jobs and not lock.is_free():
            self._note_long_wait()
            eventlet_shim.sleep(PAUSE)
        jobs, self._jobs = self._jobs, {}
        if self._holder:
            seconds = time.monotonic() - self._since
            LOG.info("%s is free again after %.1f s: %d routers go on", lock.XTABLES_LOCK, seconds, len(jobs))
            self._holder = ""
        for router_id, waiting in jobs.items():
            priority = Priority.RETRY if waiting.failed else waiting.priority
            self._schedule.requeue(router_id, priority)

    def _note_long_wait(self) -> None:
        now = time.monotonic()
        if not self._holder and now - self._since >= QUIET:
            self._holder = lock.holder() or "another program"
            LOG.warning("waiting for %s held by %s: %d routers", lock.XTABLES_LOCK, self._holder, self.waiting)
        for router_id, waiting in self._jobs.items():
            if not waiting.failed and now - waiting.since >= PATIENCE:
                waiting.failed = True
                self._schedule.requeue(router_id, waiting.priority)
