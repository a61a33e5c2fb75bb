"""Raise an event when another program changed ports of routers or the integration bridge.

Used by ``database``, which reports changed rows; the daemon waits for the event and audits (``driver.fileno``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dvr_agent.attach.openvswitch.rows import SYSTEM
from dvr_agent.attach.openvswitch.rows_copy import Event, RowChange
from dvr_agent.eventfd import EventFd


class ExternalChanges:
    """The event for changes by other programs, and the ports whose changes are ours.

    :param lock: the connection's, which its thread holds when it calls :meth:`interface_changed`
    :ivar event: readable after a change by another program
    """

    def __init__(self, lock: threading.Condition) -> None:
        self.event = EventFd()
        self._lock = lock
        self._expected: set[str] = set()

    @contextmanager
    def expecting(self, names: Iterable[str]) -> Iterator[None]:
        """Ignore changes of these ports inside the ``with`` block."""
        added = set(names)
        self.expect(added)
        try:
            yield
        finally:
            with self._lock:
                self._expected -= added

    def expect(self, names: Iterable[str]) -> None:
        """Ignore changes of these ports from now on, until a block of :meth:`expecting` that names them ends."""
        with self._lock:
            self._expected |= set(names)

    def interface_changed(self, change: RowChange) -> None:
        """Raise the event if a router's port changed in a way that may need work."""
        if change.row.name not in self._expected and _needs_work(change):
            self.event.notify()

    def notify(self) -> None:
        """Raise the event: the server, ovs-vswitchd or the bridge has come back, or the bridge is gone."""
        self.event.notify()


def _needs_work(change: RowChange) -> bool:
    """True if the port was removed, its OpenFlow port or error changed, or its device is misplaced or gone."""
    event, row, columns = change
    if event is not Event.CHANGED:
        return event is Event.DELETED
    if "ifindex" in columns and ((row.values["ifindex"] or 0) > 0) != (row.values["type"] == SYSTEM):
        return True
    return "ofport" in columns or "error" in columns
