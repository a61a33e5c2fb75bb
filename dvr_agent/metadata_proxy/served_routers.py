"""Adds, replaces and removes served routers, on request of the agent, and ends them with the process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Sequence

from dvr_agent.errors import ServiceError
from dvr_agent.metadata_proxy.acceptor import Acceptor
from dvr_agent.metadata_proxy.client_connection import ClientConnection, Phase
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.served_router import ServedRouter

GRACE = 1.0
"""Seconds, when the process ends, for the first byte on an open connection."""
CLOSING = 32
"""Maximum number of evicted connections whose sockets are still open; the next turn of the event loop closes them."""
END = 5.0
"""Seconds for requests under way when the process ends, or until connections are closed."""


class ServedRouters:
    """Routers by id."""

    def __init__(self, state: ProxyState) -> None:
        self._state = state
        self._routers: dict[str, ServedRouter] = {}
        self._changing = asyncio.Lock()  # serve and stop have awaits, and another agent may send messages meanwhile
        self._acceptor = Acceptor(state, asyncio.get_running_loop(), self._make_room)

    def __len__(self) -> int:
        return len(self._routers)

    def connections(self) -> int:
        """Return the number of open connections of instances."""
        return sum(len(router.members) for router in self._routers.values())

    def settings_changed(self) -> None:
        """Apply changed settings to all routers."""
        for router in self._routers.values():
            router.settings_changed()

    def get(self, router_id: str) -> ServedRouter | None:
        """Return a served router, None for others."""
        return self._routers.get(router_id)

    def ids(self) -> Iterable[str]:
        """Return the ids of all served routers."""
        return self._routers

    async def serve(self, router_id: str, namespace: int, sockets: Sequence[socket.socket]) -> None:
        """Accept on these sockets, which are ours now, and no longer on the router's earlier sockets.

        Connections of the router go on if they are in the same namespace.

        :raises ServiceError: descriptors are short, and these sockets are closed
        """
        if not self._state.budget.room_for_listeners(len(sockets)):
            for one in sockets:
                one.close()
            raise ServiceError(f"too many routers for this process's file descriptors: {len(self._routers)} are served")
        async with self._changing:
            await self._serve(router_id, namespace, sockets)
        self._state.log.router("router %s: served", router_id)

    async def _serve(self, router_id: str, namespace: int, sockets: Sequence[socket.socket]) -> None:
        router = self._routers.get(router_id)
        if router is None:
            router = self._routers[router_id] = ServedRouter(router_id, self._state)
        else:
            try:
                await self._retire(router, router.namespace == namespace)
            except BaseException:
                for one in sockets:
                    one.close()
                raise
        router.namespace = namespace
        router.take_listeners(sockets)
        if not self._state.stopping:
            for listener in sockets:
                self._acceptor.start(router, listener)
        while not self._state.budget.room_for_client() and self._make_room():
            pass

    async def stop(self, router_id: str) -> None:
        """Close all sockets of a router; returns when they are closed.  A router that is not served is no error."""
        async with self._changing:
            router = self._routers.get(router_id)
            if router is None:
                return
            self._close_listeners(router)
            await self._end_connections(router)
            del self._routers[router_id]
        self._state.log.router("router %s: not served any more", router_id)

    async def end(self) -> None:
        """End with the process: accept waiting connections, answer requests that were sent, ignore later connections.

        Later connections are for the next process, which gets the same sockets from the agent; or, without an agent,
        for neutron-l3-agent's haproxies, to which the kernel directs all clients once these sockets are closed.
        """
        self._state.stopping = True
        routers = list(self._routers.values())
        for router in routers:
            for listener in list(router.listeners):
                self._acceptor.stop(listener)
                await self._acceptor.drain(router, listener)
            self._close_listeners(router)  # they may be new: the agent may send "serve" meanwhile
        for _ in range(4):  # bytes that have arrived are read, also on connections accepted just now
            await asyncio.sleep(0)
        self._close(Phase.IDLE)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        graceful = True
        while self.connections() and loop.time() < begin + END:
            await asyncio.sleep(0.02)
            if graceful and loop.time() > begin + GRACE:
                graceful = False
                self._close(Phase.FIRST)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(*(router.end_connections() for router in routers))

    def _close(self, phase: Phase) -> None:
        for router in self._routers.values():
            for member in [one for one in router.members if isinstance(one, ClientConnection) and one.phase is phase]:
                member.close()

    async def _retire(self, router: ServedRouter, keep_connections: bool) -> None:
        """Close the earlier sockets of a router that is served anew.

        :param keep_connections: accept waiting connections before, and keep all; False: close all connections
        """
        if keep_connections and not self._state.stopping:
            for listener in list(router.listeners):
                await self._acceptor.drain(router, listener)
        self._close_listeners(router)
        if not keep_connections:
            await self._end_connections(router)

    async def _end_connections(self, router: ServedRouter) -> None:
        """Reset all connections of a router.

        :raises ServiceError: a connection cannot be closed; other routers are not affected
        """
        try:
            async with asyncio.timeout(END):
                await router.end_connections()
        except TimeoutError as exc:
            raise ServiceError(f"router {router.id}: its connections cannot be closed") from exc

    def _close_listeners(self, router: ServedRouter) -> None:
        for listener in router.listeners:
            self._acceptor.stop(listener)
        router.close_listeners()

    def _make_room(self) -> bool:
        """Evict a connection of the router with most evictable connections; False if there is none."""
        candidates = [router for router in self._routers.values() if router.spare]
        if not candidates or self._state.budget.closing > CLOSING:
            return False
        max(candidates, key=lambda router: router.spare).evict()
        return True
