"""Messages of nf_tables for bandwidth limits: chains, rules, named limits and the maps that lead to them, as bytes.

Numbers and layouts are those of ``include/uapi/linux/netfilter/nf_tables.h``; pyroute2 has no messages for objects.
Used by :mod:`.limits`, which knows what the table looks like as a whole.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from pyroute2.netlink import NLM_F_CREATE
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELOBJ,
    NFT_MSG_DELRULE,
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

from dvr_agent.kernel.iptables.layout import IFNAME_FIELD
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data, attribute, attributes
from dvr_agent.kernel.nftables import expressions as ex
from dvr_agent.kernel.nftables.message import BODY, GET_CHAIN, SUBSYSTEM, dump, family_head
from dvr_agent.state.limit import Direction, Limit

TABLE = "dvr_qos"
KNOWN = 4096
"""Messages of which each decoder keeps the result: they are the same in the next audit, without what was counted."""
_ADDRESS_AT: dict[Direction, int] = {"leaving": 12, "entering": 16}
"""Offset of source and destination address in an IPv4 header."""

_LIMIT = 4
"""NFT_OBJECT_LIMIT."""
_OBJECT_MAP, _DYNAMIC_SET = 0x40, 0x20
"""NFT_SET_OBJECT; NFT_SET_EVAL: rules add elements."""
_ADD = 0
"""NFT_DYNSET_OP_ADD: an element that is there is counted, too."""
_BYTES, _OVER = 1, 1
"""NFT_LIMIT_PKT_BYTES; NFT_LIMIT_F_INV: the limit matches what is above it."""
_IPV4_ADDRESS = 7
"""The type of keys, as nft numbers types: for its listing."""
_ETHERTYPE_IP = struct.pack(">H", 0x0800)
_PROTOCOL = 1
"""NFT_META_PROTOCOL."""


class Layout(NamedTuple):
    """Where the chains of limits hang.

    :ivar hooks: direction → number and priority of the hook
    :ivar at_device: the hooks are those of a device; else those of all devices, and the rule names the device
    :ivar counts: the rule counts what it drops, by address
    """

    family: int
    hooks: dict[Direction, tuple[int, int]]
    at_device: bool
    counts: bool = True

    @property
    def table(self) -> str:
        """The table for people."""
        return f"{'netdev' if self.at_device else 'ip'} {TABLE}"


AT_DEVICES = Layout(5, {"entering": (0, 0), "leaving": (1, 0)}, True)
"""NFPROTO_NETDEV; NF_NETDEV_INGRESS and NF_NETDEV_EGRESS (Linux 5.16)."""
AROUND_NAT = Layout(2, {"entering": (0, -300), "leaving": (4, 300)}, False)
"""NFPROTO_IPV4; prerouting before connection tracking and DNAT, postrouting after SNAT."""


class Place(NamedTuple):
    """The chain at one hook of one device; its map has the same name."""

    direction: Direction
    device: str

    @property
    def name(self) -> str:
        """Name of chain and map: identifiers of nft have no hyphens."""
        return f"{self.direction}_{self.device.replace('-', '_')}"

    @property
    def drops(self) -> str:
        """Name of the set that counts what is dropped."""
        return f"dropped_{self.name}"


class NamedLimit(NamedTuple):
    """A limit object: its name, rate and burst in bytes; rate 0: it limits otherwise than ours do."""

    name: str
    rate: int
    burst: int


def _u64(number: int, value: int) -> bytes:
    return attribute(number, value.to_bytes(8, "big"))


class LimitMessages:
    """Requests about the table of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._head = family_head(layout.family) + ex.text(1, TABLE)

    def new_table(self) -> Request:
        """Make the table; it may be there."""
        return self._request(NFT_MSG_NEWTABLE, "the table", flags=NLM_F_CREATE)

    def delete_table(self) -> Request:
        """Delete the table with all that is in it."""
        return self._request(NFT_MSG_DELTABLE, "the table")

    def new_chain(self, place: Place) -> list[Request]:
        """Make the chain of a place with its map, its counters and its rule."""
        what, name = f"chain {place.name}", place.name
        number, priority = self.layout.hooks[place.direction]
        device = [ex.text(3, place.device)] if self.layout.at_device else []
        hook = ex.nest(4, ex.number(1, number), attribute(2, priority.to_bytes(4, "big", signed=True)), *device)
        base = (ex.text(3, name), hook, ex.number(5, 1), ex.text(7, "filter"))
        keys = (
            ex.text(2, name),
            ex.number(3, _OBJECT_MAP),
            ex.number(4, _IPV4_ADDRESS),
            ex.number(5, 4),
            ex.number(10, 1),
            ex.number(15, _LIMIT),
        )
        return [
            self._request(NFT_MSG_NEWSET, f"map {name}", *keys, flags=NLM_F_CREATE),
            self._request(NFT_MSG_NEWCHAIN, what, *base, flags=NLM_F_CREATE),
            *self._new_rule(place),
        ]

    def replace_rule(self, place: Place) -> list[Request]:
        """Put a rule that counts in place of the one that does not."""
        delete = self._request(NFT_MSG_DELRULE, f"rule of chain {place.name}", ex.text(2, place.name))
        return [delete, *self._new_rule(place)]

    def _new_rule(self, place: Place) -> list[Request]:
        name, rule = place.name, ex.nest(4, *(ex.nest(1, one) for one in expressions(self.layout, place)))
        new = self._request(NFT_MSG_NEWRULE, f"rule of chain {name}", ex.text(2, name), rule, flags=NLM_F_CREATE)
        if not self.layout.counts:
            return [new]
        keys = (
            ex.text(2, place.drops),
            ex.number(3, _DYNAMIC_SET),
            ex.number(4, _IPV4_ADDRESS),
            ex.number(5, 4),
            ex.number(10, 1),
        )
        return [self._request(NFT_MSG_NEWSET, f"set {place.drops}", *keys, flags=NLM_F_CREATE), new]

    def delete_chain(self, place: Place, counts: bool) -> list[Request]:
        """Delete the chain of a place with its rule, its map and, if it counts, its counters."""
        chain = self._request(NFT_MSG_DELCHAIN, f"chain {place.name}", ex.text(3, place.name))
        sets = (place.name, place.drops) if counts else (place.name,)
        return [chain, *(self._request(NFT_MSG_DELSET, f"set {name}", ex.text(2, name)) for name in sets)]

    def new_limit(self, name: str, limit: Limit) -> Request:
        """Make the named limit; it may be there, equal.

        The kernel keeps what passes in a second in addition to the burst (net/netfilter/nft_limit.c).
        """
        above = limit.burst - limit.rate
        data = (_u64(1, limit.rate), _u64(2, 1), ex.number(3, above), ex.number(4, _BYTES), ex.number(5, _OVER))
        parts = (ex.text(2, name), ex.number(3, _LIMIT), ex.nest(4, *data))
        return self._request(NFT_MSG_NEWOBJ, limit.text, *parts, flags=NLM_F_CREATE)

    def delete_limit(self, name: str) -> Request:
        """Delete a named limit that no map leads to."""
        return self._request(NFT_MSG_DELOBJ, f"limit {name}", ex.text(2, name), ex.number(3, _LIMIT))

    def new_element(self, place: Place, address: str, name: str) -> Request:
        """Lead packets of an address to a named limit."""
        return self._element(NFT_MSG_NEWSETELEM, place, address, ex.text(9, name), flags=NLM_F_CREATE)

    def delete_element(self, place: Place, address: str) -> Request:
        """Lead packets of an address to no limit."""
        return self._element(NFT_MSG_DELSETELEM, place, address)

    def dump_chains(self) -> Request:
        """Ask for the chains of the family."""
        return dump(GET_CHAIN, "chains of nf_tables", self.layout.family)

    def dump_limits(self) -> Request:
        """Ask for the named limits of the table."""
        return self._dump(NFT_MSG_GETOBJ, "limits", ex.number(3, _LIMIT))

    def dump_elements(self, name: str) -> Request:
        """Ask for the elements of a map or set."""
        return self._dump(NFT_MSG_GETSETELEM, f"elements of set {name}", ex.text(2, name))

    def _element(self, kind: int, place: Place, address: str, *more: bytes, flags: int = 0) -> Request:
        key = ex.nest(1, attribute(1, socket.inet_aton(address)))
        elements = ex.nest(3, ex.nest(1, key, *more))
        what = f"{address} in map {place.name}"
        return self._request(kind, what, ex.text(2, place.name), elements, flags=flags)

    def _request(self, kind: int, what: str, *parts: bytes, flags: int = 0) -> Request:
        body = self._head + b"".join(parts)
        return Request(SUBSYSTEM | kind, flags, body, f"nft table {self.layout.table}: {what}")

    def _dump(self, kind: int, what: str, more: bytes) -> Request:
        text = f"nft table {self.layout.table}: {what}"
        return dump(SUBSYSTEM | kind, text, self.layout.family, ex.text(1, TABLE) + more)


def expressions(layout: Layout, place: Place) -> list[bytes]:
    """Return the expressions of a place's rule: the limit that the map has for the packet's address; drop what is over.

    What is dropped is counted by its address, in a set: packets that pass meet no counter.  Everything is numbered as
    the kernel lists it, so that a rule that was read can be compared.
    """

    if layout.at_device:
        key, value = _PROTOCOL, _ETHERTYPE_IP
    else:
        key = ex.META_IIFNAME if place.direction == "entering" else ex.META_OIFNAME
        value = place.device.encode(errors="surrogateescape").ljust(IFNAME_FIELD, b"\0")
    counter = ex.nest(7, ex.text(1, "counter") + ex.nest(2))
    count = ex.expression("dynset", ex.text(1, place.drops), ex.number(3, _ADD), ex.number(4, 1), counter)
    return [
        ex.meta(key),
        ex.compare(value),
        ex.payload(ex.NETWORK, _ADDRESS_AT[place.direction], 4),
        ex.expression("objref", ex.number(3, 1), ex.text(4, place.name)),
        *([count] if layout.counts else []),
        ex.verdict(ex.DROP),
    ]


# --- reading ---


def decode_chain(data: Data) -> tuple[str, int, int, str] | None:
    """Return (name, number and priority of the hook, its device) of a base chain of the table, which accepts.

    A chain of the table that is otherwise has no name; None: a chain of another table.
    """
    found = _found(data, BODY)
    if _as_text(found.get(1)) != TABLE:
        return None
    hook = _found(found.get(4, b""), 0)
    accepts = _number(found.get(5)) == 1 and 1 in hook
    priority = int.from_bytes(hook.get(2, b""), "big", signed=True)
    return _as_text(found.get(3)) if accepts else "", _number(hook.get(1)), priority, _as_text(hook.get(3))


@lru_cache(maxsize=KNOWN)
def decode_limit(data: bytes) -> NamedLimit:
    """Decode a named limit."""
    found = _found(data, BODY)
    limit = _found(found.get(4, b""), 0)
    rate, above = _number(limit.get(1)), _number(limit.get(3))
    ours = [_number(limit.get(number)) for number in (2, 4, 5)] == [1, _BYTES, _OVER]
    return NamedLimit(_as_text(found.get(2)), rate if ours else 0, above + rate)


@lru_cache(maxsize=KNOWN)
def decode_elements(data: bytes) -> tuple[tuple[str, str], ...]:
    """Return (address, name of its limit) for each element in a message."""
    return tuple(_elements(data))


def _elements(data: bytes) -> Iterator[tuple[str, str]]:
    elements = _found(data, BODY).get(3, b"")
    for _, begin, end in attributes(elements, 0):
        element = _found(elements[begin:end], 0)
        key = _found(element.get(1, b""), 0).get(1, b"")
        if len(key) == 4:
            yield socket.inet_ntoa(key), _as_text(element.get(9))


def decode_drops(data: Data) -> Iterator[tuple[str, int]]:
    """Yield (address, number of packets) for each element in a message about a set that counts."""
    for _, begin, end in attributes(elements := _found(data, BODY).get(3, b""), 0):
        element = _found(elements[begin:end], 0)
        counter = _found(_found(element.get(7, b""), 0).get(2, b""), 0)
        yield socket.inet_ntoa(_found(element.get(1, b""), 0).get(1, bytes(4))), _number(counter.get(2))


@lru_cache(maxsize=KNOWN)
def shape(data: bytes) -> tuple[object, ...]:
    """Return names and attributes of a rule's expressions, so that a rule that was read is compared with ours."""
    return tuple(_expression_shape(bytes(data[begin:end])) for _, begin, end in attributes(data, 0))


def device_of(data: bytes) -> str:
    """Return the device that a rule of :data:`AROUND_NAT` names; empty for other rules."""
    for _, begin, end in attributes(data, 0):
        found = _found(data[begin:end], 0)
        if _as_text(found.get(1)) == "cmp":
            return _as_text(_found(_found(found.get(2, b""), 0).get(3, b""), 0).get(1))
    return ""


@lru_cache(maxsize=KNOWN)
def shape_of(at_device: bool, counts: bool, place: Place) -> tuple[object, ...]:
    """Return the :func:`shape` of a place's rule."""
    layout = (AT_DEVICES if at_device else AROUND_NAT)._replace(counts=counts)
    return tuple(map(_expression_shape, expressions(layout, place)))


_COMPARED = (1, 3, 4)
"""Attributes of a dynset expression that count: set, operation, key.  Kernels list its counter in different ways."""


def _expression_shape(data: Data) -> object:
    found = _found(data, 0)
    inner = found.get(2, b"")
    name = _as_text(found.get(1))
    return name, frozenset(
        (kind, bytes(inner[begin:end]))
        for kind, begin, end in attributes(inner, 0)
        if name != "dynset" or kind in _COMPARED
    )


def _found(data: Data, start: int) -> dict[int, Data]:
    return {kind: data[begin:end] for kind, begin, end in attributes(data, start)}


def _number(data: Data | None, default: int = 0) -> int:
    return default if data is None else int.from_bytes(data, "big")


def _as_text(data: Data | None) -> str:
    return "" if data is None else bytes(data).decode(errors="surrogateescape").rstrip("\0")
