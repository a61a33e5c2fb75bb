"""Sort the changes of one namespace into phases (:func:`phases`), so that no packet is lost.  Used by the executor.

Add before remove; packet filter tables before the routes and rules that bring packets to them, but after the routes
and rules that are removed; see ``docs/architecture.md``, "Order".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from dvr_agent.state.diff import Action, Change
from dvr_agent.state.namespace import KIND_OF


@dataclass(frozen=True, slots=True)
class Phases:
    """The changes of one namespace in the order of execution; the tables are committed between the first two.

    :ivar early: rules and routes that are removed without successor: traffic must stop coming before its NAT goes
    :ivar build: everything added or changed, and IPv6 addresses that get another prefix length
    :ivar late: removal of everything that an added object replaces, or that nothing uses any more
    """

    early: tuple[Change, ...]
    build: tuple[Change, ...]
    late: tuple[Change, ...]


def phases(changes: Iterable[Change]) -> Phases:
    """Sort the changes of one namespace into phases, each in dependency order."""
    build: list[Change] = []
    remove: list[Change] = []
    for change in changes:
        (remove if change.action is Action.REMOVE else build).append(change)
    if not remove:
        return Phases((), _sorted(build, _build_rank), ())
    places, selectors = _places(build), _selectors(build)
    build += [change for change in remove if _place(change) in places]
    remove = [change for change in remove if _place(change) not in places]
    early = [change for change in remove if _stops_traffic(change, selectors)]
    late = [change for change in remove if not _stops_traffic(change, selectors)]
    return Phases(_sorted(early, _remove_rank), _sorted(build, _build_rank), _sorted(late, _remove_rank))


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


def _stops_traffic(change: Change, selectors: set[Hashable]) -> bool:
    """True if no new object applies to the traffic of a removed one.

    A route under removal has no successor: one with the same destination and table would be a CHANGE.
    """
    return KIND_OF[type(change.item)].brings_traffic and _selector(change) not in selectors


def _build_rank(change: Change) -> int:
    return _rank(KIND_OF[type(change.item)].build_rank, change.item)


def _remove_rank(change: Change) -> int:
    return _rank(KIND_OF[type(change.item)].remove_rank, change.item)


def _rank(rank: int | Callable[[Any], int], item: object) -> int:
    return rank if isinstance(rank, int) else rank(item)


def _sorted(changes: list[Change], rank: Callable[[Change], int]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=rank)) if len(changes) > 1 else tuple(changes)
