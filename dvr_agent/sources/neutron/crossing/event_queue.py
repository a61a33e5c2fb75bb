"""Events on their way from the source's threads to the daemon: a queue with a descriptor.

``crossing.router_store`` puts, ``source.poll`` takes.
"""

from __future__ import annotations

from collections import deque
from threading import Lock

from dvr_agent.eventfd import EventFd
from dvr_agent.sources.api import Event


class EventQueue:
    """Any thread puts and takes; the descriptor (eventfd(2)) is readable while there are events.

    No method blocks: the lock is never held for longer than a few appends.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: deque[Event] = deque()
        self._wakeup = EventFd()
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor, the same until :meth:`close`."""
        return self._wakeup.fileno()

    def __bool__(self) -> bool:
        return bool(self._events)

    def put(self, event: Event) -> None:
        """Append an event; does nothing once the queue is closed, since a thread may be late."""
        with self._lock:
            if self._closed:
                return
            self._events.append(event)
            if len(self._events) == 1:
                self._wakeup.notify()

    def take(self, limit: int) -> list[Event]:
        """Return and remove the oldest events, at most ``limit``."""
        with self._lock:
            found = [self._events.popleft() for _ in range(min(limit, len(self._events)))]
            if not self._events and not self._closed:
                self._wakeup.clear()
            return found

    def close(self) -> None:
        """Drop all events and close the descriptor."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._events.clear()
                self._wakeup.close()
