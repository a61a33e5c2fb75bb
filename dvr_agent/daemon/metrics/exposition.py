"""Makes the text that Prometheus scrapes: the daemon's metrics, and prometheus_client's own of the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest

from dvr_agent.daemon.metrics.collector import Collector
from dvr_agent.daemon.metrics.families import Families

CONTENT_TYPE = CONTENT_TYPE_LATEST
RECENT_SECONDS = 1.0


class Exposition:
    """Makes the text.  Belongs to the hub's thread.

    :param more: returns metrics that are text already
    """

    def __init__(self, collector: Collector, more: Callable[[], bytes] = bytes) -> None:
        self._collector, self._more = collector, more
        # registry=None: prometheus_client's global registry has collectors that nobody asked for.
        self._process = ProcessCollector(registry=None)
        self._seconds = 0.0
        self._recent, self._made_at = b"", float("-inf")

    def text(self) -> bytes:
        """Return the text, made anew."""
        began = time.thread_time()
        data: bytes = generate_latest(self)
        self._seconds = time.thread_time() - began
        self._recent, self._made_at = data + self._more(), time.monotonic()
        return self._recent

    def recent_text(self) -> bytes:
        """Return a text of the last :data:`RECENT_SECONDS`: who asks again and again must not keep the hub busy."""
        return self._recent if time.monotonic() - self._made_at < RECENT_SECONDS else self.text()

    def collect(self) -> Iterable[Any]:
        """Return all families, as prometheus_client asks a registry for them."""
        yield from self._collector.collect()
        cost = Families()
        cost.gauge("scrape_seconds", self._seconds)
        yield from cost
        yield from self._process.collect()
