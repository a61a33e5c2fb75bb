"""Budget of this process's file descriptors: some are reserved, so that the control socket always works."""

from __future__ import annotations

import resource

RESERVE = 80
"""Descriptors outside the budget: the control socket with its connections and received sockets, log, event loop."""
MOST = 1 << 20


def raise_limit() -> int:
    """Raise RLIMIT_NOFILE of this process as far as possible; returns the new limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class FdBudget:
    """Counts descriptors by use, and decides whether there is room for more.

    :param limit: maximum number of open descriptors of the process
    :ivar clients: instances' connections
    :ivar closing: evicted connections among them, which the next turn of the event loop closes
    :ivar listeners: listening sockets
    :ivar upstream: connections to neutron-metadata-agent
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit - RESERVE, 8)
        self.clients = self.closing = self.listeners = self.upstream = 0

    @property
    def for_upstream(self) -> int:
        """Maximum number of connections to neutron-metadata-agent at a time, all routers together."""
        return self._limit // 4

    def room_for_client(self) -> bool:
        """Return True if one more connection of an instance fits."""
        return self.clients - self.closing + self.listeners + self.for_upstream < self._limit

    def room_for_upstream(self) -> bool:
        """Return True if one more connection to neutron-metadata-agent fits."""
        return self.upstream < self.for_upstream

    def room_for_listeners(self, more: int) -> bool:
        """Return True if so many more listening sockets fit; they may displace clients' connections."""
        return self.listeners + more + self.for_upstream < self._limit
