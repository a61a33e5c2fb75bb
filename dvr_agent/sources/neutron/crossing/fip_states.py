"""Status of each floating IP, as this host wants it and as the server has it; ``dvrctl why`` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

States = Mapping[str, Mapping[str, str | None]]
"""Floating IP id → ``wanted`` and ``server``: the status that this host reports, and the one that the server has."""


class FipStates:
    """The report thread writes, any thread reads; values are replaced, never changed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._routers: dict[str, States] = {}

    def publish(self, router_id: str, states: States) -> None:
        """Replace the states of a router; empty: there are none."""
        with self._lock:
            if states:
                self._routers[router_id] = states
            else:
                self._routers.pop(router_id, None)

    def of(self, router_id: str) -> States:
        """Return the states of a router."""
        with self._lock:
            return self._routers.get(router_id, {})
