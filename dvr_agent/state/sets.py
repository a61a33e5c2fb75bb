"""Makes frozen sets that take as little memory as they can: a router has some thirty, of which most have few items.

Python makes room in a set that grows item by item, and a new object for each empty one (216 bytes).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

H = TypeVar("H", bound=Hashable)

_EMPTY: frozenset[Any] = frozenset()


def compact(items: Iterable[H]) -> frozenset[H]:
    """Return the set of the items: 472 instead of 728 bytes for five to seven, and one object for all empty sets."""
    # A set that is made of a dictionary knows the number of its items beforehand.
    return frozenset(dict.fromkeys(items)) or _EMPTY
