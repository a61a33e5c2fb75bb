"""Read attributes by pyroute2's names, where speed matters less than that everything is named.

Used by :mod:`.message` and :mod:`.rules`.
"""

from __future__ import annotations

import functools
from typing import Any

from dvr_agent.kernel.netlink.schema import Data, Reader, Schema, payload, positions


def code_of(cls: Any, name: str) -> int:
    """The number of a named value, of a class of pyroute2 that names values (``ops``)."""
    return int(next(code for code, found in cls.ops.items() if found == name))


class Fields:
    """The attributes in a message, or in an attribute, by pyroute2's names.

    :param schema: of their class
    :param start: offset of the first one
    """

    __slots__ = ("_data", "_positions", "_schema")

    def __init__(self, schema: Schema, data: Data, start: int = 0) -> None:
        self._schema, self._data = schema, data
        self._positions = positions(data, start)

    def has(self, name: str) -> bool:
        """True if there is such an attribute."""
        return _number(self._schema, name) in self._positions

    def raw(self, name: str) -> Data:
        """The payload of an attribute; empty without it."""
        at = self._positions.get(_number(self._schema, name))
        return b"" if at is None else payload(self._data, at)

    def integer(self, name: str, default: int = 0) -> int:
        """The value of an attribute; ``default`` without it."""
        at = self._positions.get(_number(self._schema, name))
        return default if at is None else int(_reader(self._schema, name)(self._data, at))

    def text(self, name: str) -> str:
        """The value of an attribute; empty without it.  Names may hold any byte: they are written as they were read."""
        at = self._positions.get(_number(self._schema, name))
        return "" if at is None else str(_reader(self._schema, name)(self._data, at))

    def within(self, name: str) -> Fields:
        """The attributes in an attribute; none without it."""
        return Fields(_within(self._schema, name), self.raw(name))


@functools.cache
def _number(schema: Schema, name: str) -> int:
    return schema.number(name)


@functools.cache
def _reader(schema: Schema, name: str) -> Reader:
    return schema.reader(name)


@functools.cache
def _within(schema: Schema, name: str) -> Schema:
    return schema.within(name)
