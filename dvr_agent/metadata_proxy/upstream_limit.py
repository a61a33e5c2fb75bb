"""Limits the number of one router's requests to neutron-metadata-agent at a time; others wait in a fair queue."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

WAITING = 8
"""Maximum number of waiting requests of one client."""


class FairQueue(Generic[Item]):
    """A queue in which clients take turns: many items of one client do not delay those of the others."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def count(self, client: str) -> int:
        """Return the number of items of one client."""
        return len(self._waiting.get(client, ()))

    def put(self, client: str, item: Item) -> None:
        """Append an item of a client."""
        self._waiting.setdefault(client, deque()).append(item)

    def remove(self, client: str, item: Item) -> bool:
        """Remove an item; returns False if it is not in the queue."""
        queue = self._waiting.get(client)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        if not queue:
            del self._waiting[client]
        return True

    def pop(self, may: Callable[[str], bool] = lambda client: True) -> tuple[str, Item] | None:
        """Remove the next item; returns it with its client, whose next turn comes after all others.

        :param may: clients for which it returns False are skipped
        """
        client = next(filter(may, self._waiting), None)
        if client is None:
            return None
        queue = self._waiting[client]
        item = queue.popleft()
        if queue:
            self._waiting.move_to_end(client)
        else:
            del self._waiting[client]
        return client, item


class UpstreamSlots:
    """Slots for requests; one client has at most half of them, so that the others' requests need not wait for its own.

    A slot that was taken is given back with :meth:`release`.

    :param number: of slots
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken: Counter[str] = Counter()
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    def resize(self, number: int) -> None:
        """Change the number of slots; a smaller number takes effect as taken slots become free."""
        self._number = number
        self._grant()

    def may_wait(self, client: str) -> bool:
        """Return True if one more request of a client may wait."""
        return self._queue.count(client) < WAITING

    def take(self, client: str) -> bool:
        """Take a slot now; returns False if none is free for the client.

        No queued request is overtaken: one that could have the slot would have been granted it already.
        """
        if self._taken.total() >= self._number or not self._may_take(client):
            return False
        self._taken[client] += 1
        return True

    async def acquire(self, client: str, seconds: float) -> None:
        """Take a slot, and wait for it if need be.

        :raises TimeoutError: no slot was free within these seconds, or too many requests of this client wait already
        """
        if not self.may_wait(client):
            raise TimeoutError
        if self.take(client):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(client, granted)
        try:
            async with asyncio.timeout(seconds):
                await granted
        except (TimeoutError, asyncio.CancelledError):
            if granted.cancelled():
                self._queue.remove(client, granted)
            else:  # granted at the same moment: the slot is taken, and goes to the next request
                self.release(client)
            raise

    def release(self, client: str) -> None:
        """Give a slot back; the next request in the queue gets it."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
        self._grant()

    def _grant(self) -> None:
        while self._taken.total() < self._number and (found := self._queue.pop(self._may_take)) is not None:
            client, granted = found
            if not granted.done():  # else it was cancelled, and its task has not run yet
                self._taken[client] += 1
                granted.set_result(None)

    def _may_take(self, client: str) -> bool:
        return self._taken[client] < max(1, self._number // 2)
