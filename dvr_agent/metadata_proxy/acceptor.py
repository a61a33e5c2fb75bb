"""Takes connections from routers' listening sockets: a few at a time, so that one router's flood delays no other.

The event loop calls every socket on which something waits once per turn; each call takes at most :data:`BATCH`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from dvr_agent.metadata_proxy import headers
from dvr_agent.metadata_proxy.client_writer import RESET
from dvr_agent.metadata_proxy.connection import Connection
from dvr_agent.metadata_proxy.router import Router
from dvr_agent.metadata_proxy.shared import Shared

BATCH = 16
PAUSE = 0.2
"""Seconds without accept on a socket for which there was no descriptor: what waits there stays in the kernel."""
BACKLOG_MAX = 4096
"""net.core.somaxconn: more than this has not waited, it is new."""


class Acceptor:
    """
    :param make_room: closes some idle connection of whichever router has most; False if there is none
    """

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop, make_room: Callable[[], bool]) -> None:
        self._shared, self._loop, self._make_room = shared, loop, make_room
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, router: Router, listener: socket.socket) -> None:
        self._loop.add_reader(listener.fileno(), self._take_some, router, listener)

    def stop(self, listener: socket.socket) -> None:
        """Before it is closed; what waits there stays in the kernel."""
        if listener.fileno() >= 0:  # else it is closed already, and the event loop may have forgotten it
            self._loop.remove_reader(listener.fileno())

    async def drain(self, router: Router, listener: socket.socket) -> None:
        """Take what waits at a socket, as far as the router may have more connections."""
        for _ in range(BACKLOG_MAX // BATCH):
            if listener.fileno() < 0 or router.is_full or not self._take(router, listener):
                return
            await asyncio.sleep(0)

    def _take_some(self, router: Router, listener: socket.socket) -> None:
        self._take(router, listener)

    def _take(self, router: Router, listener: socket.socket) -> bool:
        """False: there is no more, for now."""
        for _ in range(BATCH):
            if not self._shared.budget.room_for_client() and not self._make_room():
                if self._shared.budget.closing:  # then there is room in the next turn
                    return True
                self._pause(router, listener, "all file descriptors are in use")
                return False
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                return False
            except (ConnectionAbortedError, InterruptedError):
                continue
            except OSError as exc:
                # out of descriptors or memory, here or on the whole host
                self._pause(router, listener, errno.errorcode.get(exc.errno or 0, str(exc)))
                return False
            self._welcome(router, accepted, headers.client_address(address))
        return True

    def _welcome(self, router: Router, accepted: socket.socket, client: str) -> None:
        cause = router.refusal(client)
        if cause:
            self._shared.counters.refused(cause)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            accepted.close()
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            milliseconds = int(self._shared.settings.timeout_client * 1000)
            with contextlib.suppress(OSError):  # broken already
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        connection = Connection(router, client, self._shared, self._loop)
        router.join(connection)
        task = self._loop.create_task(self._hand_over(connection, accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except BaseException as exc:  # reset by the client before the transport was made: the connection never knew it
            accepted.close()
            connection.connection_lost(None)  # unless the transport said so
            if not isinstance(exc, OSError):
                raise

    def _pause(self, router: Router, listener: socket.socket, why: str) -> None:
        """Level-triggered as it is, the event loop would do nothing but call us again."""
        self._shared.counters.refused("descriptors")
        self._shared.journal.warn("descriptors", "router %s: cannot accept connections: %s", router.id, why)
        self.stop(listener)
        self._loop.call_later(PAUSE, self._go_on, router, listener)

    def _go_on(self, router: Router, listener: socket.socket) -> None:
        if listener in router.listeners and not self._shared.stopping:
            self.start(router, listener)
