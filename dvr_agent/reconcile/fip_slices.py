"""Slices of the fip namespaces: one for each router with floating IPs, in a namespace that all routers share.

Five parts: copies of slices that a resync reads (:class:`SliceSnapshot`), which of several routers has a route of the
main table (:class:`FipRoutes`), what is there after a job that broke off (:func:`read_slice`), the removal of a slice
(:func:`slice_removal`), and observed states that are edited before the comparison (:func:`device_removal`,
:func:`without_staying`).  Used by the planner and ``stale``; the host
memory keeps snapshot and routes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from dvr_agent.desired import names
from dvr_agent.desired.fip import empty_slice, slice_ownership
from dvr_agent.desired.host_allocations import FipPair
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.reader import InterfaceReader
from dvr_agent.state.adverse import DISABLE_IPV6, DISABLE_NEW, FORWARDS_IPV6
from dvr_agent.state.diff import Action, Change, Changes, diff
from dvr_agent.state.namespace import NamespaceState, without_device
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import DEFAULT_V6, MAIN_TABLE, Route
from dvr_agent.state.slices import SliceIndex
from dvr_agent.state.sysctl import FORWARDING, Sysctl

_ALL = Ownership(prefixes=(names.FIP_TO_ROUTER, names.AGENT_GATEWAY), rules=RuleOwner.BY_IIF, proxied=(DEFAULT_V6,))
PARAMETERS = (DISABLE_IPV6.key, DISABLE_NEW.key, FORWARDING, FORWARDS_IPV6.key)
"""Parameters of the namespace that what is wrong with a device may follow from."""


# --- slices as a resync reads them --------------------------------------------------------------------------------


@dataclass(slots=True)
class _NamespaceCopy:
    """One fip namespace, read as a whole.

    :ivar sysctls: parameters of the namespace at large
    :ivar used: ``fpr-`` devices of slices that were returned or dropped: each copy of a slice is valid once
    """

    index: SliceIndex
    sysctls: frozenset[Sysctl]
    used: set[str] = field(default_factory=set)


class SliceSnapshot:
    """The slices of all routers, read once per fip namespace in a resync.

    To read one slice, the kernel walks over the rules, the main table and the neighbours of all routers.  That is right
    for a single update; in a resync it would cost the square of the number of routers.

    :param interfaces: reads a whole namespace, or one slice if its copy was used
    """

    def __init__(self, interfaces: InterfaceReader) -> None:
        self._interfaces = interfaces
        self._copies: dict[str, _NamespaceCopy] = {}

    def clear(self) -> None:
        """Forget all copies: a resync begins, or has ended."""
        self._copies.clear()

    def drop(self, desired: NamespaceState) -> None:
        """Drop the copy of a slice: a job outside the resync reads and changes it."""
        copy = self._copies.get(desired.name)
        if copy is not None:
            copy.used |= desired.ownership.devices

    def outdate(self, namespace: str, stems: Collection[str]) -> None:
        """Drop the copies of what has changed in a fip namespace since it was read.

        :param stems: of the routers whose slices have changed; none: it may be any
        """
        copy = self._copies.get(namespace)
        if copy is None:
            return
        copy.used.update(names.FIP_TO_ROUTER + stem for stem in stems)
        if not stems:
            del self._copies[namespace]

    def read(self, desired: NamespaceState) -> NamespaceState | None:
        """Return the slice as it was when this resync read its namespace; later calls read the kernel again.

        :returns: None if there is no such namespace
        """
        copy = self._copies.get(desired.name) or self._copy(desired.name)
        if copy is None:
            return None
        (device,) = desired.ownership.devices
        if device in copy.used:
            return self._interfaces.observe(desired.name, desired.ownership, PARAMETERS)
        copy.used.add(device)
        return replace(copy.index.take(desired.ownership), sysctls=copy.sysctls)

    def _copy(self, namespace: str) -> _NamespaceCopy | None:
        state = self._interfaces.observe(namespace, _ALL, PARAMETERS)
        if state is None:
            return None
        copy = self._copies[namespace] = _NamespaceCopy(SliceIndex(state), state.sysctls)
        return copy


# --- which slice has a route of the main table -------------------------------------------------------------------


class FipRoutes:
    """Decides which router's slice has a route of the main table that several documents ask for.

    Of a floating IP that moves from one router to another the register of claims says who has it; that router's slice
    takes the route over.  A subnet in the external address scope may belong to several routers for good: the router
    with the lowest id has its route, whatever the order of their jobs; the others concede it, and one of them gets it
    when that router goes.  A slice observes its own routes only; this memory saves a dump of all routes of the
    namespace.

    :param found: namespace → its routes at start
    """

    def __init__(self, found: Mapping[str, Iterable[Route]]) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        """(Namespace, destination) → the route in force."""
        self._of_device: dict[tuple[str, str], set[str]] = {}
        """(Namespace, device) → destinations of the routes in force by this device."""
        self._conceded: dict[tuple[str, str], set[str]] = {}
        """(Namespace, destination) → ids of routers that may get this route when its present router goes."""
        self._noted: dict[tuple[str, str], frozenset[Route]] = {}
        """(Namespace, device) → all routes of a slice that is in sync, while no other slice has got one of them."""
        self._ids: dict[tuple[str, str], str] = {}
        """(Namespace, device) → router id, of routers that were planned."""
        self._losers: set[str] = set()
        for namespace, routes in found.items():
            self._note(namespace, routes)

    def concede(self, namespace: str, device: str, router_id: str, subnets: Iterable[str]) -> tuple[str, ...]:
        """Concede routes that a router with a lower id has; returns their subnets.

        :param device: the router's ``fpr-`` device; ids compare as the names of these devices do
        :param subnets: the router's subnets in the external address scope
        """
        found = []
        self._ids[namespace, device] = router_id
        for subnet in subnets:
            current = self._routes.get((namespace, subnet))
            present = current.hops[0].device if current is not None else device
            waiting = self._conceded.setdefault((namespace, subnet), set())
            if present < device and present.startswith(names.FIP_TO_ROUTER):
                waiting.add(router_id)
                found.append(subnet)
            else:
                waiting.discard(router_id)
                if not waiting:
                    del self._conceded[namespace, subnet]
        return tuple(found)

    def take_over(self, changes: Changes) -> Changes:
        """Return the changes with a CHANGE instead of an ADD for a route that another slice has.

        Two routers never take turns: what is desired was granted by the register of claims, or not conceded.
        """
        namespace, routes = changes.namespace, self._routes
        added = [change.item for change in changes.items if type(change.item) is Route]
        if not any((namespace, route.dst) in routes for route in added):
            return changes
        items = tuple(self._taken_over(namespace, change) for change in changes.items)
        return replace(changes, items=items) if items != changes.items else changes

    def note_in_sync(self, state: NamespaceState, subnets: Collection[str] = ()) -> set[str]:
        """Note that a slice is in sync: it has its desired routes, and no others.

        :param state: desired state of the slice
        :param subnets: the router's subnets in the external address scope: a router that loses the route of one to this
            slice counts as having conceded it
        :returns: ids of routers that conceded a route which this slice no longer has
        """
        slices = [(state.name, link.name) for link in state.links]
        noted = self._noted.get(slices[0]) if len(slices) == 1 else None
        if noted is None:
            released = {dst for _, device in slices for dst in self._drop(state.name, device)}
            new = state.routes
        else:  # most of a slice is as it was
            gone = noted - state.routes
            destinations = self._of_device.get(slices[0], set())
            released = destinations & {route.dst for route in gone if route.table == MAIN_TABLE}
            destinations -= released
            for dst in released:
                del self._routes[state.name, dst]
            new = state.routes - noted
        self._note(state.name, new, subnets)
        if len(slices) == 1:
            self._noted[slices[0]] = state.routes
        kept = {route.dst for route in new if route.table == MAIN_TABLE}
        return self._conceded_by(state.name, released - kept)

    def take_losers(self) -> set[str]:
        """Return, once, the ids of the planned routers that have lost a route to another slice."""
        found, self._losers = self._losers, set()
        return found

    def note_partly(self, state: NamespaceState, held: Collection[str], subnets: Collection[str] = ()) -> set[str]:
        """Note a slice that lacks what was refused: routes of held addresses are as before, others as desired."""
        before = {
            self._routes[state.name, dst]
            for link in state.links
            for dst in self._of_device.get((state.name, link.name), ())
        }
        routes = {one for one in before if one.dst.removesuffix("/32") in held}
        routes |= {one for one in state.routes if one.dst.removesuffix("/32") not in held}
        return self.note_in_sync(replace(state, routes=frozenset(routes)), subnets)

    def forget(self, namespace: str, device: str) -> set[str]:
        """Forget a slice that is gone.

        :returns: ids of routers that conceded one of its routes
        """
        self._ids.pop((namespace, device), None)
        return self._conceded_by(namespace, self._drop(namespace, device))

    def _drop(self, namespace: str, device: str) -> set[str]:
        """Forget a slice's routes; returns their destinations."""
        self._noted.pop((namespace, device), None)
        released = self._of_device.pop((namespace, device), set())
        for dst in released:
            del self._routes[namespace, dst]
        return released

    def _conceded_by(self, namespace: str, destinations: Iterable[str]) -> set[str]:
        """Return the ids of the routers that conceded the route to one of the destinations."""
        return {router_id for dst in destinations for router_id in self._conceded.get((namespace, dst), ())}

    def _note(self, namespace: str, routes: Iterable[Route], subnets: Collection[str] = ()) -> None:
        """Note routes that are in force; a slice that had one of them has it no more."""
        for route in routes:
            if route.table == MAIN_TABLE:
                previous = self._routes.get((namespace, route.dst))
                if previous is not None:
                    loser = (namespace, previous.hops[0].device)
                    self._of_device[loser].discard(route.dst)
                    self._noted.pop(loser, None)
                    if loser in self._ids:
                        self._losers.add(self._ids[loser])
                        if route.dst in subnets:
                            self._conceded.setdefault((namespace, route.dst), set()).add(self._ids[loser])
                self._routes[namespace, route.dst] = route
                self._of_device.setdefault((namespace, route.hops[0].device), set()).add(route.dst)

    def _taken_over(self, namespace: str, change: Change) -> Change:
        """Return a CHANGE for the ADD of a route that another slice has, else the change itself."""
        route = change.item
        if change.action is not Action.ADD or not isinstance(route, Route) or route.table != MAIN_TABLE:
            return change
        device = route.hops[0].device
        current = self._routes.get((namespace, route.dst))
        if current is None or current.hops[0].device == device:
            return change
        return Change(Action.CHANGE, route, current)


# --- what is really there of a slice -------------------------------------------------------------------------------


def read_slice(interfaces: InterfaceReader, network: str, stem: str) -> NamespaceState | None:
    """Read the device of a router's slice, and its routes in the main table.

    :param stem: of the router
    :returns: None if there is no such namespace
    """
    device = frozenset({names.FIP_TO_ROUTER + stem})
    return interfaces.observe(names.FIP + network, Ownership(devices=device, main_only=True), ())


def observe_slice(
    interfaces: InterfaceReader, namespace: str, router_id: str, pair: FipPair | None
) -> NamespaceState | None:
    """Read a slice without a document: its routes say which addresses are proxied for the router.

    :returns: None if there is no such namespace
    """
    ownership = slice_ownership(router_id, pair)
    observed = interfaces.observe(namespace, ownership, ())
    routed = sorted(route.dst for route in observed.routes if route.dst.endswith("/128")) if observed else ()
    return interfaces.observe(namespace, replace(ownership, proxied=tuple(routed)), ()) if routed else observed


# --- the removal of a slice ----------------------------------------------------------------------------------------


def slice_removal(interfaces: InterfaceReader, namespace: str, router_id: str, pair: FipPair | None) -> NamespaceJob:
    """Return the job that removes a router's slice of a fip namespace, which other routers still use.

    :param router_id: the router's id, or its stem
    :param pair: of the router, None if it is not known
    """
    observed = observe_slice(interfaces, namespace, router_id, pair)
    desired = empty_slice(namespace, router_id, pair)
    return NamespaceJob(diff(observed, desired) if observed is not None else Changes(namespace))


# --- observed states that are edited before the comparison ---------------------------------------------------------


def device_removal(state: NamespaceState | None, device: str) -> tuple[Change, ...]:
    """Return the removal of a device, empty if the observed state lacks it."""
    links = state.links if state else ()
    return tuple(Change(Action.REMOVE, link, link) for link in links if link.name == device)


def without_staying(
    state: NamespaceState | None, devices: Collection[str], desired: Collection[tuple[str, int]]
) -> NamespaceState | None:
    """Return an observed state without devices that stay unchanged, but with those of their routes that must change.

    :param desired: (destination, table) of the desired routes
    """
    if state is None or not devices:
        return state
    rest = state
    for device in devices:
        rest = without_device(rest, device)
    moving = (route for route in state.routes - rest.routes if route.key in desired)
    return replace(rest, routes=rest.routes | frozenset(moving))
