"""Computes long tuples item by item, and takes over what it computed for the last tuple of the same owner.

A router with a thousand floating IPs gets one more: what is made of the thousand stays, as the same objects.  So they
are not made again, and whoever compares the results, or sets of them, compares pointers.  Tuples are compared from both
ends (``state.sequences``): what was changed at one place costs one item.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from dvr_agent.state.sequences import common_ends
from dvr_agent.state.sets import compact

LONG = 32
"""Items of the shortest tuple that is remembered."""

OWNERS = 64
"""Tuples that each function remembers."""

A = TypeVar("A")
R = TypeVar("R")
P = ParamSpec("P")
H = TypeVar("H", bound=Hashable)


class Itemwise(Generic[A, P, R]):
    """A pure function of items and of what is common to them, with one result for each, which depends on no other item.

    It gets many items at once: a call for each would take longer than most of these functions do.
    """

    def __init__(self, make: Callable[Concatenate[Sequence[A], P], Sequence[R]]) -> None:
        self._make = make
        self._last: dict[Hashable, tuple[tuple[A, ...], tuple[R, ...]]] = {}

    def each(self, owner: str, items: tuple[A, ...], *common: P.args, **named: P.kwargs) -> tuple[R, ...]:
        """Return the results of all items.

        :param owner: whose items they are; it makes no difference to the results
        """
        make = self._make
        if len(items) < LONG:
            return tuple(make(items, *common, **named))
        key = (owner, common, *named.items())
        before, made = self._last.get(key, ((), ()))
        head, tail = common_ends(before, items)
        new = make(items[head : len(items) - tail], *common, **named)
        found = (*made[:head], *new, *made[len(made) - tail :])
        _keep(self._last, key, (items, found))
        return found


def itemwise(make: Callable[Concatenate[Sequence[A], P], Sequence[R]]) -> Itemwise[A, P, R]:
    """Make a function of items an :class:`Itemwise` one."""
    return Itemwise(make)


_sets: dict[Hashable, tuple[tuple[Any, ...], frozenset[Any]]] = {}


def frozen(owner: str, what: str, items: tuple[H, ...]) -> frozenset[H]:
    """Return the set of the items; it is made of the last one, without hashing what both have.

    :param what: name of the set among those of its owner
    """
    if len(items) < LONG:
        return compact(items)
    before, last = _sets.get((owner, what), ((), frozenset()))
    if len(last) == len(before):  # no item was there twice
        head, tail = common_ends(before, items)
        gone, come = before[head : len(before) - tail], items[head : len(items) - tail]
        found = last.difference(gone).union(come) if gone or come else last
    else:
        found = frozenset(items)
    _keep(_sets, (owner, what), (items, found))
    return found


def _keep(memory: dict[Hashable, Any], key: Hashable, value: object) -> None:
    if len(memory) >= OWNERS and key not in memory:
        memory.clear()
    memory[key] = value
