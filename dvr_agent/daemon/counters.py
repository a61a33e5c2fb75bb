"""Counts jobs and repaired drift, and measures duration and latency of jobs and lateness of the hub.

For the status and the metrics.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.buckets import JOB_SECONDS, LATENESS_SECONDS, Buckets
from dvr_agent.daemon.floating_ip_counts import FloatingIpCounts
from dvr_agent.daemon.job_result import JobResult
from dvr_agent.daemon.work_queue import Priority

PROBE_SECONDS = 0.5
"""Seconds between two measurements of the hub: each wakes the process, which is what an idle agent costs."""
LATENCIES_KEPT = 1000
LATENESS_KEPT = 120
"""Measurements of the hub that ``hub_lateness_ms`` is about: those of the last minute."""


def _job_buckets() -> dict[str, Buckets]:
    return defaultdict(partial(Buckets, JOB_SECONDS))


@dataclass(slots=True)
class DaemonCounters:
    """Counters since the start of the daemon.  Belongs to the hub's thread."""

    floating_ips: FloatingIpCounts
    jobs: int = 0
    failures: int = 0
    drift_repaired: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    """Seconds from event to start of the job, of the newest jobs for changes."""
    lateness_worst: float = 0.0
    """Greatest lateness of the probe since the start, in seconds."""
    lateness_recent: deque[float] = field(default_factory=lambda: deque(maxlen=LATENESS_KEPT))
    """Lateness of the newest measurements, in seconds."""
    lateness: Buckets = field(default_factory=partial(Buckets, LATENESS_SECONDS))
    apply: dict[str, Buckets] = field(default_factory=_job_buckets)
    """Kind of job → seconds from its start to its end."""
    waited: dict[str, Buckets] = field(default_factory=_job_buckets)
    """Kind of a router's job → seconds from its event to its start."""
    failed: Counter[str] = field(default_factory=Counter)
    """Reason (``failure_reasons``) → number of failed jobs."""
    repaired: Counter[str] = field(default_factory=Counter)
    """Kind of object → number of objects repaired after drift."""
    changed: Counter[str] = field(default_factory=Counter)
    """Kind of object → number of objects added, changed or removed by any job of a router."""

    def job_ended(self, kind: str, priority: Priority, late: float, seconds: float, result: JobResult) -> None:
        """Count the job of a router.

        :param kind: one of ``jobs.JOB_KINDS``
        :param late: seconds from its event to its start
        :param seconds: seconds from its start to its end
        """
        self._measure(kind, late, seconds, result)
        self.jobs += 1
        if priority is Priority.EVENT:
            self.latencies.append(late)
        if result.retry:
            self.failures += 1
        if priority.repairs and result.reconciled is not None and result.reconciled.plan:
            self.drift_repaired += 1

    def host_job_ended(self, kind: str, seconds: float) -> None:
        """Count a job of the host."""
        self.apply[kind].add(seconds)

    def _measure(self, kind: str, late: float, seconds: float, result: JobResult) -> None:
        self.apply[kind].add(seconds)
        self.waited[kind].add(late)
        if result.cause:
            self.failed[result.cause] += 1
        if result.reconciled is not None:
            objects = result.reconciled.plan.counts()
            self.changed.update(objects)
            if kind in ("drift", "audit"):
                self.repaired.update(objects)

    def to_json(self) -> dict[str, object]:
        """Return all counters."""
        ordered = sorted(self.latencies)
        return {
            "jobs": self.jobs,
            "failures": self.failures,
            "drift_repaired": self.drift_repaired,
            "latency_ms": {
                "p50": _ms(ordered[len(ordered) // 2]) if ordered else None,
                "max": _ms(ordered[-1]) if ordered else None,
            },
            "hub_lateness_ms": _ms(max(self.lateness_recent, default=0.0)),
            "hub_lateness_worst_ms": _ms(self.lateness_worst),
        }

    def probe_hub(self, watch: Callable[[], None] = lambda: None) -> None:
        """Measure the lateness of a timer, which is the time that the hub was blocked; never returns.

        :param watch: is called at each measurement: an idle agent has no second timer for it
        """
        while True:
            asked = time.monotonic()
            eventlet_shim.sleep(PROBE_SECONDS)
            late = time.monotonic() - asked - PROBE_SECONDS
            self.lateness.add(max(late, 0.0))
            watch()
            self.lateness_recent.append(late)
            self.lateness_worst = max(self.lateness_worst, late)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)
