"""Counts jobs and repaired drift, and measures latency of jobs and lateness of the hub, for the status."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.job_result import JobResult
from dvr_agent.daemon.work_queue import Priority

PROBE_SECONDS = 0.5
"""Seconds between two measurements of the hub: each wakes the process, which is what an idle agent costs."""
LATENCIES_KEPT = 1000


@dataclass(slots=True)
class DaemonCounters:
    """Counters since the start of the daemon.  Belongs to the hub's thread."""

    jobs: int = 0
    failures: int = 0
    drift_repaired: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    """Seconds from event to start of the job, of the newest jobs for changes."""
    lateness_worst: float = 0.0
    """Greatest lateness of the probe since the start, in seconds."""
    lateness_recent: float = 0.0
    """Greatest lateness since the last status."""

    def job_ended(self, priority: Priority, late: float, result: JobResult) -> None:
        """Count the job of a router.

        :param late: seconds from its event to its start
        """
        self.jobs += 1
        if priority is Priority.EVENT:
            self.latencies.append(late)
        if result.retry:
            self.failures += 1
        if priority.repairs and result.reconciled is not None and result.reconciled.plan:
            self.drift_repaired += 1

    def to_json(self) -> dict[str, object]:
        """Return all counters; begins a new period for ``hub_lateness_ms``."""
        ordered = sorted(self.latencies)
        recent, self.lateness_recent = self.lateness_recent, 0.0
        return {
            "jobs": self.jobs,
            "failures": self.failures,
            "drift_repaired": self.drift_repaired,
            "latency_ms": {
                "p50": _ms(ordered[len(ordered) // 2]) if ordered else None,
                "max": _ms(ordered[-1]) if ordered else None,
            },
            "hub_lateness_ms": _ms(recent),
            "hub_lateness_worst_ms": _ms(self.lateness_worst),
        }

    def probe_hub(self) -> None:
        """Measure the lateness of a timer, which is the time that the hub was blocked; never returns."""
        while True:
            asked = time.monotonic()
            eventlet_shim.sleep(PROBE_SECONDS)
            late = time.monotonic() - asked - PROBE_SECONDS
            self.lateness_recent = max(self.lateness_recent, late)
            self.lateness_worst = max(self.lateness_worst, late)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)
