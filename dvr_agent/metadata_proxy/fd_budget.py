"""File descriptors of this process: who may use how many, so that the control socket always finds some."""

from __future__ import annotations

import resource

RESERVE = 80
"""Nobody's: the control socket with its connections and what it is given, the log, the event loop."""
MOST = 1 << 20


def raise_limit() -> int:
    """Allow this process what it may have at most; returns that number."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class Budget:
    """Counts descriptors.

    :param limit: the process may have so many open
    :ivar clients: instances' connections
    :ivar closing: of these, how many are closed in the next turn of the event loop
    :ivar listeners: listening sockets
    :ivar upstream: connections to neutron-metadata-agent
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit - RESERVE, 8)
        self.clients = self.closing = self.listeners = self.upstream = 0

    @property
    def for_upstream(self) -> int:
        """Connections to neutron-metadata-agent at a time, all routers together."""
        return self._limit // 4

    def room_for_client(self) -> bool:
        return self.clients - self.closing + self.listeners + self.for_upstream < self._limit

    def room_for_upstream(self) -> bool:
        return self.upstream < self.for_upstream

    def room_for_listeners(self, more: int) -> bool:
        """Listening sockets may push clients out, but not use up everything."""
        return self.listeners + more + self.for_upstream < self._limit
