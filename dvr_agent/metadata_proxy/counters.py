"""What happened since the start, for the question ``status``."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any


class Counters:
    """One per process.

    :ivar requests: complete requests, answered by whomever
    """

    def __init__(self) -> None:
        self.requests = 0
        self._answers: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._last_error: dict[str, Any] | None = None
        self._last_ok: float | None = None

    def answered(self, status: int) -> None:
        self._answers[f"{status // 100}xx"] += 1

    def refused(self, cause: str) -> None:
        """Something an instance wanted was not done; the causes are listed in ``control``."""
        self._refused[cause] += 1

    def upstream_failed(self, why: str) -> None:
        self._last_error = {"time": time.time(), "what": why}

    def upstream_ok(self) -> None:
        self._last_ok = time.time()

    def status(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "answers": {kind: self._answers[kind] for kind in ("2xx", "3xx", "4xx", "5xx")},
            "refused": dict(sorted(self._refused.items())),
            "upstream": {"last_error": self._last_error, "last_ok": self._last_ok},
        }
