"""Sort the changes of one namespace into phases (:func:`phases`), so that no packet is lost.  Used by the executor.

Make before lead: what diverts traffic comes after everything on the path to which it leads; and the other way round,
traffic stops being led to what is taken away; see ``docs/architecture.md``, "Order".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from dvr_agent.state.address import Address
from dvr_agent.state.dependency import subject
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.namespace import KIND_OF
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, MAIN_TABLE, Route
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sides import NO_SIDES, Sides


class Phases(NamedTuple):
    """The changes of one namespace in the order of execution.

    :ivar before: routes of the main table that are removed, but no default routes and none of a unit: the kernel would
        look for the gateways of new routes by them
    :ivar build: everything added or changed that diverts no traffic, and IPv6 addresses that get another prefix length
    :ivar lead: rules, routes that bring in a unit's traffic, and routes that get another next hop
    :ivar stop: removal of rules without successor: traffic must stop going this way before its NAT goes
    :ivar depart: removal of addresses of units that go to the other side: its routes are there, its rules come later
    :ivar arrive: addresses of units that come from the other side, and rules that lead those which go there
    :ivar unroute: removal of units' routes, by which traffic comes in
    :ivar withdraw: removal of units' addresses: their packets arrive until then
    :ivar late: removal of everything that an added object replaces, or that nothing uses any more
    """

    before: tuple[Change, ...] = ()
    build: tuple[Change, ...] = ()
    lead: tuple[Change, ...] = ()
    stop: tuple[Change, ...] = ()
    depart: tuple[Change, ...] = ()
    arrive: tuple[Change, ...] = ()
    unroute: tuple[Change, ...] = ()
    withdraw: tuple[Change, ...] = ()
    late: tuple[Change, ...] = ()

    @property
    def removes(self) -> bool:
        """True if anything is removed, beyond what makes room for a new object."""
        return bool(self.before or self.stop or self.depart or self.unroute or self.withdraw or self.late)


class Surroundings(NamedTuple):
    """What the order within a namespace depends on beyond the changes themselves.

    :ivar led: addresses and networks of units (``missing.Paths``), whose routes divert traffic
    :ivar sides: addresses of units that change sides
    :ivar staying: outside addresses that are used until the packet filter changes: their routes are removed late
    :ivar added: (destination, table) of routes that another owner adds in the same namespace: old ones make room
    """

    led: Collection[str] = ()
    sides: Sides = NO_SIDES
    staying: Collection[str] = ()
    added: Collection[tuple[str, int]] = ()


_NOTHING = Surroundings()
_LEADING = frozenset((Rule, Route))
"""Kinds of which some objects divert traffic."""


def phases(changes: Iterable[Change], around: Surroundings = _NOTHING) -> Phases:
    """Sort the changes of one namespace into phases, each in dependency order."""
    build: list[Change] = []
    remove: list[Change] = []
    lead: list[Change] = []
    last: list[Change] = []  # a unit's route comes after the rules for the way back
    arrive: list[Change] = []
    is_by_sides = around.sides != NO_SIDES
    for change in changes:
        if change.action is Action.REMOVE:
            remove.append(change)
        elif is_by_sides and _arrives(change, around.sides):
            arrive.append(change)
        elif type(change.item) in _LEADING and _leads(change, around.led):
            (last if type(change.item) is Route and change.action is Action.ADD else lead).append(change)
        else:
            build.append(change)
    leading = (*_sorted(lead, _BUILD_RANKS), *last)
    if not remove:
        return Phases(build=_sorted(build, _BUILD_RANKS), lead=leading, arrive=tuple(arrive))
    places, selectors = _places(build), _selectors(lead)
    build += [change for change in remove if _place(change) in places]
    sorted_out: dict[str, list[Change]] = {
        name: [] for name in ("before", "stop", "depart", "unroute", "withdraw", "late")
    }
    for change in remove:
        if _place(change) not in places:
            sorted_out[_when_removed(change, selectors, around)].append(change)
    removed = {name: _sorted(found, _REMOVE_RANKS) for name, found in sorted_out.items()}
    return Phases(build=_sorted(build, _BUILD_RANKS), lead=leading, arrive=tuple(arrive), **removed)


def in_one_go(removals: Iterable[Change]) -> tuple[Change, ...]:
    """Sort what is removed together, where no traffic is left that needs an order."""
    return _sorted([*removals], _REMOVE_RANKS)


def find_sides(changes: Iterable[Change], units: Iterable[tuple[str, str]]) -> Sides:
    """Return the floating IPs that change sides: a route to one goes and its address comes, or the other way round.

    :param changes: of all namespaces
    :param units: pairs of floating IP and fixed IP
    """
    relevant = [change for change in changes if type(change.item) in (Address, Route)]
    if Action.REMOVE not in [change.action for change in relevant]:
        return NO_SIDES
    found: dict[tuple[type, Action], set[str]] = {}
    for change in relevant:
        about = subject(change.item)
        if about is not None:
            found.setdefault((type(change.item), change.action), set()).add(about)

    def both(address: Action, route: Action) -> frozenset[str]:
        return frozenset(found.get((Address, address), set()) & found.get((Route, route), set()))

    departing = both(Action.REMOVE, Action.ADD)
    following = frozenset(fixed for floating, fixed in units if floating in departing) if departing else departing
    return Sides(both(Action.ADD, Action.REMOVE), departing, following)


def _leads(change: Change, led: Collection[str]) -> bool:
    """True if the object diverts traffic: a rule, a unit's route, or a route that leads elsewhere from now on."""
    item = change.item
    if isinstance(item, Rule):
        return item not in KERNEL_RULES
    if not isinstance(item, Route) or item.hops[0].gateway is None:
        return False
    return change.action is Action.CHANGE or (item.table == MAIN_TABLE and item.dst.removesuffix("/32") in led)


def _arrives(change: Change, sides: Sides) -> bool:
    """True for an object that comes when its unit's traffic is on the other side already."""
    if isinstance(change.item, Address):
        return subject(change.item) in sides.arriving
    return isinstance(change.item, Rule) and subject(change.item) in sides.following


def _when_removed(change: Change, selectors: set[Hashable], around: Surroundings) -> str:
    """Return the name of the phase in which an object is removed."""
    item = change.item
    if isinstance(item, Rule):
        return "late" if _selector(change) in selectors else "stop"
    if isinstance(item, Address) and subject(item) in around.led:
        return "depart" if subject(item) in around.sides.departing else "withdraw"
    if not isinstance(item, Route) or item.table != MAIN_TABLE or item.dst in (DEFAULT_V4, DEFAULT_V6):
        return "late"  # rules lead to the other tables, and are removed first
    about = subject(item)
    if about not in around.led or item.key in around.added:
        return "before"
    return "late" if about in around.staying else "unroute"


def _place(change: Change) -> Hashable | None:
    """Return the place in the kernel that the object takes, None if others of its kind can be there too."""
    kind = KIND_OF[type(change.item)]
    place = None if kind.place is None else kind.place(change.item)
    return None if place is None else (kind.name, place)


def _places(build: Iterable[Change]) -> set[Hashable]:
    """Return the places that new objects need: an old object in such a place is removed right before the new one."""
    return {place for place in map(_place, build) if place is not None}


def _selector(change: Change) -> Hashable | None:
    """Return the traffic that the object applies to, None if no other object can apply to it instead."""
    kind = KIND_OF[type(change.item)]
    return None if kind.selector is None else (kind.name, kind.selector(change.item))


def _selectors(build: Iterable[Change]) -> set[Hashable]:
    """Return the traffic that new objects apply to."""
    return {selector for selector in map(_selector, build) if selector is not None}


_Ranks = dict[type[KernelObject], int | Callable[[Any], int]]
_BUILD_RANKS: _Ranks = {kind.type: kind.build_rank for kind in KIND_OF.values()}
_REMOVE_RANKS: _Ranks = {kind.type: kind.remove_rank for kind in KIND_OF.values()}


def _sorted(changes: Sequence[Change], ranks: _Ranks) -> tuple[Change, ...]:
    """Return the changes in the order of their ranks; those of one rank stay as they are."""
    found = [
        rank if isinstance(rank, int) else rank(item)
        for rank, item in [(ranks[type(change.item)], change.item) for change in changes]
    ]
    return tuple([changes[number] for number in sorted(range(len(found)), key=found.__getitem__)])
