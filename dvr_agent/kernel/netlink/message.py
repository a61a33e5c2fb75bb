"""What all kinds of route netlink messages share: requests, attributes, addresses as bytes and as text.

Numbers are those of ``include/uapi/linux/netlink.h`` and ``rtnetlink.h``; the layout is netlink(7)'s.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300

CREATE = NLM_F_CREATE | NLM_F_EXCL
"""Make it; EEXIST if it is there."""
REPLACE = NLM_F_CREATE | NLM_F_REPLACE
"""Make it, in place of one that is there."""

Data = bytes | bytearray
"""Body of a message: what follows the netlink header."""

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_U32 = struct.Struct("=HHI")
_ATTR = struct.Struct("=HH")
_WORD = struct.Struct("=I").unpack_from
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
NLA_TYPE_MASK = 0x3FFF
"""Upper two bits of an attribute's type are flags (nested, byte order)."""

AF_UNSPEC = socket.AF_UNSPEC
AF_INET = int(socket.AF_INET)
AF_INET6 = int(socket.AF_INET6)
AF_OF_FAMILY = {4: AF_INET, 6: AF_INET6}
FAMILY_OF_AF = {AF_INET: 4, AF_INET6: 6}


class Named(Protocol):
    """Anything that has a text for people, for example an item of :mod:`dvr_agent.state`."""

    @property
    def text(self) -> str: ...


class Request(NamedTuple):
    """One netlink message that asks for something.

    :ivar kind: message type, ``RTM_…``
    :ivar flags: without NLM_F_REQUEST and NLM_F_ACK, which the socket adds
    :ivar body: family header and attributes
    :ivar what: the object, for errors; its text is made only if there is one
    :ivar tolerate: errno values that mean "that is fine"
    """

    kind: int
    flags: int
    body: bytes
    what: Named | str
    tolerate: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        return self.what if isinstance(self.what, str) else self.what.text


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = len(payload)
    return _ATTR.pack(size + 4, kind) + payload + _PADDING[size & 3]


def attr_u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value)


def attr_text(kind: int, text: str) -> bytes:
    """Text with its closing NUL."""
    return attr(kind, text.encode() + b"\0")


def attributes(data: Data, start: int, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """(type without flags, begin and end of the payload) of each attribute in ``data[start:end]``."""
    stop = len(data) if end is None else end
    unpack = _ATTR.unpack_from
    while start + 4 <= stop:
        size, kind = unpack(data, start)
        if size < 4:
            return
        yield kind & NLA_TYPE_MASK, start + 4, start + size
        start += (size + 3) & ~3


def positions(data: Data, start: int, last: int = 0) -> dict[int, int]:
    """Attribute type → where its header begins, of the attributes in ``data[start:]``.

    :param last: those behind the first one of this type are not looked at

    Two array look-ups for each, where ``struct`` would make a tuple: a link has some forty, of which we want four.
    """
    found = {}
    halves = memoryview(data).cast("H")
    at, end = start >> 1, len(halves) - 1
    while at < end:
        size = halves[at]
        if size < 4:
            break
        kind = halves[at + 1] & NLA_TYPE_MASK
        found[kind] = at << 1
        if kind == last:
            break
        at += (size + 3) >> 2 << 1
    return found


def u32(data: Data, at: int) -> int:
    value: int = _WORD(data, at)[0]
    return value


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw: Data) -> str:
    return raw.hex(":")


def ip_bytes(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def ip_text(raw: Data) -> str:
    """Canonical text as :mod:`ipaddress` writes it (inet_ntop writes embedded IPv4 addresses its own way)."""
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    text = socket.inet_ntop(socket.AF_INET6, raw)
    return text if "." not in text else str(ipaddress.IPv6Address(bytes(raw)))


def split_cidr(cidr: str) -> tuple[int, bytes, int]:
    """(address family, address, prefix length) of ``address/length``."""
    address, _, length = cidr.partition("/")
    if ":" in address:
        return AF_INET6, socket.inet_pton(socket.AF_INET6, address), int(length)
    return AF_INET, socket.inet_pton(socket.AF_INET, address), int(length)
