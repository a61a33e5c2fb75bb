"""State that all parts of the process share: settings, budgets, counters."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.fd_budget import FdBudget
from dvr_agent.metadata_proxy.log_limit import LogLimit
from dvr_agent.metadata_proxy.parse_scheduler import ParseScheduler


class RequestCounters:
    """Counts requests, answers and refusals since the start of the process; ``status`` shows them.

    :ivar requests: number of complete requests, answered by neutron-metadata-agent or by the proxy itself
    """

    def __init__(self) -> None:
        self.requests = 0
        self._answers: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._last_error: dict[str, Any] | None = None
        self._last_ok: float | None = None

    def answered(self, status: int) -> None:
        """Count an answer by the first digit of its status."""
        self._answers[f"{status // 100}xx"] += 1

    def refused(self, cause: str) -> None:
        """Count a refused connection or request; ``control_server`` lists the causes."""
        self._refused[cause] += 1

    def upstream_failed(self, why: str) -> None:
        """Note the time and the reason of a failed request to neutron-metadata-agent."""
        self._last_error = {"time": time.time(), "what": why}

    def upstream_ok(self) -> None:
        """Note the time of a request that neutron-metadata-agent answered."""
        self._last_ok = time.time()

    def status(self) -> dict[str, Any]:
        """Return all counters, JSON-ready."""
        return {
            "requests": self.requests,
            "answers": {kind: self._answers[kind] for kind in ("2xx", "3xx", "4xx", "5xx")},
            "refused": dict(sorted(self._refused.items())),
            "upstream": {"last_error": self._last_error, "last_ok": self._last_ok},
        }


@dataclass(slots=True)
class ProxyState:
    """The one state of the process.

    :ivar stopping: True when the process ends: every answer is the last one of its connection
    :ivar exchanges: tasks of requests to neutron-metadata-agent; the event loop itself keeps only weak references
    """

    settings: ProxySettings
    budget: FdBudget
    counters: RequestCounters = field(default_factory=RequestCounters)
    log: LogLimit = field(default_factory=LogLimit)
    stopping: bool = False
    scheduler: ParseScheduler = field(default_factory=ParseScheduler)
    exchanges: set[asyncio.Task[None]] = field(default_factory=set)
