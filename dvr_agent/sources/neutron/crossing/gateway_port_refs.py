"""References of routers to agent gateway ports: the port of an external network is deleted with the last reference.

A reference begins when a router of the external network is in place; a network that never had a reference keeps its
port, which then may belong to another agent.
"""

from __future__ import annotations

from threading import Lock


class GatewayPortRefs:
    """External networks by router.  The report thread writes, the fetch thread takes unreferenced networks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._networks: dict[str, str] = {}
        self._unreferenced: set[str] = set()

    def set_network(self, router_id: str, network_id: str | None) -> bool:
        """Replace the router's external network; returns True if any network has lost its last reference."""
        with self._lock:
            before = self._networks.pop(router_id, None)
            if network_id is not None:
                self._networks[router_id] = network_id
            if before is not None:
                self._unreferenced.add(before)
            self._unreferenced -= set(self._networks.values())
            return bool(self._unreferenced)

    def unreferenced(self) -> list[str]:
        """Return the networks that had references and have none now."""
        with self._lock:
            return sorted(self._unreferenced)

    def port_deleted(self, network_id: str) -> None:
        """Forget a network: its agent gateway port was deleted, or the server refuses to delete it."""
        with self._lock:
            self._unreferenced.discard(network_id)
