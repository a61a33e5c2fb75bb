"""Accepts connections of the admin socket, and keeps room for new ones: many idle clients must not block it."""

from __future__ import annotations

import itertools
import logging
import socket as native_socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dvr_agent.daemon import eventlet_shim

LOG = logging.getLogger(__name__)

CONNECTIONS = 64
"""Connections that may be open at a time."""
BACKLOG = 1024
"""Length of the listen queue.  connect(2) of a client with a time-out fails with EAGAIN where the queue is full."""
IDLE_SECONDS = 0.2
"""Age, since a connection was opened or had its last request, from which on it gives way to a new connection."""
ACCEPT_PAUSE = 0.5
"""Seconds after a connection could not be accepted."""
LOG_AGAIN = 60.0
"""Seconds after which a lasting or repeated failure is logged once more."""


class AdminListener:
    """A listening socket for eventlet.wsgi that limits the number of open connections.

    It gives each connection an address of its own: unix clients have none, and eventlet.wsgi keys connections by it.
    """

    def __init__(self, listener: Any, accept_pause: float = ACCEPT_PAUSE) -> None:
        self._listener, self._accept_pause = listener, accept_pause
        self._numbers = itertools.count(1)
        self._open: dict[int, Any] = {}
        """Number → connection, ordered by time of the last request."""
        self._last_request: dict[int, float] = {}
        self._logged: dict[str, float] = {}
        """Reason for which no connection was accepted → when it was logged last."""

    def accept(self) -> tuple[Any, tuple[str, int]]:
        """Accept the next connection; waits until there is one, and room for it."""
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError as exc:  # no descriptor left, or the client is gone already
                self._log_failure(exc.strerror or str(exc))
                self._drop_oldest()
                eventlet_shim.sleep(self._accept_pause)
                continue
            self._make_room()
            number = next(self._numbers)
            self._open[number], self._last_request[number] = connection, time.monotonic()
            return connection, ("local", number)

    def note_request(self, environ: Mapping[str, Any]) -> None:
        """Note a request: its connection gives way last."""
        number = int(environ["REMOTE_PORT"])
        if number in self._open:
            self._open[number] = self._open.pop(number)
            self._last_request[number] = time.monotonic()

    def _log_failure(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._logged.get(reason, -LOG_AGAIN) >= LOG_AGAIN:
            self._logged[reason] = now
            LOG.warning("admin socket: a connection cannot be accepted, retrying: %s", reason)

    def _make_room(self) -> None:
        """Wait until there is room for another connection; the connection that is idle longest gives way."""
        self._forget_closed()
        while len(self._open) >= CONNECTIONS:
            oldest = self._oldest_age()
            if oldest < IDLE_SECONDS:
                eventlet_shim.sleep(IDLE_SECONDS - oldest)
            else:
                # A busy hub may not have read yet what the connection asks: let it, before that one counts as idle.
                eventlet_shim.sleep(0)
                self._forget_closed()
                if len(self._open) >= CONNECTIONS and self._oldest_age() >= IDLE_SECONDS:
                    self._drop_oldest()
            self._forget_closed()

    def _oldest_age(self) -> float:
        """Return the seconds since the last request of the connection that is idle longest."""
        return time.monotonic() - self._last_request[next(iter(self._open))]

    def _drop_oldest(self) -> None:
        self._forget_closed()
        if not self._open:
            return
        number = next(iter(self._open))
        connection = self._open.pop(number)
        del self._last_request[number]
        LOG.debug("admin socket: an idle connection is closed for a new one")
        with suppress(OSError):
            connection.shutdown(native_socket.SHUT_RDWR)  # wakes its green thread, which closes it

    def _forget_closed(self) -> None:
        for number in [number for number, connection in self._open.items() if connection.fileno() < 0]:
            del self._open[number], self._last_request[number]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)
