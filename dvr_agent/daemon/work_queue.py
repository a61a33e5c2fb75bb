"""What is to be done next: one job per key, newest word wins, the most urgent first.

Plain data structure: no eventlet, no clock, no router.  The service puts work in and takes jobs out, always from
the hub's thread.  ``tests/unit/test_queue.py`` holds it to a simple model.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

Work = TypeVar("Work")


class Priority(IntEnum):
    """Why a job is there; smaller is more urgent."""

    EVENT = 0
    """The source reported a change: somebody waits for it."""
    RETRY = 1
    """A router that failed is tried again."""
    SYNC = 2
    """A full sync: the first one, or one that was asked for."""
    AUDIT = 3


@dataclass(frozen=True, slots=True)
class Job(Generic[Work]):
    """Work for one key.

    :ivar since: clock reading of the first event of this priority that the job answers
    """

    key: str
    work: Work
    priority: Priority
    since: float


class Queue(Generic[Work]):
    """Jobs by key.

    * A key has at most one waiting job.  New work for it replaces the old work; the job keeps the more urgent of both
      priorities and, with it, its place in the line.
    * A key whose job was taken is busy until :meth:`done`; a job that comes meanwhile waits for that.
    * :meth:`take` gives the most urgent job of the keys that are not busy; first come, first served among equals.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, Job[Work]]] = {}
        self._busy: set[str] = set()
        self._heap: list[tuple[Priority, int, str]] = []
        """May hold entries that are out of date: those whose number is not the one in ``_waiting``."""
        self._numbers = 0

    def __len__(self) -> int:
        """Jobs that wait, those of busy keys included."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Job[Work]]:
        """The waiting jobs, in no particular order."""
        return (job for _number, job in self._waiting.values())

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    @property
    def busy(self) -> frozenset[str]:
        """Keys whose job was taken and is not done."""
        return frozenset(self._busy)

    def put(self, key: str, work: Work, priority: Priority, now: float) -> None:
        """Have this done for ``key``, instead of what was asked for before."""
        number, old = self._waiting.get(key, (0, None))
        if old is not None and old.priority <= priority:
            self._waiting[key] = (number, Job(key, work, old.priority, old.since))
            return
        self._numbers += 1
        self._waiting[key] = (self._numbers, Job(key, work, priority, now))
        if key not in self._busy:
            heapq.heappush(self._heap, (priority, self._numbers, key))

    def discard(self, key: str) -> None:
        """Forget the waiting job of ``key``, if there is one."""
        self._waiting.pop(key, None)

    def take(self) -> Job[Work] | None:
        """The next job; its key is busy from now on.  None if there is nothing to do now."""
        while self._heap:
            _priority, number, key = heapq.heappop(self._heap)
            entry = self._waiting.get(key)
            if entry is not None and entry[0] == number and key not in self._busy:
                del self._waiting[key]
                self._busy.add(key)
                return entry[1]
        return None

    def done(self, key: str) -> None:
        """The job of ``key`` that was taken is finished, well or not."""
        self._busy.discard(key)
        entry = self._waiting.get(key)
        if entry is not None:
            number, job = entry
            heapq.heappush(self._heap, (job.priority, number, key))
