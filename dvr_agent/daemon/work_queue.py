"""Queues work: one job per key, the newest work of a key replaces older work, the most urgent key comes first.

Plain data structure: no eventlet, no clock, no router.  ``schedule`` puts work in and takes jobs out, always in the
hub's thread.  ``tests/unit/test_work_queue.py`` holds it to a simple model.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

WorkT = TypeVar("WorkT")


class Priority(IntEnum):
    """Why a job is queued; smaller is more urgent."""

    EVENT = 0
    """The source reported a change: a user waits for it."""
    RETRY = 1
    """Retry of a router that failed, or check of a router whose service or neighbour routers changed."""
    DRIFT = 2
    """Something else changed an object of the router in the kernel; also the retry of such a job, or of an audit."""
    RESYNC = 3
    """Resync of all routers: the first one, or one on request."""
    AUDIT = 4
    """Periodic comparison with the kernel, and work of the host that may wait."""

    @property
    def repairs(self) -> bool:
        """True if the job has no other reason than drift: all that it changes is a repair."""
        return self in (Priority.DRIFT, Priority.AUDIT)

    @property
    def of_retry(self) -> Priority:
        """Priority of the retry of a job that failed; what the retry of a repair changes is a repair, too."""
        return Priority.DRIFT if self.repairs else Priority.RETRY


@dataclass(frozen=True, slots=True)
class QueuedJob(Generic[WorkT]):
    """Work for one key.

    :ivar since: clock reading of the first event of this priority that the job answers
    """

    key: str
    work: WorkT
    priority: Priority
    since: float


class WorkQueue(Generic[WorkT]):
    """Jobs by key.

    * A key has at most one waiting job.  New work replaces the key's waiting work; the job keeps the more urgent
      of both priorities and, with it, its place in the queue.
    * A key whose job was taken is busy until :meth:`done`; a job that is put meanwhile waits for that.
    * :meth:`take` returns the most urgent job of the keys that are not busy; first in, first out among equals.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, QueuedJob[WorkT]]] = {}
        self._busy: set[str] = set()
        self._heap: list[tuple[Priority, int, str]] = []
        """May hold outdated entries: their number differs from the key's number in ``_waiting``."""
        self._numbers = 0

    def __len__(self) -> int:
        """Return the number of waiting jobs, also of busy keys."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[QueuedJob[WorkT]]:
        """Return the waiting jobs, in no particular order."""
        return (job for _number, job in self._waiting.values())

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    @property
    def busy(self) -> frozenset[str]:
        """Keys whose job was taken and is not done."""
        return frozenset(self._busy)

    @property
    def runnable(self) -> bool:
        """True if :meth:`take` would return a job."""
        return any(key not in self._busy for key in self._waiting)

    def put(self, key: str, work: WorkT, priority: Priority, now: float) -> None:
        """Queue work for ``key``; replaces the work that waits for that key."""
        number, old = self._waiting.get(key, (0, None))
        if old is not None and old.priority <= priority:
            self._waiting[key] = (number, QueuedJob(key, work, old.priority, old.since))
            return
        self._numbers += 1
        self._waiting[key] = (self._numbers, QueuedJob(key, work, priority, now))
        if key not in self._busy:
            heapq.heappush(self._heap, (priority, self._numbers, key))

    def discard(self, key: str) -> None:
        """Remove the waiting job of ``key``, if there is one."""
        self._waiting.pop(key, None)

    def take(self) -> QueuedJob[WorkT] | None:
        """Take the next job; its key is busy from now on.  None if no key has a job that may start."""
        while self._heap:
            _priority, number, key = heapq.heappop(self._heap)
            entry = self._waiting.get(key)
            if entry is not None and entry[0] == number and key not in self._busy:
                del self._waiting[key]
                self._busy.add(key)
                return entry[1]
        return None

    def done(self, key: str) -> None:
        """Mark the taken job of ``key`` as finished, successful or not."""
        self._busy.discard(key)
        entry = self._waiting.get(key)
        if entry is not None:
            number, job = entry
            heapq.heappush(self._heap, (job.priority, number, key))
