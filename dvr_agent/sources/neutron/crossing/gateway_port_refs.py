"""External networks in use on this host: their agent gateway ports are given back when the last use has ended.

A network counts once a router with it was in place; networks never seen in use are not ours to give back.
"""

from __future__ import annotations

from threading import Lock


class NetworkUses:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._networks: dict[str, str] = {}
        self._idle: set[str] = set()

    def note(self, router_id: str, network_id: str | None) -> bool:
        """The router's use of an external network, now; returns True if there are idle networks."""
        with self._lock:
            before = self._networks.pop(router_id, None)
            if network_id is not None:
                self._networks[router_id] = network_id
            if before is not None:
                self._idle.add(before)
            self._idle -= set(self._networks.values())
            return bool(self._idle)

    def idle(self) -> list[str]:
        """Networks that were in use and are not any more."""
        with self._lock:
            return sorted(self._idle)

    def released(self, network_id: str) -> None:
        """Nothing is left to give back."""
        with self._lock:
            self._idle.discard(network_id)
