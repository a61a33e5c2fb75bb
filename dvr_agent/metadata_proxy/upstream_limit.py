"""So many requests of a router are with neutron-metadata-agent at a time; the others wait their turn."""

from __future__ import annotations

import asyncio
from collections import Counter

from dvr_agent.metadata_proxy.limits import FairQueue

WAITING = 8
"""Requests of one client that may wait."""


class Slots:
    """One client has at most half of them, so that others need not wait for what it asks.

    :param number: how many there are
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: Counter[str] = Counter()
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    def resize(self, number: int) -> None:
        """Fewer take effect as those that are held become free."""
        self._number = number
        self._grant()

    async def acquire(self, client: str, seconds: float) -> None:
        """Give it back with :meth:`release`.

        :raises TimeoutError: none was free within these seconds, or too many of this client wait already
        """
        if self._queue.count(client) >= WAITING:
            raise TimeoutError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(client, turn)
        self._grant()
        if turn.done():
            return
        try:
            async with asyncio.timeout(seconds):
                await turn
        except (TimeoutError, asyncio.CancelledError):
            if turn.cancelled():
                self._queue.remove(client, turn)
            else:  # it was our turn at the same moment: the slot is ours to give on
                self.release(client)
            raise

    def release(self, client: str) -> None:
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        self._grant()

    def _grant(self) -> None:
        while self._held.total() < self._number and (found := self._queue.pop(self._may)) is not None:
            client, turn = found
            if not turn.done():  # else it was cancelled, and its task has not run yet
                self._held[client] += 1
                turn.set_result(None)

    def _may(self, client: str) -> bool:
        return self._held[client] < max(1, self._number // 2)
