"""All routers that are served, and how that begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Sequence

from dvr_agent.errors import ServiceError
from dvr_agent.metadata_proxy.acceptor import Acceptor
from dvr_agent.metadata_proxy.connection import Connection, Phase
from dvr_agent.metadata_proxy.router import Router
from dvr_agent.metadata_proxy.shared import Shared

GRACE = 1.0
"""Seconds, when the process ends, for the first byte on a connection that was made before."""
CLOSING = 32
"""Evicted connections whose descriptors are still open; the event loop closes them in its next turn."""
END = 5.0
"""Seconds for everything under way then."""


class Routers:
    """The routers by id."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._routers: dict[str, Router] = {}
        self._changing = asyncio.Lock()  # serve and stop wait in the midst; another agent's question may come then
        self._acceptor = Acceptor(shared, asyncio.get_running_loop(), self._make_room)

    def __len__(self) -> int:
        return len(self._routers)

    def connections(self) -> int:
        return sum(len(router.members) for router in self._routers.values())

    def settings_changed(self) -> None:
        for router in self._routers.values():
            router.settings_changed()

    def get(self, router_id: str) -> Router | None:
        return self._routers.get(router_id)

    def ids(self) -> Iterable[str]:
        return self._routers

    async def serve(self, router_id: str, namespace: int, sockets: Sequence[socket.socket]) -> None:
        """Accept on these sockets, which are ours now, and on none that was there before for this router.

        Connections of the router go on if they are in the same namespace.

        :raises ServiceError: there are not enough descriptors; the sockets are closed
        """
        if not self._shared.budget.room_for_listeners(len(sockets)):
            for one in sockets:
                one.close()
            raise ServiceError(f"too many routers for this process's file descriptors: {len(self._routers)} are served")
        async with self._changing:
            await self._serve(router_id, namespace, sockets)
        self._shared.journal.router("router %s: served", router_id)

    async def _serve(self, router_id: str, namespace: int, sockets: Sequence[socket.socket]) -> None:
        router = self._routers.get(router_id)
        if router is None:
            router = self._routers[router_id] = Router(router_id, self._shared)
        else:
            try:
                await self._retire(router, router.namespace == namespace)
            except BaseException:
                for one in sockets:
                    one.close()
                raise
        router.namespace = namespace
        router.take_listeners(sockets)
        if not self._shared.stopping:
            for listener in sockets:
                self._acceptor.start(router, listener)
        while not self._shared.budget.room_for_client() and self._make_room():
            pass

    async def stop(self, router_id: str) -> None:
        """Returns when nothing of the router is open any more; a router that is not served is no error."""
        async with self._changing:
            router = self._routers.get(router_id)
            if router is None:
                return
            self._close_listeners(router)
            await self._end_connections(router)
            del self._routers[router_id]
        self._shared.journal.router("router %s: not served any more", router_id)

    async def end(self) -> None:
        """The process ends: take what waits, answer what was asked, and leave what comes later to others.

        Those are the next process, which gets the same sockets from the agent; or, where there is no agent any more,
        the haproxies of neutron-l3-agent, to which the kernel leads everybody as soon as these sockets are closed.
        """
        self._shared.stopping = True
        routers = list(self._routers.values())
        for router in routers:
            for listener in list(router.listeners):
                self._acceptor.stop(listener)
                await self._acceptor.drain(router, listener)
            self._close_listeners(router)  # perhaps others than before: the agent may say serve meanwhile
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
            for member in [one for one in router.members if isinstance(one, Connection) and one.phase is phase]:
                member.close()

    async def _retire(self, router: Router, keep_connections: bool) -> None:
        """End what was served for a router.  What waited at the old sockets is not lost if they were of use still."""
        if keep_connections and not self._shared.stopping:
            for listener in list(router.listeners):
                await self._acceptor.drain(router, listener)
        self._close_listeners(router)
        if not keep_connections:
            await self._end_connections(router)

    async def _end_connections(self, router: Router) -> None:
        """
        :raises ServiceError: it does not come to an end, whatever the reason; other routers' turn comes all the same
        """
        try:
            async with asyncio.timeout(END):
                await router.end_connections()
        except TimeoutError as exc:
            raise ServiceError(f"router {router.id}: its connections cannot be closed") from exc

    def _close_listeners(self, router: Router) -> None:
        for listener in router.listeners:
            self._acceptor.stop(listener)
        router.close_listeners()

    def _make_room(self) -> bool:
        """Close a connection of the router that has most to spare."""
        candidates = [router for router in self._routers.values() if router.spare]
        if not candidates or self._shared.budget.closing > CLOSING:
            return False
        max(candidates, key=lambda router: router.spare).evict()
        return True
