"""One served router: its connections, listening sockets and limits.  No I/O but closing its listening sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.rate_limit import RateLimit
from dvr_agent.metadata_proxy.upstream_limit import UpstreamSlots

BODIES = 16
"""Number of request bodies of the largest size that one router's clients may have in memory."""


class RouterMember(Protocol):
    """The interface of a client's connection for its router.  Hashable by identity."""

    @property
    def client(self) -> str:
        """Address of the client; empty for a Unix socket."""

    def abort(self) -> None:
        """Close at once, with a reset; :meth:`ServedRouter.leave` follows in the next turn of the event loop."""


class ServedRouter:
    """Limits and memory of one router.

    :ivar namespace: cookie of its network namespace
    :ivar stored: name in systemd's file descriptor store
    :ivar members: its clients' connections
    :ivar evictable: members without a complete request, the longest idle first
    :ivar waiting: members with a request that waits for a slot
    :ivar leaving: members to which the last answer of the connection was written
    :ivar bodies: bytes of its clients' request bodies in memory
    """

    def __init__(self, router_id: str, state: ProxyState) -> None:
        self.id, self.namespace = router_id, 0
        self.stored = ""
        self.listeners: list[socket.socket] = []
        self.members: set[RouterMember] = set()
        self.evictable: dict[RouterMember, None] = {}
        self.waiting: dict[RouterMember, None] = {}
        self.leaving: dict[RouterMember, None] = {}
        self.slots = UpstreamSlots(state.settings.requests_per_router)
        self.rates = RateLimit(state.settings.rates)
        self.bodies = 0
        self._state = state
        self._per_client: dict[str, int] = {}
        self._open = 0  # members, and those that were evicted a moment ago
        self._empty = asyncio.Event()
        self._empty.set()

    def settings_changed(self) -> None:
        """Apply changed settings; changed rates begin with counts of zero."""
        self.slots.resize(self._state.settings.requests_per_router)
        self.rates = self.rates.renewed(self._state.settings.rates)

    def refusal(self, client: str) -> str:
        """Return why a client may have no further connection (a cause of ``control_server``), empty if it may."""
        if self._per_client.get(client, 0) >= self._state.settings.connections_per_client:
            return "client_connections"
        if self.is_full and self._victim(client) is None:
            return "router_connections"
        return ""

    @property
    def is_full(self) -> bool:
        """True if the router has the maximum number of connections."""
        return len(self.members) >= self._state.settings.connections_per_router

    def join(self, member: RouterMember) -> None:
        """Add a connection for which :meth:`refusal` returned no cause; a full router evicts another one for it."""
        if self.is_full and (victim := self._victim(member.client)) is not None:
            self._evict(victim)
        self.members.add(member)
        self.evictable[member] = None
        self._per_client[member.client] = self._per_client.get(member.client, 0) + 1
        self._state.budget.clients += 1
        self._open += 1
        self._empty.clear()

    def mark_busy(self, member: RouterMember) -> None:
        """Note that a connection has a complete request: it is not evicted until the request is answered."""
        self.evictable.pop(member, None)

    def mark_idle(self, member: RouterMember) -> None:
        """Note that a connection's request is answered."""
        self.evictable[member] = None

    def mark_leaving(self, member: RouterMember) -> None:
        """Note that a connection's last answer was written: it is evicted before all others."""
        self.evictable.pop(member, None)
        self.leaving[member] = None

    @property
    def spare(self) -> int:
        """Number of connections that :meth:`evict` may close."""
        return len(self.leaving) + len(self.evictable)

    def evict(self) -> None:
        """Evict the first leaving or evictable connection; :attr:`spare` must not be 0."""
        self._evict(next(chain(self.leaving, self.evictable)))

    def _victim(self, newcomer: str) -> RouterMember | None:
        """Choose the connection that a full router closes for a new one of this client.

        It is a leaving connection; else one of the client with most connections, unless the newcomer has as many: so
        an instance with many connections, from however many addresses, shuts out no other; else the longest idle one.
        """
        if self.leaving:
            return next(iter(self.leaving))
        heaviest = max(chain(self.evictable, self.waiting), key=lambda one: self._per_client[one.client], default=None)
        if heaviest is not None and self._per_client[heaviest.client] > self._per_client.get(newcomer, 0):
            return heaviest
        return next(iter(self.evictable), None)

    def _evict(self, member: RouterMember) -> None:
        self._state.counters.refused("evicted")
        member.abort()
        self._dismiss(member)
        self._state.budget.closing += 1

    def leave(self, member: RouterMember) -> None:
        """Remove a connection whose socket is closed."""
        self._state.budget.clients -= 1
        self._open -= 1
        if member in self.members:
            self._dismiss(member)
        else:
            self._state.budget.closing -= 1
        if not self._open:
            self._empty.set()

    def _dismiss(self, member: RouterMember) -> None:
        self.members.discard(member)
        for some in (self.evictable, self.waiting, self.leaving):
            some.pop(member, None)
        left = self._per_client[member.client] - 1
        if left:
            self._per_client[member.client] = left
        else:
            del self._per_client[member.client]

    def room_for_body(self, size: int) -> bool:
        """Return True if so many more bytes of request bodies fit into the router's part of the memory."""
        return self.bodies + size <= BODIES * self._state.settings.max_body_size

    async def end_connections(self) -> None:
        """Reset all connections; returns when their sockets are closed."""
        for member in list(self.members):
            member.abort()
        await self._empty.wait()

    def take_listeners(self, sockets: Sequence[socket.socket]) -> None:
        """Own these listening sockets from now on."""
        self.listeners = list(sockets)
        self._state.budget.listeners += len(sockets)

    def close_listeners(self) -> None:
        """Close our descriptors of the listening sockets; no shutdown(2), the agent has the same sockets."""
        self._state.budget.listeners -= len(self.listeners)
        for listener in self.listeners:
            listener.close()
        self.listeners = []
