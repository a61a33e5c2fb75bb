"""So many requests of a router are with neutron-metadata-agent at a time; the others wait their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dvr_agent.metadata_proxy.limits import FairQueue


class Slots:
    """
    :param number: how many there are
    """

    def __init__(self, number: int) -> None:
        self._number = self._free = number
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    def resize(self, number: int) -> None:
        """Fewer take effect as those that are held become free."""
        self._free += number - self._number
        self._number = number
        while self._free > 0 and (turn := self._queue.pop()) is not None:
            if not turn.done():
                turn.set_result(None)
                self._free -= 1

    @asynccontextmanager
    async def one(self, client: str, seconds: float) -> AsyncIterator[None]:
        """A slot is held inside the block.

        :raises TimeoutError: none was free within these seconds
        """
        await self._acquire(client, seconds)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, client: str, seconds: float) -> None:
        if self._free > 0 and not len(self._queue):
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(client, turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except (TimeoutError, asyncio.CancelledError):
            if turn.cancelled():
                self._queue.remove(client, turn)
            else:  # it was our turn at the same moment: the slot is ours to give on
                self._release()
            raise

    def _release(self) -> None:
        if self._free < 0:  # there are fewer than there were
            self._free += 1
            return
        while (turn := self._queue.pop()) is not None:
            if not turn.done():  # else it was cancelled, and its task has not run yet
                turn.set_result(None)
                return
        self._free += 1
