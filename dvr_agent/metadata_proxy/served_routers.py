"""All served routers: added, replaced, removed, and ended with the process."""

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
"""Seconds, when the process ends, for the first byte on a connection that was made before."""
CLOSING = 32
"""Evicted connections that are still counted; they leave the count in the next turn of the event loop."""
END = 5.0
"""Seconds for everything under way when the process ends."""


class ServedRouters:
    """Routers by id."""

    def __init__(self, state: ProxyState) -> None:
        self._state = state
        self._routers: dict[str, ServedRouter] = {}
        self._changing = asyncio.Lock()  # serve and stop wait in the midst, and another agent may ask meanwhile
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
        """Accept on these sockets, which are ours now, and no longer on earlier sockets of this router.

        Connections of the router go on if they are in the same namespace.

        :raises ServiceError: there are not enough descriptors; the sockets are closed
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
        """Close everything of a router; returns when it is closed.  A router that is not served is no error."""
        async with self._changing:
            router = self._routers.get(router_id)
            if router is None:
                return
            self._close_listeners(router)
            await self._end_connections(router)
            del self._routers[router_id]
        self._state.log.router("router %s: not served any more", router_id)

    async def end(self) -> None:
        """End with the process: accept connections that wait, answer what was asked, leave later connections alone.

        Later ones are for the next process, which gets the same sockets from the agent; or, where there is no agent any
        more, for neutron-l3-agent's haproxies, to which the kernel leads all clients once these sockets are closed.
        """
        self._state.stopping = True
        routers = list(self._routers.values())
        for router in routers:
            for listener in list(router.listeners):
                self._acceptor.stop(listener)
                await self._acceptor.drain(router, listener)
            self._close_listeners(router)  # perhaps others than before: the agent may send serve meanwhile
        for _ in range(4):  # what has been received by now is read, also on connections accepted just now
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
        """Close the sockets of a router that is served anew; where connections are kept, waiting ones are accepted."""
        if keep_connections and not self._state.stopping:
            for listener in list(router.listeners):
                await self._acceptor.drain(router, listener)
        self._close_listeners(router)
        if not keep_connections:
            await self._end_connections(router)

    async def _end_connections(self, router: ServedRouter) -> None:
        """Reset all connections of a router.

        :raises ServiceError: one cannot be closed, whatever the reason; other routers are served all the same
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
        """Close a connection of the router with most evictable ones; False if there is none."""
        candidates = [router for router in self._routers.values() if router.spare]
        if not candidates or self._state.budget.closing > CLOSING:
            return False
        max(candidates, key=lambda router: router.spare).evict()
        return True
