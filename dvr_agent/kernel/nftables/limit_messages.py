"""Messages of nf_tables for bandwidth limits: chains, rules, named limits and the maps that lead to them, as bytes.

Numbers and layouts are those of ``include/uapi/linux/netfilter/nf_tables.h``; pyroute2 has no messages for objects.
Used by :mod:`.limits`, which knows what the table looks like as a whole.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyroute2.netlink import NLA_F_NESTED, NLM_F_CREATE
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELOBJ,
    NFT_MSG_DELSET,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETOBJ,
    NFT_MSG_GETSETELEM,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWOBJ,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
)

from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data, attribute, attributes
from dvr_agent.kernel.nftables.message import GET_CHAIN, SUBSYSTEM, dump, family_head
from dvr_agent.state.limit import Direction, Limit

NETDEV = 5
"""NFPROTO_NETDEV (include/uapi/linux/netfilter.h)."""
TABLE = "dvr_qos"
HOOKS: dict[Direction, int] = {"entering": 0, "leaving": 1}
"""NF_NETDEV_INGRESS and NF_NETDEV_EGRESS (Linux 5.16)."""
_DIRECTIONS: dict[int, Direction] = {number: direction for direction, number in HOOKS.items()}
_ADDRESS_AT: dict[Direction, int] = {"leaving": 12, "entering": 16}
"""Offset of source and destination address in an IPv4 header."""

_LIMIT = 4
"""NFT_OBJECT_LIMIT."""
_OBJECT_MAP = 0x40
"""NFT_SET_OBJECT."""
_BYTES, _OVER = 1, 1
"""NFT_LIMIT_PKT_BYTES; NFT_LIMIT_F_INV: the limit matches what is above it."""
_IPV4_ADDRESS = 7
"""The type of keys, as nft numbers types: for its listing."""
_ETHERTYPE_IP = struct.pack(">H", 0x0800)


class Place(NamedTuple):
    """The chain at one hook of one device; its map has the same name."""

    direction: Direction
    device: str

    @property
    def name(self) -> str:
        """Name of chain and map: identifiers of nft have no hyphens."""
        return f"{self.direction}_{self.device.replace('-', '_')}"


class NamedLimit(NamedTuple):
    """A limit object: its name, rate and burst in bytes; rate 0: it limits otherwise than ours do."""

    name: str
    rate: int
    burst: int


def _u32(number: int, value: int) -> bytes:
    return attribute(number, value.to_bytes(4, "big"))


def _u64(number: int, value: int) -> bytes:
    return attribute(number, value.to_bytes(8, "big"))


def _text(number: int, value: str) -> bytes:
    return attribute(number, value.encode(errors="surrogateescape") + b"\0")


def _nest(number: int, *parts: bytes) -> bytes:
    return attribute(number | NLA_F_NESTED, b"".join(parts))


_HEAD = family_head(NETDEV) + _text(1, TABLE)
"""Every message names the table first."""


def _request(kind: int, what: str, *parts: bytes, flags: int = 0) -> Request:
    return Request(SUBSYSTEM | kind, flags, _HEAD + b"".join(parts), f"nft table netdev {TABLE}: {what}")


# --- changes ---


def new_table() -> Request:
    """Make the table; it may be there."""
    return _request(NFT_MSG_NEWTABLE, "the table", flags=NLM_F_CREATE)


def new_chain(place: Place) -> list[Request]:
    """Make the chain of a place with its map and its rule."""
    what, name = f"chain {place.name}", place.name
    hook = _nest(4, _u32(1, HOOKS[place.direction]), _u32(2, 0), _text(3, place.device))
    base = (_text(3, name), hook, _u32(5, 1), _text(7, "filter"))
    keys = (_text(2, name), _u32(3, _OBJECT_MAP), _u32(4, _IPV4_ADDRESS), _u32(5, 4), _u32(10, 1), _u32(15, _LIMIT))
    rule = _nest(4, *(_nest(1, one) for one in expressions(place)))
    return [
        _request(NFT_MSG_NEWSET, f"map {name}", *keys, flags=NLM_F_CREATE),
        _request(NFT_MSG_NEWCHAIN, what, *base, flags=NLM_F_CREATE),
        _request(NFT_MSG_NEWRULE, f"rule of {what}", _text(2, name), rule, flags=NLM_F_CREATE),
    ]


def delete_table() -> Request:
    """Delete the table with all that is in it."""
    return _request(NFT_MSG_DELTABLE, "the table")


def delete_chain(place: Place) -> Request:
    """Delete the chain of a place with its rule."""
    return _request(NFT_MSG_DELCHAIN, f"chain {place.name}", _text(3, place.name))


def delete_map(place: Place) -> Request:
    """Delete the map of a place, which no rule uses any more."""
    return _request(NFT_MSG_DELSET, f"map {place.name}", _text(2, place.name))


def new_limit(name: str, limit: Limit) -> Request:
    """Make the named limit; it may be there, equal.

    The kernel keeps what passes in a second in addition to the burst (net/netfilter/nft_limit.c).
    """
    above = limit.burst - limit.rate
    data = (_u64(1, limit.rate), _u64(2, 1), _u32(3, above), _u32(4, _BYTES), _u32(5, _OVER))
    return _request(NFT_MSG_NEWOBJ, limit.text, _text(2, name), _u32(3, _LIMIT), _nest(4, *data), flags=NLM_F_CREATE)


def delete_limit(name: str) -> Request:
    """Delete a named limit that no map leads to."""
    return _request(NFT_MSG_DELOBJ, f"limit {name}", _text(2, name), _u32(3, _LIMIT))


def new_element(place: Place, address: str, name: str) -> Request:
    """Lead packets of an address to a named limit."""
    return _element(NFT_MSG_NEWSETELEM, place, address, _text(9, name), flags=NLM_F_CREATE)


def delete_element(place: Place, address: str) -> Request:
    """Lead packets of an address to no limit."""
    return _element(NFT_MSG_DELSETELEM, place, address)


def _element(kind: int, place: Place, address: str, *more: bytes, flags: int = 0) -> Request:
    key = _nest(1, attribute(1, socket.inet_aton(address)))
    return _request(
        kind, f"{address} in map {place.name}", _text(2, place.name), _nest(3, _nest(1, key, *more)), flags=flags
    )


def expressions(place: Place) -> list[bytes]:
    """Return the expressions of a place's rule: the limit that the map has for the packet's address; drop what is over.

    Everything is numbered as the kernel lists it, so that a rule that was read can be compared.
    """

    def expression(name: str, *data: bytes) -> bytes:
        return _text(1, name) + _nest(2, *data)

    return [
        expression("meta", _u32(2, 1), _u32(1, 1)),
        expression("cmp", _u32(1, 1), _u32(2, 0), _nest(3, attribute(1, _ETHERTYPE_IP))),
        expression("payload", _u32(1, 1), _u32(2, 1), _u32(3, _ADDRESS_AT[place.direction]), _u32(4, 4)),
        expression("objref", _u32(3, 1), _text(4, place.name)),
        expression("immediate", _u32(1, 0), _nest(2, attribute(2, _u32(1, 0)))),
    ]


# --- reading ---


def dump_chains() -> Request:
    """Ask for the chains of the family."""
    return dump(GET_CHAIN, "netdev chains of nf_tables", NETDEV)


def dump_limits() -> Request:
    """Ask for the named limits of the table."""
    what = f"limits of nft table netdev {TABLE}"
    return dump(SUBSYSTEM | NFT_MSG_GETOBJ, what, NETDEV, _text(1, TABLE) + _u32(3, _LIMIT))


def dump_elements(place: Place) -> Request:
    """Ask for the elements of a place's map."""
    what = f"elements of map {place.name} in nft table netdev {TABLE}"
    return dump(SUBSYSTEM | NFT_MSG_GETSETELEM, what, NETDEV, _text(1, TABLE) + _text(2, place.name))


def decode_place(data: Data) -> tuple[str, Place | None] | None:
    """Return (name of a chain, its place, None if it is no chain of ours); None for chains of other tables."""
    found = _found(data, len(family_head(NETDEV)))
    if _as_text(found.get(1)) != TABLE:
        return None
    name = _as_text(found.get(3))
    hook = _found(found.get(4, b""), 0)
    direction = _DIRECTIONS.get(_number(hook.get(1), -1))
    devices = [_as_text(hook.get(3))] if 3 in hook else []
    if direction is None or len(devices) != 1 or _number(found.get(5), 1) != 1:
        return name, None
    place = Place(direction, devices[0])
    return name, place if place.name == name else None


def decode_limit(data: Data) -> NamedLimit:
    """Decode a named limit."""
    found = _found(data, len(family_head(NETDEV)))
    limit = _found(found.get(4, b""), 0)
    rate, above = _number(limit.get(1)), _number(limit.get(3))
    ours = [_number(limit.get(number)) for number in (2, 4, 5)] == [1, _BYTES, _OVER]
    return NamedLimit(_as_text(found.get(2)), rate if ours else 0, above + rate)


def decode_elements(data: Data) -> Iterator[tuple[str, str]]:
    """Yield (address, name of its limit) of a message of elements."""
    elements = _found(data, len(family_head(NETDEV))).get(3, b"")
    for _, begin, end in attributes(elements, 0):
        element = _found(elements[begin:end], 0)
        key = _found(element.get(1, b""), 0).get(1, b"")
        if len(key) == 4:
            yield socket.inet_ntoa(key), _as_text(element.get(9))


def shape(data: Data) -> tuple[object, ...]:
    """Return names and attributes of a rule's expressions, so that a rule that was read is compared with ours."""
    return tuple(_expression_shape(bytes(data[begin:end])) for _, begin, end in attributes(data, 0))


def shape_of(place: Place) -> tuple[object, ...]:
    """Return the :func:`shape` of a place's rule."""
    return tuple(map(_expression_shape, expressions(place)))


def _expression_shape(data: Data) -> object:
    found = _found(data, 0)
    inner = found.get(2, b"")
    return _as_text(found.get(1)), frozenset(
        (kind, bytes(inner[begin:end])) for kind, begin, end in attributes(inner, 0)
    )


def _found(data: Data, start: int) -> dict[int, Data]:
    return {kind: data[begin:end] for kind, begin, end in attributes(data, start)}


def _number(data: Data | None, default: int = 0) -> int:
    return default if data is None else int.from_bytes(data, "big")


def _as_text(data: Data | None) -> str:
    return "" if data is None else bytes(data).decode(errors="surrogateescape").rstrip("\0")
