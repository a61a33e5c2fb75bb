"""Messages for the report thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Condition, Event

from dvr_agent.sources.api import JobReport


@dataclass(frozen=True, slots=True)
class StatusesReceived:
    """The server's newest answer about a router has these statuses of floating IPs (id → status)."""

    router_id: str
    statuses: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DocumentUnchanged:
    """The server's answer left the router's document unchanged, so no job follows from it."""

    router_id: str


Message = StatusesReceived | DocumentUnchanged | JobReport


class ReportInbox:
    """A queue of messages.  Any thread puts, the report thread waits.

    :ivar registered: set once the server has accepted a report of agent state: before, it does not know this agent and
        lists no routers; set by the report thread, and by :meth:`close`, so that the fetch thread does not
        wait for ever
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._messages: deque[Message] = deque()
        self._closed = False
        self.registered = Event()

    def put(self, message: Message) -> None:
        """Append a message; never blocks."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def close(self) -> None:
        """Have the report thread end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.registered.set()

    @property
    def closed(self) -> bool:
        """True once the source is being closed."""
        return self._closed

    def take(self) -> list[Message]:
        """Return and remove all messages, in order."""
        with self._changed:
            messages, self._messages = self._messages, deque()
            return list(messages)

    def wait(self, seconds: float) -> None:
        """Wait for a message, or until closed; the report thread only."""
        with self._changed:
            if not self._messages and not self._closed:
                self._changed.wait(max(0.0, seconds))
