"""Makes the text that Prometheus scrapes: the daemon's metrics, and prometheus_client's own of the process.

prometheus_client and what makes its families are imported once the first resync is over, or at a scrape before that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from dvr_agent.daemon.health import Health
from dvr_agent.daemon.status import DaemonStatus

RECENT_SECONDS = 1.0


class Exposition:
    """Makes the text.  Belongs to the hub's thread.

    :param more: returns metrics that are text already
    """

    def __init__(self, status: DaemonStatus, health: Health, more: Callable[[], bytes] = bytes) -> None:
        self._status, self._health, self._more = status, health, more
        self._collectors: tuple[Any, Any] | None = None
        self._seconds = 0.0
        self._recent, self._made_at = b"", float("-inf")

    @property
    def content_type(self) -> str:
        """The media type of the text."""
        from prometheus_client import CONTENT_TYPE_LATEST

        return str(CONTENT_TYPE_LATEST)

    def load(self) -> tuple[Any, Any]:
        """Import what makes the text, and return the collectors of the daemon and of its process.  For any thread."""
        if self._collectors is None:
            from prometheus_client import ProcessCollector

            from dvr_agent.daemon.metrics.collector import Collector

            # registry=None: prometheus_client's global registry has collectors that nobody asked for.
            self._collectors = Collector(self._status, self._health), ProcessCollector(registry=None)
        return self._collectors

    def text(self) -> bytes:
        """Return the text, made anew."""
        from prometheus_client import generate_latest

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
        from dvr_agent.daemon.metrics.families import Families

        daemon, process = self.load()
        yield from daemon.collect()
        cost = Families()
        cost.gauge("scrape_seconds", self._seconds)
        yield from cost
        yield from process.collect()
