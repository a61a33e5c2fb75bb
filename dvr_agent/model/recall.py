"""Remembers what was read of the items of long lists: a document that comes again differs from the last in few of them.

An item is recognised by the bytes of the values that count, so never taken for one with other values, or with equal
values of other types (``1`` and ``true``).  Only what was read without an error or an omission is remembered: texts of
those say where in the document they are.
"""

from __future__ import annotations

import marshal
from collections.abc import Hashable
from itertools import repeat
from typing import Any, Generic, NamedTuple, TypeVar

LONG = 64
"""Items of the shortest list that is remembered."""

ITEMS = 65536
"""Items that are remembered of all lists together."""

V = TypeVar("V")


class Remembered(NamedTuple, Generic[V]):
    """A list as it was read last.

    :ivar around: what else the values depend on
    :ivar values: by the bytes of an item
    :ivar result: what was made of all values
    """

    around: Any
    values: dict[bytes, V]
    result: tuple[tuple[V, ...], tuple[V, ...]] = ((), ())


class LongLists(Generic[V]):
    """The last list of each name.

    :param keys: of the values that count in an item
    """

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self._lists: dict[Hashable, Remembered[V]] = {}

    def words(self, item: object) -> bytes | None:
        """Return the bytes of an item; None: it is no object."""
        if not isinstance(item, dict):
            return None
        # Of later versions equal values may have different bytes; Ellipsis stands for what is missing, unlike null.
        return marshal.dumps([*map(item.get, self._keys, repeat(...))], 2)

    def get(self, name: Hashable) -> Remembered[V] | None:
        """Return what was read of the last list of a name."""
        return self._lists.get(name)

    def keep(self, name: Hashable, remembered: Remembered[V]) -> None:
        """Remember a list instead of the last one of its name."""
        if len(remembered.values) < LONG:
            self._lists.pop(name, None)
            return
        self._lists[name] = remembered
        if sum(len(one.values) for one in list(self._lists.values())) > ITEMS:
            self._lists.clear()
