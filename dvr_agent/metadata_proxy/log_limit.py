"""Limits the number of log lines that instances can cause, so that none can fill the log."""

from __future__ import annotations

import asyncio
import logging
import time

LOG = logging.getLogger("dvr_agent.metadata_proxy")

INTERVAL = 10.0
"""Seconds between two lines of one topic."""
LINES_PER_SECOND = 5
"""Lines about added and removed routers at INFO; a start with hundreds of routers logs the rest at DEBUG."""


class LogLimit:
    """Writes log lines, and counts suppressed lines."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}
        self._second, self._in_second = 0, 0

    def warn(self, topic: str, text: str, *args: object) -> None:
        """Log a warning, at most once in :data:`INTERVAL` per topic, with the number of lines suppressed before.

        :param topic: a fixed word of the calling module, which names the kind of line
        """
        now = time.monotonic()
        if now - self._last.get(topic, -INTERVAL) < INTERVAL:
            self._suppressed[topic] = self._suppressed.get(topic, 0) + 1
            return
        self._last[topic] = now
        suppressed = self._suppressed.pop(topic, 0)
        rest = f" (and {suppressed} more of this kind)" if suppressed else ""
        # Not here: in an except block oslo.log would append the exception, whose text may quote an instance.
        asyncio.get_running_loop().call_soon(LOG.warning, text + "%s", *args, rest)

    def router(self, text: str, *args: object) -> None:
        """Log that a router was added or removed."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        LOG.log(logging.INFO if self._in_second <= LINES_PER_SECOND else logging.DEBUG, text, *args)
