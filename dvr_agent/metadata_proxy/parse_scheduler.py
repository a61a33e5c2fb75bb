"""Shares the event loop among routers: each router's clients get a bounded part of every turn of the loop.

Requests are cheap for instances and expensive for the proxy: a few kilobytes can be thousands of chunks, and a refusal
by the proxy itself costs the client nothing, so that the next request follows at once.  So parsing, and answers by the
proxy itself, are done in turns: at most :data:`QUANTUM` units for one router per turn of the event loop, whatever
its instances have sent.  Another router's request then waits for a bounded time in each of its steps.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Protocol

QUANTUM = 100
"""Units for one router in one turn of the event loop: events of the parser, and lines of headers."""
ANSWER_UNITS = 10
"""Units of an answer by the proxy itself: it takes about as long as so many events."""


class ParseJob(Protocol):
    """A connection with received bytes that are not parsed yet."""

    def work(self, units: int) -> int:
        """Parse up to about so many units, and enqueue again if bytes are left; returns the number of units parsed."""


class ParseScheduler:
    """Runs jobs: routers take turns, and so do the connections of each router."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[ParseJob]] = {}
        self._scheduled = False

    def put(self, router: Hashable, job: ParseJob) -> None:
        """Enqueue a job of a router; it runs in the next turn of the event loop at the earliest."""
        self._waiting.setdefault(router, deque()).append(job)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        try:
            for router, queue in list(self._waiting.items()):
                units = QUANTUM
                while queue and units > 0:
                    units -= queue.popleft().work(units)
                if not queue:
                    del self._waiting[router]
        finally:
            self._schedule()
