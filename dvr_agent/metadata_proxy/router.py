"""One router: what is open for it, and its limits.  No I/O but that of its listening sockets' descriptors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from dvr_agent.metadata_proxy.limits import RateLimit
from dvr_agent.metadata_proxy.shared import Shared
from dvr_agent.metadata_proxy.upstream_limit import Slots

BODIES = 16
"""Request bodies of the largest size that one router's clients may have in our memory."""


class Member(Protocol):
    """A client's connection, as its router sees it."""

    @property
    def client(self) -> str:
        """Address; empty for a Unix socket."""

    def abort(self) -> None:
        """Close at once, with a reset; it leaves its router in the next turn of the event loop."""


class Router:
    """
    :ivar namespace: number of its network namespace
    :ivar members: its clients' connections
    :ivar evictable: those of them without a complete request, the longest first
    :ivar waiting: those whose request waits for its turn
    :ivar leaving: those that have had our last words
    :ivar bodies: bytes of its clients' request bodies in memory
    """

    def __init__(self, router_id: str, shared: Shared) -> None:
        self.id, self.namespace = router_id, 0
        self.listeners: list[socket.socket] = []
        self.members: set[Member] = set()
        self.evictable: dict[Member, None] = {}
        self.waiting: dict[Member, None] = {}
        self.leaving: dict[Member, None] = {}
        self.slots = Slots(shared.settings.requests_per_router)
        self.rates = RateLimit(shared.settings.rates)
        self.bodies = 0
        self._shared = shared
        self._per_client: dict[str, int] = {}
        self._open = 0  # members, and those that were evicted a moment ago
        self._empty = asyncio.Event()
        self._empty.set()

    def settings_changed(self) -> None:
        """What was counted of a client's rate is forgotten if the limits are others now."""
        self.slots.resize(self._shared.settings.requests_per_router)
        self.rates = self.rates.renewed(self._shared.settings.rates)

    def refusal(self, client: str) -> str:
        """Why this client may have no further connection (a cause as in ``control``), empty if it may."""
        if self._per_client.get(client, 0) >= self._shared.settings.connections_per_client:
            return "client_connections"
        if self.is_full and self._victim(client) is None:
            return "router_connections"
        return ""

    @property
    def is_full(self) -> bool:
        return len(self.members) >= self._shared.settings.connections_per_router

    def join(self, member: Member) -> None:
        """Into a router that is full it comes instead of another, if :meth:`refusal` told no cause."""
        if self.is_full and (victim := self._victim(member.client)) is not None:
            self._evict(victim)
        self.members.add(member)
        self.evictable[member] = None
        self._per_client[member.client] = self._per_client.get(member.client, 0) + 1
        self._shared.budget.clients += 1
        self._open += 1
        self._empty.clear()

    @property
    def spare(self) -> int:
        """Connections that :meth:`evict` may close."""
        return len(self.leaving) + len(self.evictable)

    def evict(self) -> None:
        """Close the connection that can be spared best; there is one."""
        self._evict(next(chain(self.leaving, self.evictable)))

    def _victim(self, newcomer: str) -> Member | None:
        """Whose place a connection of this client takes in a full router.

        One that leaves; or one of the client that has most of them, unless the newcomer has as many: one that has many
        addresses cannot shut out those with one, whatever it asks; or else the longest idle one.
        """
        if self.leaving:
            return next(iter(self.leaving))
        heaviest = max(chain(self.evictable, self.waiting), key=lambda one: self._per_client[one.client], default=None)
        if heaviest is not None and self._per_client[heaviest.client] > self._per_client.get(newcomer, 0):
            return heaviest
        return next(iter(self.evictable), None)

    def _evict(self, member: Member) -> None:
        self._shared.counters.refused("evicted")
        member.abort()
        self._dismiss(member)
        self._shared.budget.closing += 1

    def leave(self, member: Member) -> None:
        """Its socket is closed now."""
        self._shared.budget.clients -= 1
        self._open -= 1
        if member in self.members:
            self._dismiss(member)
        else:
            self._shared.budget.closing -= 1
        if not self._open:
            self._empty.set()

    def _dismiss(self, member: Member) -> None:
        self.members.discard(member)
        for some in (self.evictable, self.waiting, self.leaving):
            some.pop(member, None)
        left = self._per_client[member.client] - 1
        if left:
            self._per_client[member.client] = left
        else:
            del self._per_client[member.client]

    def room_for_body(self, size: int) -> bool:
        return self.bodies + size <= BODIES * self._shared.settings.max_body_size

    async def end_connections(self) -> None:
        """Close all connections, with a reset; returns when their sockets are closed."""
        for member in list(self.members):
            member.abort()
        await self._empty.wait()  # a transport closes its socket right after it has told us, before we go on here

    def take_listeners(self, sockets: Sequence[socket.socket]) -> None:
        self.listeners = list(sockets)
        self._shared.budget.listeners += len(sockets)

    def close_listeners(self) -> None:
        """Only our descriptors: no shutdown(2), the agent has the same sockets."""
        self._shared.budget.listeners -= len(self.listeners)
        for listener in self.listeners:
            listener.close()
        self.listeners = []
