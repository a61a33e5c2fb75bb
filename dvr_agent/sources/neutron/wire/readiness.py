"""Watches the connections that consume notifications, and decides when calls to the server may be sent.

The queues must exist before the server is asked: a change after its answer would otherwise be cast to no queue and be
lost.  oslo.messaging reconnects by itself and declares its queues anew, but has no event for it, so
:class:`BusReadiness` watches for the moment at which they exist again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from operator import attrgetter
from typing import Any

LOG = logging.getLogger(__name__)

CONNECTION_OF = attrgetter("listener._poll_style_listener.conn.connection")
SET_CHANNEL, POLL_TIMEOUT = "_set_current_channel", "_poll_timeout"
"""Private attributes of oslo.messaging, which has no public interface for reconnections and the duration of a stop."""
STOP_CHECK_SECONDS = 0.5


class BusReadiness:
    """Watches connections.  Threads of oslo.messaging and ``neutron-listen`` write, threads that call wait.

    Safe because each attribute is set once, or is a collection of which single items are added and removed.  The lock
    makes sure that connections that were lost together count as one reconnection.

    :param brokers: ``host:port`` of each, for messages
    :ivar reconnects: how often all queues existed again after a connection was lost
    """

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._queues_exist = threading.Event()
        self._lock = threading.Lock()
        self._closed = self._consumes = False
        self._connections: list[Any] = []
        self._incomplete: set[Any] = set()
        self._on_reconnect: Callable[[], None] = lambda: None
        self.reconnects = 0

    def need_queues(self, on_reconnect: Callable[[], None]) -> None:
        """Have calls wait for :meth:`queues_exist`, and fail while a connection is lost.

        :param on_reconnect: called when all queues exist again
        """
        self._on_reconnect = on_reconnect
        self._consumes = True

    def watch(self, server: Any) -> None:
        """Watch the connection of a server of oslo.messaging.

        The queues are declared anew inside ``_set_current_channel``, so after that call they exist.
        """
        try:
            connection = CONNECTION_OF(server)
            set_by_library, _alive = getattr(connection, SET_CHANNEL), connection.channel.connection.connected
            # A stop is noticed between two polls; ten seconds is too late for a service manager.
            setattr(connection, POLL_TIMEOUT, min(getattr(connection, POLL_TIMEOUT), STOP_CHECK_SECONDS))
        except AttributeError:
            LOG.warning(
                "this version of oslo.messaging has no sign of reconnections: changes that are missed meanwhile are "
                "found by the next full sync only"
            )
            return

        def set_channel(channel: Any) -> None:
            if channel is None or channel is connection.channel:
                set_by_library(channel)
                return
            self._incomplete.add(connection)
            set_by_library(channel)
            self._complete(connection)

        setattr(connection, SET_CHANNEL, set_channel)
        self._connections.append(connection)

    def queues_exist(self) -> None:
        """Let calls through: all connections have queues for the first time."""
        self._queues_exist.set()

    def close(self) -> None:
        """Make :meth:`wait` return False from now on, so that all calls fail."""
        self._closed = True
        self._queues_exist.set()

    @property
    def connected(self) -> bool:
        """True while all queues exist, as far as oslo.messaging has noticed."""
        if not self._queues_exist.is_set() or self._closed:
            return False
        return not self._incomplete and all(map(_is_alive, self._connections))

    def wait(self, seconds: float) -> bool:
        """Wait until calls may be sent; returns False if they may not: a call would fail too, only later."""
        if not self._consumes:
            return not self._closed
        return self._queues_exist.wait(seconds) and self.connected

    def _complete(self, connection: Any) -> None:
        """Note that the queues of a connection exist again; report it when those of all connections do."""
        with self._lock:
            self._incomplete.discard(connection)
            if not self.connected:
                return
            self.reconnects += 1
        LOG.info("recovered: connected to the message bus at %s", self._brokers)
        self._on_reconnect()


def _is_alive(connection: Any) -> bool:
    """Return True if the channel is usable on which the queues were declared; a new one comes only with new queues."""
    channel = connection.channel
    inner = channel.connection if channel is not None else None
    return inner is not None and bool(inner.connected)
