"""Counting: how often a client asked of late, and whose turn it is.  Pure; the time is an argument."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from dvr_agent.metadata.settings import Rate

Item = TypeVar("Item")

CLIENTS = 4096
"""Clients of one router whose rate is remembered; haproxy's table in Neutron's configuration has a size too."""


class Window:
    """Events of the last so many seconds, as haproxy counts them (freq_ctr): those of the present period, and of the
    one before the share that still reaches into the window.

    :param seconds: how long the window is
    """

    __slots__ = ("_before", "_begin", "_now", "_seconds")

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds, self._begin = seconds, now
        self._now = self._before = 0

    def add(self, now: float) -> float:
        """Count one more; returns how many there are in the window, the new one too."""
        periods = int((now - self._begin) / self._seconds)
        if periods > 0:
            self._before = self._now if periods == 1 else 0
            self._now = 0
            self._begin += periods * self._seconds
        self._now += 1
        share = 1 - (now - self._begin) / self._seconds
        return self._now + self._before * max(0.0, min(1.0, share))


class RateLimit:
    """The rate limit of one router, per client.  A refused request counts too, as it does with haproxy.

    :param rates: all of them hold; none: nobody is limited
    """

    def __init__(self, rates: Sequence[Rate], clients: int = CLIENTS) -> None:
        self._rates, self._clients = tuple(rates), clients
        self._windows: OrderedDict[str, tuple[Window, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def renewed(self, rates: Sequence[Rate]) -> RateLimit:
        """The limit to go by when the rates are these: the same one if nothing changed."""
        return self if tuple(rates) == self._rates else RateLimit(rates, self._clients)

    def allows(self, client: str, now: float) -> bool:
        """Count a request of this client."""
        if not self._rates:
            return True
        windows = self._windows.get(client)
        if windows is None:
            windows = tuple(Window(rate.seconds, now) for rate in self._rates)
            self._windows[client] = windows
            if len(self._windows) > self._clients:
                self._windows.popitem(last=False)  # the one that has not asked for the longest time
        self._windows.move_to_end(client)
        counts = [window.add(now) for window in windows]
        return all(count <= rate.requests for count, rate in zip(counts, self._rates, strict=True))


class FairQueue(Generic[Item]):
    """Who waits longest is next, but clients take turns: many requests of one do not make others wait for them all."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def count(self, client: str) -> int:
        """Of one client."""
        return len(self._waiting.get(client, ()))

    def put(self, client: str, item: Item) -> None:
        self._waiting.setdefault(client, deque()).append(item)

    def remove(self, client: str, item: Item) -> bool:
        """It waits no longer; False if it did not wait."""
        queue = self._waiting.get(client)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        if not queue:
            del self._waiting[client]
        return True

    def pop(self, may: Callable[[str], bool] = lambda client: True) -> tuple[str, Item] | None:
        """The next one, and its client, which has its next turn after all others.

        :param may: clients for which it does not hold are passed over
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
