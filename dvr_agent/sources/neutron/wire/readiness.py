"""Whether notifications are consumed, which decides when calls to the server may be sent.

Who consumes must have queues before it asks, so that no change falls between answer and queue.
"""

from __future__ import annotations

import threading
from typing import Any


class BusReadiness:
    """The connections that consume.  Threads of oslo.messaging and ``neutron-listen`` write, threads that call wait.

    Safe because each attribute is set once, or is a collection of which single items are added and removed.
    """

    def __init__(self) -> None:
        self._queues_exist = threading.Event()
        self._closed = self._consumes = False
        self._connections: list[Any] = []
        self._incomplete: set[Any] = set()

    def need_queues(self) -> None:
        """Have calls wait for :meth:`queues_exist`, and fail while a connection is lost."""
        self._consumes = True

    def add_connection(self, connection: Any) -> None:
        """Watch a connection of oslo.messaging that consumes."""
        self._connections.append(connection)

    def channel_changes(self, connection: Any) -> None:
        """Note that the queues of a connection are being declared anew."""
        self._incomplete.add(connection)

    def channel_changed(self, connection: Any) -> None:
        """Note that they exist."""
        self._incomplete.discard(connection)

    def queues_exist(self) -> None:
        """Let calls through: all connections have queues for the first time."""
        self._queues_exist.set()

    def close(self) -> None:
        """Have all calls fail."""
        self._closed = True
        self._queues_exist.set()

    @property
    def connected(self) -> bool:
        """True while all queues exist, as far as oslo.messaging has noticed."""
        if not self._queues_exist.is_set() or self._closed:
            return False
        return not self._incomplete and all(map(_is_alive, self._connections))

    def wait(self, seconds: float) -> bool:
        """Wait until calls may be sent; returns False if they may not.  A call would only find that out more slowly."""
        if not self._consumes:
            return not self._closed
        return self._queues_exist.wait(seconds) and self.connected


def _is_alive(connection: Any) -> bool:
    """Return True if the channel is usable on which the queues were declared; a new one comes only with new queues."""
    channel = connection.channel
    inner = channel.connection if channel is not None else None
    return inner is not None and bool(inner.connected)
