"""Whose bytes are parsed next: routers take turns, and so do the connections of each.

What instances send is cheap for them and expensive for us: a few kilobytes can be thousands of chunks.  So little is
done in one turn of the event loop for one router, whatever its instances have sent, that others do not notice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Protocol

QUANTUM = 100
"""Events of the parser, and lines of headers, for one router in one turn of the event loop."""


class Worker(Protocol):
    """What has something to parse."""

    def work(self, units: int) -> int:
        """Do about so much of it, and come again if that was not all; returns how much it was."""


class Turns:
    """One per process."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Worker]] = {}
        self._scheduled = False

    def put(self, router: Hashable, worker: Worker) -> None:
        """It works in the next turn of the event loop at the earliest."""
        self._waiting.setdefault(router, deque()).append(worker)
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
