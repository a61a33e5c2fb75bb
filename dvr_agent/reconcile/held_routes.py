"""Which router's slice of a fip namespace holds a route of the main table that several documents ask for.

A floating IP may go from one router to another, and their documents come in any order: the newest claim has it.  A
subnet in the external address scope may be a subnet of several routers for good: the router with the lowest id has its
route, so that it does not depend on memory, and another one gets it when that one goes.  A slice sees its own routes
only; this memory saves a look at all routes of the namespace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from dvr_agent.desired import names
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
        self._conceded: dict[tuple[str, str], set[str]] = {}
        """(Namespace, destination) → ids of routers that would have this route if its holder went."""
        self._ids: dict[tuple[str, str], str] = {}
        """(Namespace, device) → router id, of routers that were looked at."""
        for namespace, routes in found.items():
            self._hold(namespace, routes)

    def concede(self, namespace: str, device: str, router_id: str, subnets: Iterable[str]) -> tuple[str, ...]:
        """Return the subnets whose route is left to a router with a lower id, which holds it.

        :param device: the router's ``fpr-`` device, whose name begins like the id
        :param subnets: those in the external address scope
        """
        found = []
        self._ids[namespace, device] = router_id
        for subnet in subnets:
            held = self._routes.get((namespace, subnet))
            holder = held.hops[0].device if held is not None else device
            waiting = self._conceded.setdefault((namespace, subnet), set())
            if holder < device and holder.startswith(names.FIP_TO_ROUTER):
                waiting.add(router_id)
                found.append(subnet)
            else:
                waiting.discard(router_id)
                if not waiting:
                    del self._conceded[namespace, subnet]
        return tuple(found)

    def take_over(self, changes: Changes, subnets: Collection[str] = ()) -> Changes:
        """The same changes, but a route that is new to this slice and held by another one is replaced, not added.

        The newest claim has the last word.  The other slice's next job finds the route gone and, if its document has
        changed too, does not miss it; if it has not, the place is taken, so that two routers never take turns.

        :param subnets: those in the external address scope: what has not been conceded is taken
        """
        items = tuple(self._instead(changes.namespace, change, subnets) for change in changes.items)
        return replace(changes, items=items) if items != changes.items else changes

    def settle(self, piece: NamespaceState, subnets: Collection[str] = ()) -> set[str]:
        """A slice is as it should be: it holds its routes, and no others.

        :param subnets: those in the external address scope: who loses one to this slice waits for it from now on
        :returns: ids of routers that conceded a route that this slice holds no more
        """
        released: set[str] = set()
        for link in piece.links:
            released |= self._drop(piece.name, link.name)
        self._hold(piece.name, piece.routes, subnets)
        return self._heirs(piece.name, released - {route.dst for route in piece.routes if route.table == MAIN_TABLE})

    def forget(self, namespace: str, device: str) -> set[str]:
        """The slice with this device is gone.

        :returns: ids of routers that conceded one of its routes
        """
        self._ids.pop((namespace, device), None)
        return self._heirs(namespace, self._drop(namespace, device))

    def _drop(self, namespace: str, device: str) -> set[str]:
        """Forget a slice; returns the destinations of its routes."""
        self._lost.pop((namespace, device), None)
        released = self._of_device.pop((namespace, device), set())
        for dst in released:
            del self._routes[namespace, dst]
        return released

    def _heirs(self, namespace: str, destinations: Iterable[str]) -> set[str]:
        return {heir for dst in destinations for heir in self._conceded.get((namespace, dst), ())}

    def _hold(self, namespace: str, routes: Iterable[Route], subnets: Collection[str] = ()) -> None:
        for route in routes:
            if route.table == MAIN_TABLE:
                previous = self._routes.get((namespace, route.dst))
                if previous is not None:
                    loser = (namespace, previous.hops[0].device)
                    self._of_device[loser].discard(route.dst)
                    self._lost.setdefault(loser, set()).add(route.dst)
                    if route.dst in subnets and loser in self._ids:
                        self._conceded.setdefault((namespace, route.dst), set()).add(self._ids[loser])
                self._routes[namespace, route.dst] = route
                self._of_device.setdefault((namespace, route.hops[0].device), set()).add(route.dst)

    def _instead(self, namespace: str, change: Change, subnets: Collection[str]) -> Change:
        route = change.item
        if change.action is not Action.ADD or not isinstance(route, Route) or route.table != MAIN_TABLE:
            return change
        device = route.hops[0].device
        held = self._routes.get((namespace, route.dst))
        if held is None or held.hops[0].device == device:
            return change
        if route.dst not in subnets and route.dst in self._lost.get((namespace, device), ()):
            return change
        return Change(Action.CHANGE, route, held)
