"""Finds where two long sequences differ, at the cost of comparing pointers where they share items.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PORTION = 64
"""Slices are compared at once, by code of Python's own, which does not look into an item that both have."""


def common_ends(old: Sequence[Any], new: Sequence[Any]) -> tuple[int, int]:
    """Return how many items are equal from the begin on, and of the others how many from the end on."""
    limit = min(len(old), len(new))
    head = 0
    while head < limit and old[head : head + _PORTION] == new[head : head + _PORTION]:
        head += _PORTION
    head = _one_by_one(old, new, head, limit, 0, 1)
    limit -= head
    tail, end, new_end = 0, len(old), len(new)
    while tail + _PORTION <= limit and _before(old, end - tail) == _before(new, new_end - tail):
        tail += _PORTION
    return head, _one_by_one(old, new, tail, limit, -1, -1)


def _before(items: Sequence[Any], end: int) -> Sequence[Any]:
    return items[end - _PORTION : end]


def _one_by_one(old: Sequence[Any], new: Sequence[Any], number: int, limit: int, first: int, step: int) -> int:
    """Return the number of equal items, of which this number is known."""
    while number < limit:
        one, other = old[first + step * number], new[first + step * number]
        if one is not other and one != other:
            return number
        number += 1
    return limit


def middles(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return both without the items that they share at their ends."""
    if old is new:
        return (), ()
    head, tail = common_ends(old, new)
    return old[head : len(old) - tail], new[head : len(new) - tail]
