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
from dvr_agent.daemon.jobs import Work
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority, QueuedJob
from dvr_agent.kernel.iptables import lock
from dvr_agent.plural import count, verb

LOG = logging.getLogger(__name__)

PATIENCE = lock.TIMEOUT
"""Seconds after which a job that waits for the lock is reported as failed."""
PAUSE = 0.05
"""Seconds between two tries of the lock."""
QUIET = 1.0
"""Seconds for which the lock may be held before it is in log and status: iptables holds it for some milliseconds."""


@dataclass(slots=True)
class _Waiting:
    """A job that found the lock held.

    :ivar since: begin of its wait; begins anew when the job has failed
    :ivar queued: it was queued again: the lock was free, or its patience is over
    :ivar failing: its patience is over: if the lock is still held it fails
    :ivar failed: it has failed once
    """

    priority: Priority
    since: float
    queued: bool = False
    failing: bool = False
    failed: bool = False


class TableLock:
    """The jobs that wait for the lock of iptables programs.  All methods belong to the hub's thread.

    A job is remembered until it has ended without the lock being held: a lock that others take again and again may be
    free whenever the hub looks, and held whenever a job tries.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._jobs: dict[str, _Waiting] = {}
        self._looking = False
        self._since = 0.0
        self._holder = ""

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for the lock."""
        return sum(not one.queued for one in self._jobs.values())

    def __contains__(self, router_id: str) -> bool:
        """Return True if a job of the router waits for the lock."""
        return router_id in self._jobs and not self._jobs[router_id].queued

    @property
    def trouble(self) -> str:
        """The trouble that status shows; empty if no job has waited for long."""
        if not self._holder:
            return ""
        seconds = time.monotonic() - self._since
        number = len(self._jobs)
        routers = f"{count(number, 'router')} {verb(number, 'waits', 'wait')}"
        return f"{lock.XTABLES_LOCK} held by {self._holder} for {seconds:.0f} s: {routers} for it"

    def wait(self, job: QueuedJob[Work]) -> bool:
        """Remember a job that found the lock held; False if its patience is over: it has failed."""
        now = time.monotonic()
        for gone in [router_id for router_id in self._jobs if router_id not in self._schedule.records]:
            del self._jobs[gone]
        if not self._jobs:
            self._since = now
        if not self._looking:
            self._looking = True
            eventlet_shim.spawn(self._await_lock)
        waiting = self._jobs.setdefault(job.key, _Waiting(job.priority, now))
        waiting.queued = False
        waiting.priority = min(waiting.priority, job.priority)
        if not waiting.failing:
            return True
        waiting.since, waiting.failing, waiting.failed = now, False, True
        return False

    def router_job_ended(self, router_id: str, result: JobResult) -> None:
        """Forget the router's waiting job: a newer job has done without the lock, or got it."""
        if result.locked:
            return
        ended = self._jobs.pop(router_id, None)
        if self._holder and ((ended is not None and ended.queued) or not self._jobs):
            seconds, number = time.monotonic() - self._since, len(self._jobs) + (ended is not None)
            LOG.info(
                "%s is free again after %.1f s: %s %s on",
                lock.XTABLES_LOCK, seconds, count(number, "router"), verb(number, "goes", "go"),
            )  # fmt: skip
            self._holder, self._since = "", time.monotonic()

    def _await_lock(self) -> None:
        """Try the lock until no job waits any more; whenever it is free, queue the jobs again."""
        try:
            while self.waiting:
                eventlet_shim.sleep(PAUSE)
                self._note_long_wait()
                if lock.is_free():
                    for router_id, waiting in list(self._jobs.items()):
                        self._queue(router_id, waiting)
        finally:
            self._looking = False

    def _queue(self, router_id: str, waiting: _Waiting) -> None:
        if not waiting.queued:
            waiting.queued = True
            self._schedule.requeue(router_id, waiting.priority.of_retry if waiting.failed else waiting.priority)

    def _note_long_wait(self) -> None:
        now = time.monotonic()
        if self._jobs and not self._holder and now - self._since >= QUIET:
            self._holder = lock.holder() or "another program"
            routers = count(self.waiting, "router")
            LOG.warning("waiting for %s held by %s: %s", lock.XTABLES_LOCK, self._holder, routers)
        for router_id, waiting in list(self._jobs.items()):
            if not waiting.failing and now - waiting.since >= PATIENCE:
                waiting.failing = True
                self._queue(router_id, waiting)
