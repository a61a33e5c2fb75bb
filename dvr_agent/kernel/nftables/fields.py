"""Read attributes by pyroute2's names: :class:`Fields`.  Used by :mod:`.message` and :mod:`.rules`.

Slower than the readers that ``kernel/netlink`` makes per attribute, and shorter to write: rules have many kinds of
expression, and are read at takeover only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dvr_agent.kernel.netlink.schema import Data, Schema, payload, positions

T = TypeVar("T")


def code_of(cls: Any, name: str) -> int:
    """Return the number of a value that a class of pyroute2 names (``ops``)."""
    return int(next(code for code, found in cls.ops.items() if found == name))


class NamedAttributes:
    """The attributes of a class of pyroute2, each found in its schema at its first use.

    :param schema: of the class
    :ivar start: offset of the first attribute
    :ivar numbers: name → number
    :ivar readers: name → function that reads the value
    :ivar within: name → the attributes in it
    """

    def __init__(self, schema: Schema) -> None:
        self.start = schema.size
        self.numbers = _Found(schema.number)
        self.readers = _Found(schema.reader)
        self.within = _Found(lambda name: NamedAttributes(schema.within(name)))


class _Found(dict[str, T]):
    """Cache of a function's results by name."""

    def __init__(self, find: Callable[[str], T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, name: str) -> T:
        found = self[name] = self._find(name)
        return found


class Fields:
    """The attributes in one message, or in one attribute.

    :param named: of their class
    """

    __slots__ = ("_data", "_named", "_positions")

    def __init__(self, named: NamedAttributes, data: Data) -> None:
        self._named, self._data = named, data
        self._positions = positions(data, named.start)

    def has(self, name: str) -> bool:
        """True if there is such an attribute."""
        return self._named.numbers[name] in self._positions

    def raw(self, name: str) -> Data:
        """Return the payload of an attribute; empty without it."""
        at = self._positions.get(self._named.numbers[name])
        return b"" if at is None else payload(self._data, at)

    def integer(self, name: str, default: int = 0) -> int:
        """Return the value of an attribute; ``default`` without it."""
        at = self._positions.get(self._named.numbers[name])
        return default if at is None else int(self._named.readers[name](self._data, at))

    def text(self, name: str) -> str:
        """Return the text of an attribute; empty without it.  Any byte in it survives (``surrogateescape``)."""
        at = self._positions.get(self._named.numbers[name])
        return "" if at is None else str(self._named.readers[name](self._data, at))

    def within(self, name: str) -> Fields:
        """Return the attributes in an attribute; none without it."""
        return Fields(self._named.within[name], self.raw(name))
