"""Deletes connection tracking entries over nfnetlink: those of an address, or those it began without translation.

Finding them is a dump of the namespace's table; each hit is deleted by its original tuple, zone and id, so that a
connection that took its place in between is not hit.  A dump can be had in two ways, and the cheaper one is taken:

* one plain dump, filtered here.  Its cost is the number of entries in the namespace.
* dumps that the kernel filters (``CTA_FILTER``, Linux 5.8), one for each place an address can stand in, since one
  filter joins its conditions by "and".  Each costs a walk over the hash table, which all namespaces share.

Used by the reconciler when a floating IP comes, leaves or moves.  Who calls, and for which address, is decided there.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import NamespaceManager

# linux/netlink.h
NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

# linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
NFNL_SUBSYS_CTNETLINK = 1 << 8
IPCTNL_MSG_CT_GET = NFNL_SUBSYS_CTNETLINK | 1
IPCTNL_MSG_CT_DELETE = NFNL_SUBSYS_CTNETLINK | 2
IPCTNL_MSG_CT_GET_STATS = NFNL_SUBSYS_CTNETLINK | 5
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 3, 12, 18, 25
CTA_TUPLE_IP = 1
CTA_STATS_GLOBAL_ENTRIES = 1
IPS_NAT_MASK = 0x30
"""IPS_SRC_NAT | IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)."""
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
CTA_IP_ATTRIBUTES = {4: (1, 2), 6: (3, 4)}
"""IP version → attribute numbers of source and destination (CTA_IP_V4_SRC …)."""

FILTER_FROM = 20_000
"""Entries from which four filtered dumps are no dearer than one plain one; a quarter of it for each.

Measured with 262,144 buckets: 13 ms for a walk, 3 µs for an entry that is dumped.
"""
DELETE_BATCH = 64
"""Deletions in one send: their answers (at most 100 bytes each) fit the receive buffer by far."""
BUFFER = 1 << 16

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PREFIX = _HEADER.size + 4
"""Netlink header and struct nfgenmsg; the attributes begin behind them."""


class NetlinkConntrack:
    """The connection tracking tables of named namespaces; keeps nothing between calls."""

    def __init__(self, namespaces: NamespaceManager) -> None:
        self._namespaces = namespaces

    def delete(self, namespace: str, address: str) -> int:
        """Delete the connections with exactly this address on either side of either direction.

        :param address: IPv4 or IPv6, without prefix length
        :returns: how many were deleted; one that vanished by itself meanwhile does not count
        :raises KernelError: naming namespace and address
        """
        what = f"connections of {address}"
        return self._delete(namespace, what, lambda: _condition_anywhere(address))

    def drop_untranslated(self, namespace: str, addresses: Collection[str], inside: Sequence[str]) -> int:
        """Delete the connections that one of these IPv4 addresses has begun and that no NAT rule translates.

        :param inside: networks; connections to these stay
        :returns: how many were deleted; one that vanished by itself meanwhile does not count
        :raises KernelError: naming namespace and addresses
        """
        what = f"untranslated connections of {', '.join(sorted(addresses))}"
        return self._delete(namespace, what, lambda: _condition_outward(addresses, inside))

    def _delete(self, namespace: str, what: str, condition: Callable[[], _Condition]) -> int:
        try:
            wanted = condition()
            with self._namespaces.enter(namespace):
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            with sock:
                table = _Table(sock, wanted)
                return table.delete(table.find())
        except ValueError as exc:
            raise KernelError(namespace, what, errno.EINVAL, str(exc)) from exc
        except OSError as exc:
            raise KernelError(namespace, what, exc.errno or errno.EIO, _hint(exc.errno)) from exc


@dataclass(frozen=True, slots=True)
class _Condition:
    """Which connections are wanted.

    :ivar addresses: packed; each wanted connection has one of them
    :ivar places: (CTA_TUPLE_ORIG or CTA_TUPLE_REPLY, 0 source or 1 destination): where such an address can stand
    :ivar holds: decides by the attributes of an entry that has one of the addresses
    """

    version: int
    addresses: frozenset[bytes]
    places: tuple[tuple[int, int], ...]
    holds: Callable[[dict[int, bytes]], bool]

    @property
    def dumps(self) -> int:
        """How many filtered dumps find them."""
        return len(self.addresses) * len(self.places)

    def wants(self, attributes: dict[int, bytes]) -> bool:
        ips = {direction: _ips(attributes.get(direction, b""), self.version) for direction, _ in self.places}
        return any(ips[direction][side] in self.addresses for direction, side in self.places) and self.holds(attributes)


def _condition_anywhere(address: str) -> _Condition:
    wanted = ipaddress.ip_address(address)
    places = tuple((direction, side) for direction in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY) for side in (0, 1))
    return _Condition(wanted.version, frozenset({wanted.packed}), places, lambda _: True)


def _condition_outward(addresses: Iterable[str], inside: Iterable[str]) -> _Condition:
    wanted = frozenset(ipaddress.IPv4Address(address).packed for address in addresses)
    networks = [(int(net.network_address), int(net.netmask)) for net in map(ipaddress.IPv4Network, inside)]

    def holds(attributes: dict[int, bytes]) -> bool:
        if int.from_bytes(attributes.get(CTA_STATUS, b""), "big") & IPS_NAT_MASK:
            return False
        destination = int.from_bytes(_ips(attributes[CTA_TUPLE_ORIG], 4)[1] or b"", "big")
        return not any(destination & mask == network for network, mask in networks)

    return _Condition(4, wanted, ((CTA_TUPLE_ORIG, 0),), holds)


class _Table:
    """One namespace's table, seen through an open socket, with a condition in mind."""

    def __init__(self, sock: socket.socket, condition: _Condition) -> None:
        self._sock = sock
        self._condition = condition
        self._family = socket.AF_INET if condition.version == 4 else socket.AF_INET6
        self._buffer = bytearray(BUFFER)
        self._sequence = 0

    def find(self) -> dict[bytes, bytes]:
        """Id → attributes to delete by, of every connection that is wanted."""
        entries = self._count()
        if entries == 0 or not self._condition.dumps:
            return {}
        if entries >= FILTER_FROM * self._condition.dumps / 4:
            try:
                return self._find_filtered()
            except OSError as exc:
                # A kernel that knows the attribute, but not for a dump or not with these flags.
                if exc.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
        return self._dump(b"", self._condition.addresses)

    def delete(self, entries: dict[bytes, bytes]) -> int:
        """Delete them; returns how many were still there."""
        keys = list(entries.values())
        return sum(self._delete(keys[first : first + DELETE_BATCH]) for first in range(0, len(keys), DELETE_BATCH))

    def _count(self) -> int:
        """Entries of both families in the namespace."""
        self._send(IPCTNL_MSG_CT_GET_STATS, NLM_F_ACK, b"", socket.AF_UNSPEC)
        count = 0
        for _, kind, message in self._answers(1):
            if kind not in (NLMSG_ERROR, NLMSG_DONE):
                value = dict(_attributes(message, _PREFIX)).get(CTA_STATS_GLOBAL_ENTRIES, bytes(4))
                count = int.from_bytes(value, "big")
        return count

    def _find_filtered(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for direction, side in self._condition.places:
            attribute = CTA_IP_ATTRIBUTES[self._condition.version][side]
            flags = [1 << side if direction == one else 0 for one in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY)]
            where = _attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags[0])) + _attribute(
                CTA_FILTER_REPLY_FLAGS, struct.pack("=I", flags[1])
            )
            for address in self._condition.addresses:
                ip = _nest(CTA_TUPLE_IP, _attribute(attribute, address))
                found |= self._dump(_nest(direction, ip) + _nest(CTA_FILTER, where), {address})
        return found

    def _dump(self, filtered: bytes, addresses: Collection[bytes]) -> dict[bytes, bytes]:
        """Entries that are wanted.  Always checked here too: Linux before 5.8 ignores the filter.

        :param addresses: those that an entry must have one of
        """
        self._send(IPCTNL_MSG_CT_GET, NLM_F_DUMP, filtered, self._family)
        found: dict[bytes, bytes] = {}
        for message in self._dump_messages(addresses):
            attributes = dict(_attributes(message, _PREFIX))
            original = attributes.get(CTA_TUPLE_ORIG)
            if original is None or CTA_ID not in attributes:
                continue
            if self._condition.wants(attributes):
                # Never without the tuple: the kernel takes that for "delete all".
                key = _nest(CTA_TUPLE_ORIG, original) + _attribute(CTA_ID, attributes[CTA_ID])
                if CTA_ZONE in attributes:
                    key += _attribute(CTA_ZONE, attributes[CTA_ZONE])
                found[attributes[CTA_ID]] = key
        return found

    def _delete(self, keys: list[bytes]) -> int:
        messages = []
        for key in keys:
            self._sequence += 1
            messages.append(self._message(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, key, self._family))
        self._sock.send(b"".join(messages))
        gone = 0
        for code, _, _ in self._answers(len(keys)):
            gone += code == errno.ENOENT
        return len(keys) - gone

    def _message(self, kind: int, flags: int, attributes: bytes, family: int) -> bytes:
        header = _HEADER.pack(_PREFIX + len(attributes), kind, NLM_F_REQUEST | flags, self._sequence, 0)
        return header + struct.pack("=BBH", family, 0, 0) + attributes

    def _send(self, kind: int, flags: int, attributes: bytes, family: int) -> None:
        self._sequence += 1
        self._sock.send(self._message(kind, flags, attributes, family))

    def _receive(self) -> memoryview:
        size = self._sock.recv_into(self._buffer)
        return memoryview(self._buffer)[:size]

    def _answers(self, acknowledged: int) -> Iterator[tuple[int, int, memoryview]]:
        """(errno, type, message) until that many acknowledgements have come.

        :raises OSError: any error but ENOENT
        """
        while acknowledged:
            for kind, message in _messages(self._receive()):
                code = 0
                if kind == NLMSG_ERROR:
                    acknowledged -= 1
                    code = _error(message)
                    if code not in (0, errno.ENOENT):
                        raise OSError(code, os.strerror(code))
                yield code, kind, message

    def _dump_messages(self, addresses: Collection[bytes]) -> Iterator[memoryview]:
        """The messages of a dump that may have one of the addresses.

        Datagrams without the bytes of the only address are skipped whole: a search at memory speed instead of Python's.
        """
        only = next(iter(addresses)) if len(addresses) == 1 else b""
        while True:
            data = self._receive()
            if self._buffer.find(only, 0, len(data)) < 0 and not _ends_dump(data):
                continue
            for kind, message in _messages(data):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = _error(message)
                    raise OSError(code, os.strerror(code))
                yield message


def _ips(tuple_: bytes, version: int) -> tuple[bytes | None, bytes | None]:
    """Source and destination address of one direction, packed."""
    ip = dict(_attributes(dict(_attributes(tuple_, 0)).get(CTA_TUPLE_IP, b""), 0))
    source, destination = CTA_IP_ATTRIBUTES[version]
    return ip.get(source), ip.get(destination)


def _ends_dump(data: memoryview) -> bool:
    """True if the datagram begins with an error or ends with the end-of-dump message (header and an int)."""
    size = _HEADER.size + 4
    return _HEADER.unpack_from(data)[1] in (NLMSG_ERROR, NLMSG_DONE) or _HEADER.unpack_from(data, len(data) - size)[
        :2
    ] == (size, NLMSG_DONE)


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(type, message with its header) for each message of a datagram."""
    offset, end = 0, len(data)
    while offset < end:
        length, kind = _HEADER.unpack_from(data, offset)[:2]
        yield kind, data[offset : offset + length]
        offset += (length + 3) & ~3


def _error(message: memoryview) -> int:
    """The errno of an error message, positive; 0: an acknowledgement."""
    return -int(struct.unpack_from("=i", message, _HEADER.size)[0])


def _attributes(data: bytes | memoryview, offset: int) -> Iterator[tuple[int, bytes]]:
    """(type without flags, value) of each attribute."""
    end = len(data)
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind & NLA_TYPE_MASK, bytes(data[offset + _ATTRIBUTE.size : offset + length])
        offset += (max(length, _ATTRIBUTE.size) + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | NLA_F_NESTED, value)


def _hint(code: int | None) -> str:
    missing = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)
    return "is the kernel module nf_conntrack_netlink there?" if code in missing else ""
