"""Expressions of nf_tables rules: make them as bytes, and bring those that were read into a comparable form.  Pure.

Numbers and layouts are those of ``include/uapi/linux/netfilter/nf_tables.h`` and ``nf_nat.h``.  Used by
:mod:`.rule_codec`, which knows what a rule needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from pyroute2.netlink import NLA_F_NESTED

from dvr_agent.kernel.netlink.schema import Data, attribute, attributes

REG_VERDICT, REG_1, REG_2, REG_3 = 0, 1, 2, 3
REG32 = 8
"""NFT_REG32_00: the first of the four-byte registers of which :data:`REG_1` has four."""
META_MARK, META_IIFNAME, META_OIFNAME, META_L4PROTO = 3, 6, 7, 16
CT_STATE, CT_STATUS, CT_MARK = 0, 2, 3
NETWORK, TRANSPORT = 1, 2
"""Headers of a packet."""
EQ, NEQ, LTE, GTE = 0, 1, 3, 5
SNAT, DNAT = 0, 1
RANDOM_FULLY = 16
"""NF_NAT_RANGE_PROTO_RANDOM_FULLY."""
DROP, ACCEPT, RETURN = 0, 1, 0xFFFFFFFB
CT_HELPER = 3
"""NFT_OBJECT_CT_HELPER."""
COUNTER_BYTES, COUNTER_PACKETS = 1, 2


class Expression(NamedTuple):
    """An expression in comparable form.

    :ivar name: e.g. ``cmp``
    :ivar values: number → payload of each attribute that the kernel does not derive from others; zeros are left out
    """

    name: str
    values: frozenset[tuple[int, bytes]]

    def number(self, attribute: int) -> int:
        """Return the value of an attribute that is a number; 0 without it."""
        return int.from_bytes(self.raw(attribute), "big")

    def raw(self, attribute: int) -> bytes:
        """Return the payload of an attribute; empty without it."""
        return next((value for kind, value in self.values if kind == attribute), b"")

    def data(self, attribute: int) -> bytes:
        """Return the value (NFTA_DATA_VALUE) in an attribute; empty without it."""
        return inner(self.raw(attribute), 1)

    def text(self, attribute: int) -> str:
        """Return the text of an attribute; empty without it."""
        return self.raw(attribute).rstrip(b"\0").decode(errors="surrogateescape")


_DERIVED = {
    "nat": {4, 6},  # the upper ends of ranges, equal to the lower ones
    "redir": {2, 3},
    "lookup": {4},  # the number that a set has in its transaction
    "bitwise": {3},
    "payload": {5, 6, 7, 8},
}
"""Attributes that are sent or listed depending on the kernel, and say nothing more."""


_kept = lru_cache(maxsize=1 << 12)
"""Decorator of functions that make expressions: rules of all namespaces are made of the same few."""


def number(kind: int, value: int) -> bytes:
    """Make an attribute of a number of four bytes."""
    return attribute(kind, value.to_bytes(4, "big"))


def text(kind: int, value: str) -> bytes:
    """Make an attribute of a text."""
    return attribute(kind, value.encode(errors="surrogateescape") + b"\0")


def nest(kind: int, *parts: bytes) -> bytes:
    """Make an attribute that holds others."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def expression(name: str, *parts: bytes) -> bytes:
    """Make an expression of its attributes."""
    return text(1, name) + (nest(2, *parts) if parts else b"")


@_kept
def listed(one: bytes) -> bytes:
    """Make the element of a rule's list that holds an expression."""
    return nest(1, one)


def _data(kind: int, value: bytes) -> bytes:
    return nest(kind, attribute(1, value))


@_kept
def meta(key: int, register: int = REG_1) -> bytes:
    """Load something about the packet."""
    return expression("meta", number(2, key), number(1, register))


@_kept
def set_meta(key: int) -> bytes:
    """Store register 1, e.g. as the packet's mark."""
    return expression("meta", number(2, key), number(3, REG_1))


@_kept
def ct(key: int) -> bytes:
    """Load something about the packet's connection."""
    return expression("ct", number(1, REG_1), number(2, key))


@_kept
def set_ct(key: int) -> bytes:
    """Store register 1 in the packet's connection."""
    return expression("ct", number(2, key), number(4, REG_1))


@_kept
def payload(base: int, offset: int, size: int, register: int = REG_1) -> bytes:
    """Load bytes of the packet."""
    return expression("payload", number(1, register), number(2, base), number(3, offset), number(4, size))


@_kept
def compare(value: bytes, operator: int = EQ) -> bytes:
    """Go on with the rule if register 1 has this value, or has not."""
    return expression("cmp", number(1, REG_1), number(2, operator), _data(3, value))


@_kept
def bitwise(mask: bytes, xor: bytes) -> bytes:
    """Change register 1 to ``(value & mask) ^ xor``."""
    return expression(
        "bitwise", number(1, REG_1), number(2, REG_1), number(3, len(mask)), _data(4, mask), _data(5, xor)
    )


@_kept
def immediate(value: bytes, register: int = REG_1) -> bytes:
    """Load a constant."""
    return expression("immediate", number(1, register), _data(2, value))


@_kept
def verdict(code: int) -> bytes:
    """End the chain."""
    return expression("immediate", number(1, REG_VERDICT), nest(2, attribute(2, number(1, code))))


@_kept
def lookup(name: str, is_map: bool) -> bytes:
    """Go on with the rule if a set has register 1; a map's value is in register 1 then."""
    return expression("lookup", text(1, name), number(2, REG_1), *([number(3, REG_1)] if is_map else []))


@_kept
def nat(kind: int, family: int, flags: int = 0, first_port: int = 0, last_port: int = 0) -> bytes:
    """Translate an address to register 1, and a port to those in other registers."""
    ports = [number(5, first_port)] if first_port else []
    ports += [number(6, last_port)] if last_port else []
    return expression("nat", number(1, kind), number(2, family), number(3, REG_1), *ports, *_flags(7, flags))


@_kept
def redirect() -> bytes:
    """Translate the destination to this host and the port in register 1."""
    return expression("redir", number(1, REG_1))


@_kept
def object_of(kind: int, name: str) -> bytes:
    """Use a named object."""
    return expression("objref", number(1, kind), text(2, name))


def counter() -> bytes:
    """Count packets."""
    return expression("counter", attribute(COUNTER_BYTES, bytes(8)), attribute(COUNTER_PACKETS, bytes(8)))


def _flags(kind: int, flags: int) -> list[bytes]:
    return [number(kind, flags)] if flags else []


@lru_cache(maxsize=1 << 14)
def comparable(expressions: bytes) -> tuple[Expression, ...]:
    """Return the expressions in the payload of a rule's list of expressions, comparable."""
    return tuple(_comparable(expressions[begin:end]) for _, begin, end in attributes(expressions, 0))


@lru_cache(maxsize=1 << 12)
def _comparable(data: bytes) -> Expression:
    """Return an expression; most are the same in the rules of all namespaces."""
    name, inner = "", b""
    for kind, begin, end in attributes(data, 0):
        if kind == 1:
            name = data[begin:end].rstrip(b"\0").decode(errors="surrogateescape")
        else:
            inner = data[begin:end]
    return Expression(name, frozenset(_values(name, inner)))


def _values(name: str, inner: bytes) -> Iterator[tuple[int, bytes]]:
    for kind, begin, end in attributes(inner, 0):
        value = inner[begin:end]
        if name == "nat" and kind == 7:
            value = (int.from_bytes(value, "big") & RANDOM_FULLY).to_bytes(4, "big")
        elif name == "nat" and kind == 6 and value != _port_register(inner):
            yield kind, value
        if kind not in _DERIVED.get(name, ()) and any(value):
            yield kind, value


def _port_register(inner: bytes) -> bytes:
    """Return the register of a translation's first port."""
    return next((inner[begin:end] for kind, begin, end in attributes(inner, 0) if kind == 5), b"")


def inner(data: Data, number: int) -> bytes:
    """Return the payload of an attribute in another one; empty without it."""
    return next((bytes(data[begin:end]) for kind, begin, end in attributes(data, 0) if kind == number), b"")
