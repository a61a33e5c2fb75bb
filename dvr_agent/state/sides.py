"""Floating IPs that change between the fip and the snat namespace (:func:`find_sides`); used by the order of writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dvr_agent.state.address import Address
from dvr_agent.state.dependency import subject
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.route import Route


@dataclass(frozen=True, slots=True)
class Sides:
    """Addresses of floating IPs that go from the fip to the snat namespace, or back.

    The way out and the answer to ARP change by two writes.  In between the way out is by the snat namespace with the
    gateway's address, and the floating IP is no address there: then what comes in by either side is answered.

    :ivar arriving: floating IPs that come to the snat namespace
    :ivar departing: floating IPs that leave it
    :ivar following: fixed IPs of those that leave it
    """

    arriving: frozenset[str] = frozenset()
    departing: frozenset[str] = frozenset()
    following: frozenset[str] = frozenset()


NO_SIDES = Sides()


def find_sides(changes: Iterable[Change], units: Iterable[tuple[str, str]]) -> Sides:
    """Return the floating IPs that change sides: a route to one goes and its address comes, or the other way round.

    :param changes: of all namespaces
    :param units: pairs of floating IP and fixed IP
    """
    found: dict[tuple[type, Action], set[str]] = {}
    for change in changes:
        about = subject(change.item)
        if about is not None:
            found.setdefault((type(change.item), change.action), set()).add(about)

    def both(address: Action, route: Action) -> frozenset[str]:
        return frozenset(found.get((Address, address), set()) & found.get((Route, route), set()))

    departing = both(Action.REMOVE, Action.ADD)
    following = frozenset(fixed for floating, fixed in units if floating in departing)
    return Sides(both(Action.ADD, Action.REMOVE), departing, following)
