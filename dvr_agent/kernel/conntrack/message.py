"""Messages of connection tracking over nfnetlink: requests as bytes, entries as values.

Numbers are those of ``include/uapi/linux/netfilter/nfnetlink.h``, ``nfnetlink_conntrack.h`` and
``nf_conntrack_common.h``.  Integers are big-endian, but for the flags of a filter.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum
from typing import NamedTuple

from dvr_agent.kernel.netlink.message import AF_OF_FAMILY, AF_UNSPEC, NLM_F_DUMP, Data, Request, attr, attributes

NLA_F_NESTED = 0x8000
NFNL_SUBSYS_CTNETLINK = 1 << 8
IPCTNL_MSG_CT_GET = NFNL_SUBSYS_CTNETLINK | 1
IPCTNL_MSG_CT_DELETE = NFNL_SUBSYS_CTNETLINK | 2
IPCTNL_MSG_CT_GET_STATS = NFNL_SUBSYS_CTNETLINK | 5
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 3, 12, 18, 25
CTA_TUPLE_IP = 1
CTA_STATS_GLOBAL_ENTRIES = 1
IPS_NAT_MASK = 0x30
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
CTA_IP_ATTRIBUTES = {4: (1, 2), 6: (3, 4)}
"""IP version → attribute numbers of source and destination (CTA_IP_V4_SRC …)."""

_PREFIX = 4
"""struct nfgenmsg; the attributes begin behind it."""
_GONE = frozenset({errno.ENOENT})


class Place(IntEnum):
    """Where in an entry an address can stand: an index into :attr:`Connection.addresses`."""

    ORIGINAL_SOURCE = 0
    ORIGINAL_DESTINATION = 1
    REPLY_SOURCE = 2
    REPLY_DESTINATION = 3


class Connection(NamedTuple):
    """One entry.

    :ivar id: the kernel's, unique among the entries that exist at one time
    :ivar addresses: packed, by :class:`Place`; None where the entry has none of the IP version asked for
    :ivar status: ``IPS_…`` bits
    :ivar key: attributes to delete it by: original tuple, id, zone
    """

    id: bytes
    addresses: tuple[bytes | None, bytes | None, bytes | None, bytes | None]
    status: int
    key: bytes


def get_count(what: str) -> Request:
    """Ask for the number of entries of both families in the namespace."""
    return Request(IPCTNL_MSG_CT_GET_STATS, 0, _prefix(AF_UNSPEC), what)


def dump_connections(version: int, what: str) -> Request:
    """Ask for all entries of an IP version."""
    return Request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, _prefix(AF_OF_FAMILY[version]), what)


def dump_filtered(version: int, place: Place, address: bytes, what: str) -> Request:
    """Ask for the entries with an address in a place (``CTA_FILTER``, Linux 5.8; older kernels send all of them)."""
    direction, side = divmod(place, 2)
    flags = [0, 0]
    flags[direction] = 1 << side
    ip = _nest(CTA_TUPLE_IP, attr(CTA_IP_ATTRIBUTES[version][side], address))
    where = _nest((CTA_TUPLE_ORIG, CTA_TUPLE_REPLY)[direction], ip) + _nest(
        CTA_FILTER,
        attr(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags[0]))
        + attr(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", flags[1])),
    )
    return Request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, _prefix(AF_OF_FAMILY[version]) + where, what)


def delete_connection(version: int, connection: Connection, what: str) -> Request:
    """Delete this very entry; an entry that is gone by then is no error."""
    return Request(IPCTNL_MSG_CT_DELETE, 0, _prefix(AF_OF_FAMILY[version]) + connection.key, what, _GONE)


def decode_count(data: Data) -> int:
    """The number in an answer to :func:`get_count`."""
    return int.from_bytes(_fields(data, _PREFIX).get(CTA_STATS_GLOBAL_ENTRIES, b""), "big")


def decode_connection(data: Data, version: int) -> Connection | None:
    """The entry in a message of a dump; None if it lacks what it could be deleted by."""
    found = _fields(data, _PREFIX)
    original = found.get(CTA_TUPLE_ORIG)
    # Never without the tuple: the kernel takes such a deletion for "delete all".
    if original is None or CTA_ID not in found:
        return None
    key = _nest(CTA_TUPLE_ORIG, original) + attr(CTA_ID, found[CTA_ID])
    if CTA_ZONE in found:
        key += attr(CTA_ZONE, found[CTA_ZONE])
    addresses = (*_ips(original, version), *_ips(found.get(CTA_TUPLE_REPLY, b""), version))
    return Connection(found[CTA_ID], addresses, int.from_bytes(found.get(CTA_STATUS, b""), "big"), key)


def _ips(tuple_: bytes, version: int) -> tuple[bytes | None, bytes | None]:
    """Source and destination address of one direction, packed."""
    ip = _fields(_fields(tuple_).get(CTA_TUPLE_IP, b""))
    source, destination = CTA_IP_ATTRIBUTES[version]
    return ip.get(source), ip.get(destination)


def _fields(data: Data, start: int = 0) -> dict[int, bytes]:
    """Attribute type → value."""
    return {kind: bytes(data[begin:end]) for kind, begin, end in attributes(data, start)}


def _prefix(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _nest(kind: int, value: bytes) -> bytes:
    return attr(kind | NLA_F_NESTED, value)
