"""Accepts connections from routers' listening sockets: one at a time, so that one router's flood delays no other.

The event loop calls the reader of every socket with waiting connections once per turn, and each call accepts one.  An
accepted connection causes work in each of the next turns.  A request of another router, which needs six or seven turns
beside the time of neutron-metadata-agent, waits for that work in each turn: 40 ms in all if sixteen connections are
accepted at a time, 10 ms with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from dvr_agent.metadata_proxy import headers
from dvr_agent.metadata_proxy.client_connection import ClientConnection
from dvr_agent.metadata_proxy.client_socket import RESET
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.served_router import ServedRouter

DRAINED = 16
"""Connections accepted at a time from a socket that is about to be closed."""
PAUSE = 0.2
"""Seconds without accept(2) on a socket after descriptors were short: its connections wait in the kernel."""
BACKLOG_MAX = 4096
"""Maximum number of connections that :meth:`Acceptor.drain` accepts (net.core.somaxconn): later ones are new."""


class Acceptor:
    """Accepts for all routers.

    :param make_room: evicts a connection; returns False if there is none to evict
    """

    def __init__(self, state: ProxyState, loop: asyncio.AbstractEventLoop, make_room: Callable[[], bool]) -> None:
        self._state, self._loop, self._make_room = state, loop, make_room

    def start(self, router: ServedRouter, listener: socket.socket) -> None:
        """Accept from a listening socket from now on."""
        self._loop.add_reader(listener.fileno(), self._accept_one, router, listener)

    def stop(self, listener: socket.socket) -> None:
        """Accept no more, before the socket is closed; connections that wait stay in the kernel."""
        if listener.fileno() >= 0:  # else it is closed already, and the event loop may have forgotten it
            self._loop.remove_reader(listener.fileno())

    async def drain(self, router: ServedRouter, listener: socket.socket) -> None:
        """Accept the connections that wait at a socket, as far as the router may have more."""
        for _ in range(BACKLOG_MAX // DRAINED):
            if listener.fileno() < 0 or router.is_full or not self._accept(router, listener, DRAINED):
                return
            await asyncio.sleep(0)

    def _accept_one(self, router: ServedRouter, listener: socket.socket) -> None:
        self._accept(router, listener, 1)

    def _accept(self, router: ServedRouter, listener: socket.socket, number: int) -> bool:
        """Accept up to so many connections; returns False if none waits any more, or none can be accepted."""
        for _ in range(number):
            if not self._state.budget.room_for_client() and not self._make_room():
                if self._state.budget.closing:  # then there is room in the next turn
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
            self._begin(router, accepted, headers.client_address(address))
        return True

    def _begin(self, router: ServedRouter, accepted: socket.socket, client: str) -> None:
        """Begin a connection, or reset it at once if its client or router may have no more."""
        cause = router.refusal(client)
        if cause:
            self._state.counters.refused(cause)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            accepted.close()
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            milliseconds = int(self._state.settings.timeout_client * 1000)
            with contextlib.suppress(OSError):  # the client has reset the connection
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        router.join(ClientConnection(accepted, client, router, self._state, self._loop))

    def _pause(self, router: ServedRouter, listener: socket.socket, why: str) -> None:
        """Accept nothing for a while: the event loop is level-triggered, and would call the reader in every turn."""
        self._state.counters.refused("descriptors")
        self._state.log.warn("descriptors", "router %s: cannot accept connections: %s", router.id, why)
        self.stop(listener)
        self._loop.call_later(PAUSE, self._resume, router, listener)

    def _resume(self, router: ServedRouter, listener: socket.socket) -> None:
        if listener in router.listeners and not self._state.stopping:
            self.start(router, listener)
