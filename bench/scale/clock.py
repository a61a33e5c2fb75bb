"""Simulated time: functions that block, run as greenlets, and a clock that goes on to the next time that is due.

Greenlets, since the source's own code, which the model runs, blocks while it waits for an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class Clock:
    """Simulated time, beginning with 0.

    :ivar now: seconds
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._numbers = count()
        self._hub = getcurrent()

    def at(self, when: float, do: Callable[..., Any], *args: Any) -> None:
        """Have a function called at a time."""
        heappush(self._due, (when, next(self._numbers), do, args))

    def start(self, run: Callable[[], Any], when: float = 0.0) -> None:
        """Have a function that may block begin at a time."""
        self.at(max(when, self.now), greenlet(run, parent=self._hub).switch)

    def sleep(self, seconds: float) -> None:
        """Block the calling function."""
        self.at(self.now + seconds, getcurrent().switch)
        self.block()

    def block(self) -> Any:
        """Block the calling function until something switches to it; returns what that passes."""
        return self._hub.switch()

    def run(self, until: float = float("inf")) -> None:
        """Let time pass until nothing is due, or until a time."""
        while self._due and self._due[0][0] <= until:
            self.now, _, do, args = heappop(self._due)
            do(*args)


class Box(Generic[T]):
    """A queue between functions that block."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: deque[T] = deque()
        self._takers: deque[Any] = deque()

    def put(self, item: T) -> None:
        """Add an item; never blocks."""
        self._items.append(item)
        if self._takers:
            self._clock.at(self._clock.now, self._takers.popleft().switch)

    def take(self) -> T:
        """Take the first item; blocks while there is none."""
        while not self._items:
            self._takers.append(getcurrent())
            self._clock.block()
        return self._items.popleft()
