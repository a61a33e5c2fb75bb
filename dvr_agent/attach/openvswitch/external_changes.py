"""Raise an event when another program changed ports of routers or the integration bridge.

Used by ``database``, which reports changed rows; the daemon waits for the event and audits (``driver.fileno``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ovs.db import idl as ovs_idl

from dvr_agent.attach.openvswitch.connection import changed_columns, value
from dvr_agent.attach.openvswitch.rows import SYSTEM
from dvr_agent.eventfd import EventFd


class ExternalChanges:
    """The event for changes by other programs, and the ports whose changes are ours.

    :param lock: the connection's, which ovsdbapp's thread holds when it calls :meth:`interface_changed`
    :ivar event: readable after a change by another program
    """

    def __init__(self, lock: threading.Lock) -> None:
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

    def interface_changed(self, event: str, row: Any, old: Any) -> None:
        """Raise the event if a router's port changed in a way that may need work."""
        if value(row, "name") not in self._expected and _needs_work(event, row, old):
            self.event.notify()

    def notify(self) -> None:
        """Raise the event: the server, ovs-vswitchd or the bridge has come back, or the bridge is gone."""
        self.event.notify()


def _needs_work(event: str, row: Any, old: Any) -> bool:
    """True if the port was removed, its OpenFlow port or error changed, or its device is misplaced or gone."""
    if event != ovs_idl.ROW_UPDATE:
        return bool(event == ovs_idl.ROW_DELETE)
    columns = changed_columns(old)
    if "ifindex" in columns and (value(row, "ifindex", 0) > 0) != (value(row, "type") == SYSTEM):
        return True
    return any(column in columns for column in ("ofport", "error"))
