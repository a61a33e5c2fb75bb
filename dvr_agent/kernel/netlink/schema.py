"""Netlink messages as pyroute2 describes them, compiled once into struct calls.

pyroute2's message classes say which fields a message begins with (``fields``) and which attributes follow
(``nla_map``: name, number, type).  Its own ``encode()`` and ``decode()`` interpret that at every message, for 30 times
the price of a struct call (``docs/performance.md``).  :class:`Schema` reads the description once, when a module is
imported, and hands out functions that do one thing each: pack an attribute, read an attribute, pack or read the header.
The bytes are those of ``encode()``, which ``tests/unit/test_netlink_codec.py`` checks.

Input: classes of pyroute2 0.7.2 to 0.9.  Users: the kinds of objects in this package, conntrack, nf_tables.  No
function here knows what a message is for.
"""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pyroute2.netlink import NLA_F_NESTED, NLA_F_NET_BYTEORDER, nla_base, nlmsg_atoms

from dvr_agent.kernel.ip_text import ip_text

Data = bytes | bytearray
"""A message, or the buffer in which it stands."""
Packer = Callable[[Any], bytes]
"""Makes one attribute, padded, of its value."""
Reader = Callable[[Data, int], Any]
"""Reads the value of the attribute whose header begins at an offset."""

ATTRIBUTE = struct.Struct("=" + "".join(layout for _, layout in nla_base.header))
"""struct nlattr: length with this header, type; the payload follows, padded to four bytes."""
NLA_TYPE_MASK = 0xFFFF & ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER)
"""An attribute's type without its flags."""
_SIZE = struct.Struct("=H").unpack_from
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_ORDERS = "=<>!@"


class Row(NamedTuple):
    """One line of a class's ``nla_map``."""

    number: int
    type: str
    nested: bool


class Schema:
    """The header and the attributes of one pyroute2 class: a message, or an attribute that holds others.

    :param cls: subclass of ``nlmsg`` or ``nla``
    :ivar name: of the class, for errors
    :ivar size: bytes of the header before the attributes
    """

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self.name = cls.__name__
        self._fields = tuple(getattr(cls, "cell_header", ()) or ()) + tuple(_header_fields(cls))
        self._rows = _rows(cls)
        self.size = self._layout(None).size

    def number(self, attribute: str, unknown: int = 0) -> int:
        """Return the number of an attribute.

        :param unknown: the number where pyroute2 does not know the attribute yet
        :raises KeyError: it does not, and no number is given
        """
        return unknown if unknown and attribute not in self._rows else self._row(attribute).number

    def packer(self, attribute: str) -> Packer:
        """Return the function that makes an attribute of a plain type: number, text, address, bytes."""
        row = self._row(attribute)
        return _packer(self._plain_type(attribute), row.number)

    def raw(self, attribute: str) -> Packer:
        """Return the function that makes an attribute of bytes, of any type of pyroute2."""
        return _raw(self._row(attribute).number)

    def nest(self, attribute: str, flagged: bool | None = None) -> Packer:
        """Return the function that wraps packed attributes into one that holds them.

        :param flagged: set the flag NLA_F_NESTED; None: where pyroute2 does
        """
        row = self._row(attribute)
        return _raw(row.number | (NLA_F_NESTED if (row.nested if flagged is None else flagged) else 0))

    def reader(self, attribute: str) -> Reader:
        """Return the function that reads an attribute of a plain type."""
        return _reader(self._plain_type(attribute))

    def within(self, attribute: str) -> Schema:
        """Return the schema of the attributes inside an attribute.

        :raises KeyError: its class depends on the rest of the message: take the :class:`Schema` of that class
        """
        cls = self._class(self._row(attribute).type)
        if cls is None:
            raise KeyError(f"{self.name}: the attributes in {attribute} depend on the message")
        return Schema(cls)

    def head(self, *fields: str) -> Callable[..., bytes]:
        """Return the function that packs a header of these fields' values, in the header's order; the others are 0."""
        return self._layout(fields).pack

    def read_head(self, *fields: str) -> Callable[[Data, int], tuple[Any, ...]]:
        """Return the function that reads these fields of the header at an offset, in the header's order."""
        return self._layout(fields).unpack_from

    def offset(self, field: str) -> int:
        """Return the offset of a field in the header, for callers that read it without the others."""
        names = [name for name, _ in self._fields]
        before = self._fields[: names.index(field)]
        return struct.calcsize("=" + "".join(layout.lstrip(_ORDERS) for _, layout in before))

    def _row(self, attribute: str) -> Row:
        try:
            return self._rows[attribute]
        except KeyError:
            raise KeyError(f"pyroute2 knows no attribute {attribute} of {self.name}") from None

    def _class(self, type_name: str) -> type | None:
        found = getattr(self._cls, type_name, None)
        return found if isinstance(found, type) and issubclass(found, nla_base) else None

    def _plain_type(self, attribute: str) -> str:
        """Return the name of an attribute's type; for a class with one integer field, the name of that integer type."""
        type_name = self._row(attribute).type
        if type_name in _TYPES:
            return type_name
        cls = self._class(type_name)
        fields = tuple(getattr(cls, "fields", ()))
        if len(fields) == 1 and fields[0][1] in _INTEGER_TYPES:
            return _INTEGER_TYPES[fields[0][1]]
        raise KeyError(f"{self.name}: {attribute} is of type {type_name}, which is not a plain one")

    def _layout(self, fields: Sequence[str] | None) -> struct.Struct:
        """Make the struct of the header that has the named fields and skips the others; None: it has all of them."""
        known = [name for name, _ in self._fields]
        wanted = known if fields is None else fields
        if list(wanted) != [name for name in known if name in set(wanted)]:
            raise KeyError(f"{self.name} has the fields {', '.join(known)}, in this order; not {', '.join(wanted)}")
        wide = [layout for _, layout in self._fields if struct.calcsize("=" + layout.lstrip(_ORDERS)) > 1]
        order = {layout[0] if layout[0] in _ORDERS else "=" for layout in wide} or {"="}
        if len(order) != 1:
            raise ValueError(f"{self.name} has fields of several byte orders")
        text = order.pop()
        for name, layout in self._fields:
            code = layout.lstrip(_ORDERS)
            text += code if name in wanted else f"{struct.calcsize('=' + code)}x"
        return struct.Struct(text)


def positions(data: Data, start: int, last: int = 0) -> dict[int, int]:
    """Find the attributes of a message: type → offset of the header, for ``data[start:]``.

    :param last: type; attributes behind the first one of it are skipped
    :returns: types without their flags (nested, byte order)

    Two array accesses for each attribute, where ``struct`` would make a tuple: a link has some forty of them, of which
    callers want four.
    """
    found = {}
    halves = memoryview(data).cast("H")
    at, end = start >> 1, len(halves) - 1
    while at < end:
        size = halves[at]
        if size < 4:  # the attribute's own header
            break
        kind = halves[at + 1] & NLA_TYPE_MASK
        found[kind] = at << 1
        if kind == last:
            break
        at += (size + 3) >> 2 << 1
    return found


def attributes(data: Data, start: int, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Yield (type without flags, begin and end of the payload) of each attribute in ``data[start:end]``.

    For types that may occur more than once; :func:`positions` is quicker.
    """
    stop = len(data) if end is None else end
    unpack = ATTRIBUTE.unpack_from
    while start + 4 <= stop:
        size, kind = unpack(data, start)
        if size < 4:
            return
        yield kind & NLA_TYPE_MASK, start + 4, start + size
        start += (size + 3) & ~3


def _header_fields(cls: type) -> tuple[tuple[str, str], ...]:
    return tuple((name, layout) for name, layout, *_ in getattr(cls, "fields", ()))


def _rows(cls: type) -> dict[str, Row]:
    """Read ``nla_map``, whose lines pyroute2 writes in several forms."""
    rows: dict[str, Row] = {}
    lines = getattr(cls, "nla_map", ())
    if not isinstance(lines, tuple | list):  # a property: the attributes depend on the message
        return rows
    for position, line in enumerate(lines):
        number, name, type_name, *more = line if isinstance(line[0], int) else (position, *line)
        type_name, _, flag = type_name.partition("|")
        type_name = type_name.strip().lstrip("*").partition("(")[0]
        found = getattr(cls, type_name, None)
        flags = getattr(found, "nla_flags", 0) | (more[0] if more and isinstance(more[0], int) else 0)
        nested = type_name == "nested" or flag.strip() == "nested" or bool(flags & NLA_F_NESTED)
        rows[name] = Row(number, type_name, nested)
    return rows


# --- packing: functions of one value, made for one attribute number ---------------------------------------------


def attribute(number: int, payload: bytes) -> bytes:
    """Return one attribute, padded, for numbers that are no attribute of pyroute2's classes."""
    return _raw(number)(payload)


def _raw(number: int) -> Packer:
    pack, padding = ATTRIBUTE.pack, _PADDING

    def packed(value: bytes) -> bytes:
        size = len(value)
        return pack(size + 4, number) + value + padding[size & 3]

    return packed


def _integer(code: str, number: int) -> Packer:
    order, letter = code[:-1] or "=", code[-1]
    size = struct.calcsize("=" + letter)
    # The attribute's own header is in the machine's byte order, also where the value is not.
    pack, header = struct.Struct(order + letter).pack, ATTRIBUTE.pack(size + 4, number)
    padding = _PADDING[size & 3]
    if order == "=":
        whole, length = struct.Struct(f"=HH{letter}{len(padding)}x").pack, size + 4
        return lambda value: whole(length, number, value)
    return lambda value: header + pack(value) + padding


def _address(number: int) -> Packer:
    pack4, pack6 = struct.Struct("=HH4s").pack, struct.Struct("=HH16s").pack
    parse, v4, v6 = socket.inet_pton, socket.AF_INET, socket.AF_INET6

    def packed(text: str) -> bytes:
        return pack6(20, number, parse(v6, text)) if ":" in text else pack4(8, number, parse(v4, text))

    return packed


def _text(number: int) -> Packer:
    pack = _raw(number)
    return lambda text: pack(text.encode(errors="surrogateescape") + b"\0")


def _unterminated_text(number: int) -> Packer:
    pack = _raw(number)
    return lambda text: pack(text.encode(errors="surrogateescape"))


def _mac(number: int) -> Packer:
    pack = _raw(number)
    return lambda text: pack(bytes.fromhex(text.replace(":", "")))


def _flag(number: int) -> Packer:
    present = ATTRIBUTE.pack(4, number)
    return lambda value: present if value else b""


# --- reading: functions of a buffer and the offset of an attribute's header ---------------------------------------


def payload(data: Data, at: int) -> Data:
    """Return the payload of the attribute whose header begins at ``at``."""
    return data[at + 4 : at + _SIZE(data, at)[0]]


def _read_integer(code: str) -> Reader:
    unpack = struct.Struct((code[:-1] or "=") + code[-1]).unpack_from
    return lambda data, at: unpack(data, at + 4)[0]


def _read_address(data: Data, at: int) -> str:
    raw = data[at + 4 : at + _SIZE(data, at)[0]]
    return socket.inet_ntop(socket.AF_INET, raw) if len(raw) == 4 else ip_text(raw)


def _read_text(data: Data, at: int) -> str:
    return data[at + 4 : at + _SIZE(data, at)[0]].decode(errors="surrogateescape").rstrip("\0")


def _read_mac(data: Data, at: int) -> str:
    return data[at + 4 : at + _SIZE(data, at)[0]].hex(":")


def _read_flag(data: Data, at: int) -> bool:
    return True


def _integer_types() -> dict[str, str]:
    """Return pyroute2's types that are one integer (``nlmsg_atoms``): name → struct code of the value."""
    found = {}
    for name, cls in vars(nlmsg_atoms).items():
        fields = tuple(getattr(cls, "fields", ()))
        if len(fields) == 1 and fields[0][1][-1] in "BHIQbhiq":
            found[name] = fields[0][1]
    return found


def _integer_type(code: str) -> tuple[Callable[[int], Packer], Reader]:
    return functools.partial(_integer, code), _read_integer(code)


_INTEGERS = _integer_types()
_INTEGER_TYPES = {code: name for name, code in _INTEGERS.items()}
_TYPES: dict[str, tuple[Callable[[int], Packer], Reader]] = {
    **dict.fromkeys(("target", "ipaddr", "ip4addr", "ip6addr"), (_address, _read_address)),
    "asciiz": (_text, _read_text),
    "string": (_unterminated_text, _read_text),
    **dict.fromkeys(("l2addr", "lladdr"), (_mac, _read_mac)),
    **dict.fromkeys(("cdata", "hex"), (_raw, payload)),
    "flag": (_flag, _read_flag),
    **{name: _integer_type(code) for name, code in _INTEGERS.items()},
}
"""Type of pyroute2 → how an attribute of it is packed, for a number, and read."""


def _packer(type_name: str, number: int) -> Packer:
    return _TYPES[type_name][0](number)


def _reader(type_name: str) -> Reader:
    return _TYPES[type_name][1]
