"""In which order changes are made, so that no packet is lost.

Add before remove; packet filter tables before the routes and rules that bring packets to them, but after the routes
and rules that are going; see ``docs/architecture.md``, "Order".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.link import Link
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.route import Route
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sysctl import Sysctl


@dataclass(frozen=True, slots=True)
class Phases:
    """The changes of one namespace in the order they are made; the tables are committed between the first two.

    :ivar early: rules and routes that go without successor: traffic must stop coming before its NAT goes
    :ivar build: everything added or changed, and IPv6 addresses that get another prefix length
    :ivar late: what is replaced by something added above, and what nothing uses any more
    """

    early: tuple[Change, ...]
    build: tuple[Change, ...]
    late: tuple[Change, ...]


_BUILD_ORDER = {Link: 0, Sysctl: 1, Address: 2, Neighbour: 3, Route: 5, Rule: 6}
_KERNEL_RULE = 4
"""Before routes: whether a gateway can be reached is looked up by the rules."""
_REMOVE_ORDER = {Rule: 0, Route: 1, Neighbour: 2, Address: 3, Link: 4}


def phases(changes: Iterable[Change]) -> Phases:
    """Sort the changes of one namespace into phases, each in dependency order."""
    build: list[Change] = []
    remove: list[Change] = []
    for change in changes:
        (remove if change.action is Action.REMOVE else build).append(change)
    replaced = {(change.item.device, change.item.ip) for change in build if isinstance(change.item, Address)}
    build += [change for change in remove if _gives_way(change, replaced)]
    remove = [change for change in remove if not _gives_way(change, replaced)]
    successors = {change.item.selector for change in build if isinstance(change.item, Rule)}
    early = [change for change in remove if _stops_traffic(change, successors)]
    late = [change for change in remove if not _stops_traffic(change, successors)]
    return Phases(_sorted(early, _REMOVE_ORDER), _sorted(build, _BUILD_ORDER), _sorted(late, _REMOVE_ORDER))


def _gives_way(change: Change, replaced: set[tuple[str, str]]) -> bool:
    """IPv6 has an address once per device, whatever its prefix length: the old one goes when the new one comes."""
    item = change.item
    return isinstance(item, Address) and ":" in item.cidr and (item.device, item.ip) in replaced


def _stops_traffic(change: Change, successors: set[tuple[int, str | None, str | None]]) -> bool:
    """A route under removal has no successor: one with the same destination and table would be a CHANGE."""
    item = change.item
    return isinstance(item, Route) or (isinstance(item, Rule) and item.selector not in successors)


def _route_rank(change: Change) -> int:
    """On-link routes first: a gateway may be reachable only by them."""
    return int(isinstance(change.item, Route) and change.item.hops[0].gateway is not None)


def _sorted(changes: Sequence[Change], order: dict[type, int]) -> tuple[Change, ...]:
    if len(changes) < 2:
        return tuple(changes)
    return tuple(sorted(changes, key=lambda change: _rank(change, order)))


def _rank(change: Change, order: dict[type, int]) -> tuple[int, int]:
    if change.action is Action.ADD and change.item in KERNEL_RULES:
        return _KERNEL_RULE, 0
    return order[type(change.item)], _route_rank(change)
