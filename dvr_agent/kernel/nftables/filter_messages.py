"""Messages of nf_tables about the tables ``ip dvr`` and ``ip6 dvr``: chains, rules, sets with elements, helpers.  Pure.

Used by :mod:`.filter_diff` (requests) and :mod:`.filter_reader` (what was read).  Numbers and layouts are those of
``include/uapi/linux/netfilter/nf_tables.h``, and for comments and byte orders those of libnftnl (``udata.h``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pyroute2.netlink import NLA_F_NESTED, NLM_F_APPEND, NLM_F_CREATE
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELOBJ,
    NFT_MSG_DELRULE,
    NFT_MSG_DELSET,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETOBJ,
    NFT_MSG_GETSET,
    NFT_MSG_GETSETELEM,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWOBJ,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
)

from dvr_agent.kernel.iptables.layout import IFNAME_FIELD, PROTOCOLS
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY, Request
from dvr_agent.kernel.netlink.schema import Data, attribute, attributes
from dvr_agent.kernel.nftables.expressions import (
    COUNTER_BYTES,
    COUNTER_PACKETS,
    CT_HELPER,
    counter,
    inner,
    listed,
    nest,
    number,
    text,
)
from dvr_agent.kernel.nftables.message import SUBSYSTEM, dump, family_head
from dvr_agent.kernel.nftables.rule_codec import encode
from dvr_agent.kernel.nftables.rules import PROTOCOLS as TRANSPORTS
from dvr_agent.kernel.nftables.ruleset import PLACES, TABLE, Element, NftRule, NftSet, helper_object
from dvr_agent.state.filter import Family, FilterRule, Transport

NF_ACCEPT = 1
ELEMENTS_A_MESSAGE = 1000
"""A list of elements is one attribute, which holds 64 KiB."""
COMMENT_MAX = 250
"""Bytes of a comment that fit into the kernel's user data beside its header."""
_MAP, _CONCAT, _EXPR = 0x8, 0x80, 0x100
_HOST_ENDIAN, _BIG_ENDIAN = 1, 2


class DataType(NamedTuple):
    """A type of nft's.

    :ivar number: nft's number of the type
    :ivar size: bytes
    :ivar order: byte order in which nft is to list it
    """

    number: int
    size: int
    order: int


TYPES = {
    "ipv4_addr": DataType(7, 4, _BIG_ENDIAN),
    "ipv6_addr": DataType(8, 16, _BIG_ENDIAN),
    "inet_service": DataType(13, 2, _BIG_ENDIAN),
    "ifname": DataType(41, IFNAME_FIELD, _HOST_ENDIAN),
}
_TYPE_BITS = 6
"""nft numbers a concatenation by the numbers of its parts, six bits each."""


def type_number(types: Iterable[str]) -> int:
    """Return nft's number of a type or of a concatenation."""
    found = 0
    for name in types:
        found = found << _TYPE_BITS | TYPES[name].number
    return found


def types_of(found: int) -> tuple[str, ...]:
    """Return the names of the types in a number; empty for one that no set of ours has."""
    names = {one.number: name for name, one in TYPES.items()}
    parts: list[str] = []
    while found:
        name = names.get(found & ((1 << _TYPE_BITS) - 1))
        if name is None:
            return ()
        parts.insert(0, name)
        found >>= _TYPE_BITS
    return tuple(parts)


def _size(types: Iterable[str]) -> int:
    """Return the bytes of a key or value; parts of a concatenation fill registers of four bytes."""
    sizes = [TYPES[name].size for name in types]
    return sizes[0] if len(sizes) == 1 else sum((size + 3) & ~3 for size in sizes)


def _comment(kind: int, comment: str) -> list[bytes]:
    """Make the user data with a comment, as nft reads it: type, length, text."""
    if not comment:
        return []
    value = comment.encode(errors="replace")[:COMMENT_MAX] + b"\0"
    return [attribute(kind, bytes([0, len(value)]) + value)]


class RuleText(NamedTuple):
    """Names a rule in errors."""

    table: str
    chain: str
    rule: FilterRule

    @property
    def text(self) -> str:
        """Table, chain and rule."""
        return f"nft table {self.table}: chain {self.chain}: {self.rule.text}"


class FilterMessages:
    """Requests about our table of one family."""

    def __init__(self, family: Family) -> None:
        self.family: Family = family
        self._af = AF_OF_FAMILY[family]
        self._head = family_head(self._af) + text(1, TABLE)
        self.table = f"{'ip' if family == 4 else 'ip6'} {TABLE}"

    def new_table(self) -> Request:
        """Make the table; it may be there."""
        return self._request(NFT_MSG_NEWTABLE, "", flags=NLM_F_CREATE)

    def delete_table(self) -> Request:
        """Delete the table with all that is in it."""
        return self._request(NFT_MSG_DELTABLE, "")

    @lru_cache(maxsize=1 << 8)  # noqa: B019 (there are two of these objects, for good)
    def new_chain(self, name: str) -> Request:
        """Make a base chain at its place."""
        place = PLACES[name]
        hook = nest(4, number(1, place.hook), attribute(2, place.priority.to_bytes(4, "big", signed=True)))
        parts = (text(3, name), hook, number(5, NF_ACCEPT), text(7, place.type))
        return self._request(NFT_MSG_NEWCHAIN, f"chain {name}", *parts, flags=NLM_F_CREATE)

    def delete_chain(self, name: str) -> Request:
        """Delete a chain with its rules."""
        return self._request(NFT_MSG_DELCHAIN, f"chain {name}", text(3, name))

    def flush_chain(self, name: str) -> Request:
        """Delete the rules of a chain."""
        return self._request(NFT_MSG_DELRULE, f"rules of chain {name}", text(2, name))

    def new_rule(self, chain: str, one: NftRule) -> Request:
        """Add a rule at the end of a chain.

        :raises ValueError: it cannot be expressed
        """
        parts = (text(2, chain), _listed(self.family, one), *_comment(7, one.rule.note))
        flags = NLM_F_CREATE | NLM_F_APPEND
        return self._request(NFT_MSG_NEWRULE, RuleText(self.table, chain, one.rule), *parts, flags=flags)

    def new_set(self, one: NftSet) -> Request:
        """Make a set without elements."""
        form = _form(one.name, one.keys, one.values, one.counted)
        return self._request(NFT_MSG_NEWSET, f"set {one.name}", form, flags=NLM_F_CREATE)

    def delete_set(self, name: str) -> Request:
        """Delete a set that no rule uses any more."""
        return self._request(NFT_MSG_DELSET, f"set {name}", text(2, name))

    def new_elements(self, one: NftSet, elements: Mapping[bytes, Element]) -> Iterator[Request]:
        """Add elements to a set."""
        for part in _parts(elements):
            packed = _elements(one, [(key, elements[key]) for key in part])
            what = f"{len(part)} in set {one.name}"
            yield self._request(NFT_MSG_NEWSETELEM, what, text(2, one.name), nest(3, *packed), flags=NLM_F_CREATE)

    def delete_elements(self, one: NftSet, keys: Iterable[bytes]) -> Iterator[Request]:
        """Delete elements of a set."""
        for part in _parts(keys):
            packed = [nest(1, nest(1, attribute(1, key))) for key in part]
            yield self._request(
                NFT_MSG_DELSETELEM, f"{len(part)} in set {one.name}", text(2, one.name), nest(3, *packed)
            )

    def new_helper(self, name: str, protocol: Transport) -> Request:
        """Make the object of a connection tracking helper."""
        data = nest(
            4, text(1, name), attribute(2, self._af.to_bytes(2, "big")), attribute(3, bytes([PROTOCOLS[protocol]]))
        )
        parts = (text(2, helper_object(name, protocol)), number(3, CT_HELPER), data)
        return self._request(NFT_MSG_NEWOBJ, f"ct helper {name}", *parts, flags=NLM_F_CREATE)

    def delete_helper(self, name: str, protocol: Transport) -> Request:
        """Delete the object of a helper that no rule uses any more."""
        parts = (text(2, helper_object(name, protocol)), number(3, CT_HELPER))
        return self._request(NFT_MSG_DELOBJ, f"ct helper {name}", *parts)

    def dump_sets(self) -> Request:
        """Ask for the sets of the table."""
        return self._dump(NFT_MSG_GETSET, "sets")

    def dump_elements(self, name: str) -> Request:
        """Ask for the elements of a set."""
        return self._dump(NFT_MSG_GETSETELEM, f"elements of set {name}", text(2, name))

    def dump_helpers(self) -> Request:
        """Ask for the objects of connection tracking helpers."""
        return self._dump(NFT_MSG_GETOBJ, "helpers", number(3, CT_HELPER))

    def _request(self, kind: int, what: str | RuleText, *parts: bytes, flags: int = 0) -> Request:
        named = f"nft table {self.table}" + (f": {what}" if what else "") if isinstance(what, str) else what
        return Request(SUBSYSTEM | kind, flags, self._head + b"".join(parts), named)

    def _dump(self, kind: int, what: str, more: bytes = b"") -> Request:
        return dump(SUBSYSTEM | kind, f"nft table {self.table}: {what}", self._af, text(1, TABLE) + more)


@lru_cache(maxsize=1 << 12)
def _listed(family: Family, one: NftRule) -> bytes:
    """Return the list of a rule's expressions; equal rules of other namespaces are encoded once."""
    return nest(4, *map(listed, encode(family, one)))


def _description(keys: tuple[str, ...]) -> list[bytes]:
    """Describe the parts of a concatenation."""
    if len(keys) == 1:
        return []
    return [nest(9, nest(2, *(nest(1, number(1, TYPES[name].size)) for name in keys)))]


@lru_cache(maxsize=1 << 8)
def _form(name: str, keys: tuple[str, ...], values: tuple[str, ...], counted: bool) -> bytes:
    """Return the attributes of a set."""
    flags = (_MAP if values else 0) | (_CONCAT if len(keys) > 1 else 0) | (_EXPR if counted else 0)
    parts = [text(2, name), number(3, flags), number(4, type_number(keys)), number(5, _size(keys))]
    if values:
        parts += [number(6, type_number(values)), number(7, _size(values))]
    parts += [*_description(keys), number(10, 1), attribute(13, _orders(keys, values))]
    if counted:
        parts.append(nest(17, counter()))
    return b"".join(parts)


def _orders(keys: tuple[str, ...], values: tuple[str, ...]) -> bytes:
    """Return the user data by which nft lists keys and values in the right byte order; nft writes these numbers so."""
    found = [(0, TYPES[keys[0]].order if len(keys) == 1 else _BIG_ENDIAN)]
    if values:
        found.append((1, TYPES[values[0]].order if len(values) == 1 else _BIG_ENDIAN))
    return b"".join(bytes([kind, 4]) + struct.pack("=I", order) for kind, order in found)


def _parts(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    found = list(keys)
    for start in range(0, len(found), ELEMENTS_A_MESSAGE):
        yield found[start : start + ELEMENTS_A_MESSAGE]


def _elements(one: NftSet, elements: Sequence[tuple[bytes, Element]]) -> list[bytes]:
    if (one.keys, one.values) != (_ADDRESS, _ADDRESS):
        return [_element(one, key, element) for key, element in elements]
    pack, before, between = _ADDRESS_PAIR.pack, _PAIR_HEAD, _PAIR_VALUE
    return [  # nearly all of them
        pack(*before, key, *between, value) if not comment else _element(one, key, Element(value, comment))
        for key, (value, comment) in elements
    ]


def _element(one: NftSet, key: bytes, element: Element) -> bytes:
    parts = [nest(1, attribute(1, key))]
    if one.values:
        parts.append(nest(2, attribute(1, element.value)))
    return nest(1, *parts, *_comment(6, element.comment))


_ADDRESS = ("ipv4_addr",)
_ADDRESS_PAIR = struct.Struct("=HH HH HH 4s HH HH 4s")
_PAIR_HEAD = (28, 1 | NLA_F_NESTED, 12, 1 | NLA_F_NESTED, 8, 1)
_PAIR_VALUE = (12, 2 | NLA_F_NESTED, 8, 1)


# --- reading ---


def decode_set(data: Data, start: int) -> NftSet:
    """Decode a set, without its elements; types that no set of ours has are left out.

    :param start: where the attributes begin
    """
    found = {kind: bytes(data[begin:end]) for kind, begin, end in attributes(data, start)}
    flags = int.from_bytes(found.get(3, b""), "big")
    values = types_of(int.from_bytes(found.get(6, b""), "big")) if flags & _MAP else ()
    keys = types_of(int.from_bytes(found.get(4, b""), "big"))
    is_ours = flags & ~(_MAP | _CONCAT | _EXPR) == 0
    return NftSet(
        found.get(2, b"").rstrip(b"\0").decode(errors="surrogateescape"),
        keys if is_ours else (),
        values,
        bool(flags & _EXPR),
    )


class Counters(NamedTuple):
    """What an element has counted."""

    packets: int
    bytes: int


def decode_elements(data: Data, start: int) -> Iterator[tuple[bytes, Element, Counters | None]]:
    """Yield key, value and comment, and counters of each element in a message."""
    for kind, begin, end in attributes(data, start):
        if kind != 3:
            continue
        for _, first, last in attributes(data, begin, end):
            parts = {one: data[at:until] for one, at, until in attributes(data, first, last)}
            key = inner(parts.get(1, b""), 1)
            value = inner(parts.get(2, b""), 1)
            yield key, Element(value, comment_of(bytes(parts.get(6, b"")))), _counters(bytes(parts.get(7, b"")))


def comment_of(user_data: bytes) -> str:
    """Return the comment in user data of a rule or an element; empty without one."""
    if len(user_data) < 2 or user_data[0] != 0:
        return ""
    return user_data[2 : 2 + user_data[1]].rstrip(b"\0").decode(errors="surrogateescape")


def _counters(expression: bytes) -> Counters | None:
    if not expression:
        return None
    data = inner(expression, 2)
    return Counters(*(int.from_bytes(inner(data, one), "big") for one in (COUNTER_PACKETS, COUNTER_BYTES)))


def decode_helper(data: Data, start: int) -> tuple[str, Transport] | None:
    """Return name and protocol of a connection tracking helper's object; None: it is not one of ours."""
    found = {kind: bytes(data[begin:end]) for kind, begin, end in attributes(data, start)}
    of_helper = found.get(4, b"")
    name = inner(of_helper, 1).rstrip(b"\0").decode(errors="surrogateescape")
    protocol = TRANSPORTS.get(int.from_bytes(inner(of_helper, 3), "big"))
    own_name = found.get(2, b"").rstrip(b"\0").decode(errors="surrogateescape")
    return (name, protocol) if protocol is not None and own_name == helper_object(name, protocol) else None
