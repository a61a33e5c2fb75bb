"""Figures for the status: what was done, how fast work started, how late the hub was."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from dvr_agent.daemon import eventlet_shim

PROBE_SECONDS = 0.05
LATENCIES_KEPT = 1000


@dataclass(slots=True)
class Counters:
    """Belongs to the hub's thread."""

    jobs: int = 0
    failures: int = 0
    drift_repaired: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    """Seconds from event to start of work, of the newest jobs that answered a change."""
    lateness_worst: float = 0.0
    """Seconds by which the 50 ms timer was late at most since the start."""
    lateness_recent: float = 0.0
    """The same since the last status."""

    def to_json(self) -> dict[str, object]:
        """All figures; starts a new period for ``hub_lateness_ms``."""
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
        """Measure for ever how late a timer of 50 ms is: that is how long something blocked the hub."""
        while True:
            asked = time.monotonic()
            eventlet_shim.sleep(PROBE_SECONDS)
            late = time.monotonic() - asked - PROBE_SECONDS
            self.lateness_recent = max(self.lateness_recent, late)
            self.lateness_worst = max(self.lateness_worst, late)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)
