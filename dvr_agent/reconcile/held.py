"""Which router's slice of a fip namespace holds the route to a floating IP.

A floating IP may go from one router to another, and their documents come in any order.  A slice sees its own routes
only, so the new router would find the place taken.  This memory saves a look at all routes of the namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dvr_agent.state.diff import Action, Change, Changes
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import MAIN_TABLE, Route


class HeldRoutes:
    """Routes of the main table, by namespace and destination.

    :param found: namespace → routes in it
    """

    def __init__(self, found: Mapping[str, Iterable[Route]]) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._of_device: dict[tuple[str, str], set[str]] = {}
        self._lost: dict[tuple[str, str], set[str]] = {}
        """(Namespace, device) → what another slice took over from this one and it has not given up yet."""
        for namespace, routes in found.items():
            self._hold(namespace, routes)

    def take_over(self, changes: Changes) -> Changes:
        """The same changes, but a route that is new to this slice and held by another one is replaced, not added.

        The newest claim has the last word.  The other slice's next job finds the route gone and, if its document has
        changed too, does not miss it; if it has not, the place is taken, so that two routers never take turns.
        """
        items = tuple(self._instead(changes.namespace, change) for change in changes.items)
        return replace(changes, items=items) if items != changes.items else changes

    def settle(self, piece: NamespaceState) -> None:
        """A slice is as it should be: it holds its routes, and no others."""
        for link in piece.links:
            self.forget(piece.name, link.name)
        self._hold(piece.name, piece.routes)

    def forget(self, namespace: str, device: str) -> None:
        """The slice with this device is gone."""
        self._lost.pop((namespace, device), None)
        for dst in self._of_device.pop((namespace, device), ()):
            del self._routes[namespace, dst]

    def _hold(self, namespace: str, routes: Iterable[Route]) -> None:
        for route in routes:
            if route.table == MAIN_TABLE:
                previous = self._routes.get((namespace, route.dst))
                if previous is not None:
                    loser = (namespace, previous.hops[0].device)
                    self._of_device[loser].discard(route.dst)
                    self._lost.setdefault(loser, set()).add(route.dst)
                self._routes[namespace, route.dst] = route
                self._of_device.setdefault((namespace, route.hops[0].device), set()).add(route.dst)

    def _instead(self, namespace: str, change: Change) -> Change:
        route = change.item
        if change.action is not Action.ADD or not isinstance(route, Route) or route.table != MAIN_TABLE:
            return change
        device = route.hops[0].device
        held = self._routes.get((namespace, route.dst))
        if held is None or held.hops[0].device == device or route.dst in self._lost.get((namespace, device), ()):
            return change
        return Change(Action.CHANGE, route, held)
