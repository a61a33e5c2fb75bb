"""Accepts connections of the admin socket, and keeps room for new ones: many idle clients must not silence it."""

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
"""Open at a time."""
BACKLOG = 1024
"""A client with a time-out does not wait for a place here: its connect(2) fails with EAGAIN."""
IDLE_SECONDS = 0.2
"""A connection that was opened, or had its last request, so long ago gives way to a new one."""
ACCEPT_PAUSE = 0.5
SAY_AGAIN = 60.0
"""Seconds after which a trouble that lasts, or comes again and again, is logged once more."""


class Listener:
    """Looks like a listening socket to eventlet.wsgi.

    Gives each connection an address of its own: unix clients have none, and eventlet.wsgi keys them by it.
    """

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._numbers = itertools.count(1)
        self._open: dict[int, Any] = {}
        """Number → connection, in order of the last sign of life."""
        self._seen: dict[int, float] = {}
        self._said: dict[str, float] = {}
        """Reason for which no connection was accepted → when it was logged last."""

    def accept(self) -> tuple[Any, tuple[str, int]]:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError as exc:  # no descriptor left, or the client is gone already: there will be others
                self._say(exc.strerror or str(exc))
                self._drop_oldest()
                eventlet_shim.sleep(ACCEPT_PAUSE)
                continue
            self._make_room()
            number = next(self._numbers)
            self._open[number], self._seen[number] = connection, time.monotonic()
            return connection, ("local", number)

    def note_request(self, environ: Mapping[str, Any]) -> None:
        """A request has come: its connection is the youngest."""
        number = int(environ["REMOTE_PORT"])
        if number in self._open:
            self._open[number] = self._open.pop(number)
            self._seen[number] = time.monotonic()

    def _say(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._said.get(reason, -SAY_AGAIN) >= SAY_AGAIN:
            self._said[reason] = now
            LOG.warning("admin socket: a connection cannot be accepted, retrying: %s", reason)

    def _make_room(self) -> None:
        """Wait until there is room for another connection, and have the oldest idle one give way."""
        self._forget_closed()
        while len(self._open) >= CONNECTIONS:
            age = time.monotonic() - self._seen[next(iter(self._open))]
            if age >= IDLE_SECONDS:
                self._drop_oldest()
            else:
                eventlet_shim.sleep(IDLE_SECONDS - age)
            self._forget_closed()

    def _drop_oldest(self) -> None:
        self._forget_closed()
        if not self._open:
            return
        number = next(iter(self._open))
        connection = self._open.pop(number)
        del self._seen[number]
        LOG.debug("admin socket: an idle connection gives way to a new one")
        with suppress(OSError):
            connection.shutdown(native_socket.SHUT_RDWR)  # wakes its green thread, which closes it

    def _forget_closed(self) -> None:
        for number in [number for number, connection in self._open.items() if connection.fileno() < 0]:
            del self._open[number], self._seen[number]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)
