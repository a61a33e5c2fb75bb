"""Rate limit of one router's clients.  Pure; the time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from dvr_agent.metadata.settings import Rate

CLIENTS = 4096
"""Maximum number of clients per router whose rates are remembered, like the size of haproxy's table."""


class SlidingWindow:
    """Counts events of the last seconds, approximately, as haproxy does (freq_ctr).

    The count is that of the present period, and of the period before it the share that still overlaps the window.

    :param seconds: length of the window
    """

    __slots__ = ("_before", "_begin", "_now", "_seconds")

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds, self._begin = seconds, now
        self._now = self._before = 0

    def add(self, now: float) -> float:
        """Count one more event; returns the number of events in the window, with the new one."""
        periods = int((now - self._begin) / self._seconds)
        if periods > 0:
            self._before = self._now if periods == 1 else 0
            self._now = 0
            self._begin += periods * self._seconds
        self._now += 1
        share = 1 - (now - self._begin) / self._seconds
        return self._now + self._before * max(0.0, min(1.0, share))


class RateLimit:
    """Decides, per client, whether a request is within the rates.  A refused request counts too, as with haproxy.

    :param rates: all of them apply; empty: no client is limited
    """

    def __init__(self, rates: Sequence[Rate], clients: int = CLIENTS) -> None:
        self._rates, self._clients = tuple(rates), clients
        self._windows: OrderedDict[str, tuple[SlidingWindow, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def renewed(self, rates: Sequence[Rate]) -> RateLimit:
        """Return the limit for these rates: the same object, with its counts, if the rates are unchanged."""
        return self if tuple(rates) == self._rates else RateLimit(rates, self._clients)

    def allows(self, client: str, now: float) -> bool:
        """Count a request of a client; returns False if it exceeds a rate."""
        if not self._rates:
            return True
        windows = self._windows.get(client)
        if windows is None:
            windows = tuple(SlidingWindow(rate.seconds, now) for rate in self._rates)
            self._windows[client] = windows
            if len(self._windows) > self._clients:
                self._windows.popitem(last=False)  # the client whose last request is the oldest
        self._windows.move_to_end(client)
        counts = [window.add(now) for window in windows]
        return all(count <= rate.requests for count, rate in zip(counts, self._rates, strict=True))
