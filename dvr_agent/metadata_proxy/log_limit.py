"""Log lines that strangers can cause, in bounded numbers: an instance must not be able to fill the log."""

from __future__ import annotations

import asyncio
import logging
import time

LOG = logging.getLogger("dvr_agent.metadata_proxy")

INTERVAL = 10.0
"""Seconds between two lines about the same thing."""
HANDFUL = 5
"""Lines per second about routers that come and go, at INFO; a start with hundreds of them is told at DEBUG."""


class Journal:
    """One per process."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._second, self._in_second = 0, 0

    def warn(self, topic: str, text: str, *args: object) -> None:
        """A warning, at most once in :data:`INTERVAL` per topic, with the number of those not told.

        :param topic: one of a fixed few
        """
        now = time.monotonic()
        if now - self._last.get(topic, -INTERVAL) < INTERVAL:
            self._unsaid[topic] = self._unsaid.get(topic, 0) + 1
            return
        self._last[topic] = now
        unsaid = self._unsaid.pop(topic, 0)
        rest = f" (and {unsaid} more of this kind)" if unsaid else ""
        # Not here: in an except block oslo.log would append the exception, with what may be an instance's words.
        asyncio.get_running_loop().call_soon(LOG.warning, text + "%s", *args, rest)

    def router(self, text: str, *args: object) -> None:
        """A router came or went."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        LOG.log(logging.INFO if self._in_second <= HANDFUL else logging.DEBUG, text, *args)
