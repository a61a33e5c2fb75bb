"""Slices of the fip namespaces: one for each router with floating IPs, in a namespace that all routers share.

Three things about slices: what the kernel holds of one (:class:`SliceSnapshot`), which of several routers has a
route of the main table (:class:`FipRoutes`), and observed states edited before they are compared (:func:`removals`,
:func:`set_aside`).  Used by the planner; the snapshot and the routes belong to the host memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from dvr_agent.desired import names
from dvr_agent.reconcile.reader import InterfaceReader
from dvr_agent.state.diff import Action, Change, Changes
from dvr_agent.state.namespace import NamespaceState, without_device
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.slices import SliceIndex

_ALL = Ownership(prefixes=(names.FIP_TO_ROUTER, names.AGENT_GATEWAY), rules=RuleOwner.BY_IIF)


# --- what the kernel holds of a slice ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Whole:
    """One fip namespace, read as a whole.

    :ivar used: devices whose copy was used or dropped: each copy is valid once
    """

    index: SliceIndex
    used: set[str] = field(default_factory=set)


class SliceSnapshot:
    """The slices of all routers, read once per fip namespace in a resync.

    To read a slice by itself costs the kernel a walk over what all routers share (rules, the main table, neighbours).
    That is right for a single update, and would make a resync cost the square of the number of routers.

    :param interfaces: reads a whole namespace, or a slice whose copy is used up
    """

    def __init__(self, interfaces: InterfaceReader) -> None:
        self._interfaces = interfaces
        self._wholes: dict[str, _Whole] = {}

    def clear(self) -> None:
        """Forget all copies: a resync begins."""
        self._wholes.clear()

    def drop(self, desired: NamespaceState) -> None:
        """Forget the copy of a slice that a job outside the resync reads and changes."""
        whole = self._wholes.get(desired.name)
        if whole is not None:
            whole.used |= desired.ownership.devices

    def read(self, desired: NamespaceState) -> NamespaceState | None:
        """Return the slice as it was when its namespace was read in this resync; further calls read it anew.

        :returns: None if there is no such namespace
        """
        whole = self._wholes.get(desired.name) or self._read_whole(desired.name)
        if whole is None:
            return None
        (device,) = desired.ownership.devices
        if device in whole.used:
            return self._interfaces.observe(desired.name, desired.ownership, ())
        whole.used.add(device)
        return whole.index.cut(desired.ownership)

    def _read_whole(self, namespace: str) -> _Whole | None:
        state = self._interfaces.observe(namespace, _ALL, ())
        if state is None:
            return None
        whole = self._wholes[namespace] = _Whole(SliceIndex(state))
        return whole


# --- which slice has a route of the main table -------------------------------------------------------------------


class FipRoutes:
    """Which router's slice has a route of the main table that several documents ask for.

    A floating IP may go from one router to another, and their documents come in any order: the newest claim wins.  A
    subnet in the external address scope may be a subnet of several routers for good: the router with the lowest id has
    its route, whatever the order of their jobs, and another router gets it when that one goes.  A slice observes its
    own routes only; this memory saves a dump of all routes of the namespace.

    :param found: namespace → routes in it
    """

    def __init__(self, found: Mapping[str, Iterable[Route]]) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._of_device: dict[tuple[str, str], set[str]] = {}
        self._lost: dict[tuple[str, str], set[str]] = {}
        """(Namespace, device) → destinations that another slice took over, until this slice is in sync again."""
        self._conceded: dict[tuple[str, str], set[str]] = {}
        """(Namespace, destination) → ids of routers that get this route when its holder goes."""
        self._ids: dict[tuple[str, str], str] = {}
        """(Namespace, device) → router id, of routers that were planned."""
        for namespace, routes in found.items():
            self._hold(namespace, routes)

    def concede(self, namespace: str, device: str, router_id: str, subnets: Iterable[str]) -> tuple[str, ...]:
        """Return the subnets whose route is left to a router with a lower id, which has it.

        :param device: the router's ``fpr-`` device, whose name begins like the id
        :param subnets: those in the external address scope
        """
        found = []
        self._ids[namespace, device] = router_id
        for subnet in subnets:
            current = self._routes.get((namespace, subnet))
            holder = current.hops[0].device if current is not None else device
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
        """Return the changes with a CHANGE instead of an ADD for a route that another slice has.

        The newest claim wins.  The other slice's next job finds the route gone: if its document has changed too,
        that is right; if it has not, the job does not take the route back, so that two routers never take turns.

        :param subnets: those in the external address scope: what has not been conceded is taken
        """
        items = tuple(self._instead(changes.namespace, change, subnets) for change in changes.items)
        return replace(changes, items=items) if items != changes.items else changes

    def settle(self, piece: NamespaceState, subnets: Collection[str] = ()) -> set[str]:
        """Note that a slice is in sync: it has its routes, and no others.

        :param subnets: those in the external address scope: a router that loses one to this slice waits for it from now
            on
        :returns: ids of routers that conceded a route that this slice no longer has
        """
        released: set[str] = set()
        for link in piece.links:
            released |= self._drop(piece.name, link.name)
        self._hold(piece.name, piece.routes, subnets)
        return self._heirs(piece.name, released - {route.dst for route in piece.routes if route.table == MAIN_TABLE})

    def forget(self, namespace: str, device: str) -> set[str]:
        """Forget a slice that is gone.

        :returns: ids of routers that conceded one of its routes
        """
        self._ids.pop((namespace, device), None)
        return self._heirs(namespace, self._drop(namespace, device))

    def _drop(self, namespace: str, device: str) -> set[str]:
        """Forget a slice's routes; returns their destinations."""
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
        current = self._routes.get((namespace, route.dst))
        if current is None or current.hops[0].device == device:
            return change
        if route.dst not in subnets and route.dst in self._lost.get((namespace, device), ()):
            return change
        return Change(Action.CHANGE, route, current)


# --- observed states edited before they are compared --------------------------------------------------------------


def removals(state: NamespaceState | None, device: str) -> tuple[Change, ...]:
    """Return the removal of a device, empty if it is not there."""
    links = state.links if state else ()
    return tuple(Change(Action.REMOVE, link, link) for link in links if link.name == device)


def set_aside(
    state: NamespaceState | None, devices: Collection[str], wanted: Collection[tuple[str, int]]
) -> NamespaceState | None:
    """Return an observed state without devices that stay unchanged, but with those of their routes that must change.

    :param wanted: (destination, table) of the desired routes
    """
    if state is None or not devices:
        return state
    left = state
    for device in devices:
        left = without_device(left, device)
    moving = (route for route in state.routes - left.routes if route.key in wanted)
    return replace(left, routes=left.routes | frozenset(moving))
