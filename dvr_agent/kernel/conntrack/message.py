"""Messages of connection tracking (nfnetlink): requests as bytes, entries as values.

Numbers and layouts come from pyroute2's ``nfct_msg``.  Used by :mod:`.manager` and :mod:`.condition`.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import NamedTuple

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK
from pyroute2.netlink.nfnetlink.nfctsocket import (
    FILTER_FLAG_CTA_IP_DST,
    FILTER_FLAG_CTA_IP_SRC,
    IPCTNL_MSG_CT_DELETE,
    IPCTNL_MSG_CT_GET,
    IPCTNL_MSG_CT_GET_STATS,
    IPS_NAT_MASK,
    nfct_msg,
    nfct_stats,
)

from dvr_agent.kernel.netlink.message import AF_OF_FAMILY, AF_UNSPEC, Request
from dvr_agent.kernel.netlink.schema import Data, Schema, payload, positions

_SUBSYSTEM = NFNL_SUBSYS_CTNETLINK << 8
_DIRECTIONS = ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY")
_FLAGS = (FILTER_FLAG_CTA_IP_SRC, FILTER_FLAG_CTA_IP_DST)
_IP_ATTRIBUTES = {4: ("CTA_IP_V4_SRC", "CTA_IP_V4_DST"), 6: ("CTA_IP_V6_SRC", "CTA_IP_V6_DST")}

_MESSAGE = Schema(nfct_msg)
_TUPLE = _MESSAGE.within("CTA_TUPLE_ORIG")
_IP = _TUPLE.within("CTA_TUPLE_IP")
_PROTO = _TUPLE.within("CTA_TUPLE_PROTO")
_FILTER = _MESSAGE.within("CTA_FILTER")
_STATS = Schema(nfct_stats)

_head = _MESSAGE.head("nfgen_family")
_nest_tuples = tuple(map(_MESSAGE.nest, _DIRECTIONS))
_nest_ip = _TUPLE.nest("CTA_TUPLE_IP")
_pack_ips = {version: tuple(map(_IP.raw, names)) for version, names in _IP_ATTRIBUTES.items()}
_nest_filter = _MESSAGE.nest("CTA_FILTER")
_pack_original_flags = _FILTER.packer("CTA_FILTER_ORIG_FLAGS")
_pack_reply_flags = _FILTER.packer("CTA_FILTER_REPLY_FLAGS")
_pack_original, _pack_id, _pack_zone = map(_MESSAGE.raw, ("CTA_TUPLE_ORIG", "CTA_ID", "CTA_ZONE"))

_ORIGINAL, _REPLY = map(_MESSAGE.number, _DIRECTIONS)
_STATUS, _ID, _ZONE = map(_MESSAGE.number, ("CTA_STATUS", "CTA_ID", "CTA_ZONE"))
_TUPLE_IP = _TUPLE.number("CTA_TUPLE_IP")
_TUPLE_PROTO = _TUPLE.number("CTA_TUPLE_PROTO")
_NUMBER, _read_number = _PROTO.number("CTA_PROTO_NUM"), _PROTO.reader("CTA_PROTO_NUM")
_PORTS = [(_PROTO.number(one), _PROTO.reader(one)) for one in ("CTA_PROTO_SRC_PORT", "CTA_PROTO_DST_PORT")]
_IPS = {version: tuple(map(_IP.number, names)) for version, names in _IP_ATTRIBUTES.items()}
_ENTRIES = _STATS.number("CTA_STATS_GLOBAL_ENTRIES")
_read_status = _MESSAGE.reader("CTA_STATUS")
_read_entries = _STATS.reader("CTA_STATS_GLOBAL_ENTRIES")

_GONE = frozenset({errno.ENOENT})
_NO_IPS = (None, None)


class AddressField(IntEnum):
    """The four addresses of an entry; the value is the index into :attr:`Connection.addresses`."""

    ORIGINAL_SOURCE = 0
    ORIGINAL_DESTINATION = 1
    REPLY_SOURCE = 2
    REPLY_DESTINATION = 3


class Connection(NamedTuple):
    """One entry.

    :ivar id: the kernel's, unique among the entries that exist at one time
    :ivar addresses: packed, by :class:`AddressField`; None where the entry has no address of the IP version asked for
    :ivar is_translated: a NAT rule applies to it
    :ivar key: attributes to delete it by: original tuple, id, zone
    :ivar original: the original tuple
    """

    id: bytes
    addresses: tuple[bytes | None, ...]
    is_translated: bool
    key: bytes
    original: bytes


def get_count(what: str) -> Request:
    """Ask for the number of entries of both families in the namespace."""
    return Request(_SUBSYSTEM | IPCTNL_MSG_CT_GET_STATS, 0, _head(AF_UNSPEC), what)


def dump_connections(version: int, what: str) -> Request:
    """Ask for all entries of an IP version."""
    return Request(_SUBSYSTEM | IPCTNL_MSG_CT_GET, NLM_F_DUMP, _head(AF_OF_FAMILY[version]), what)


def dump_filtered(version: int, field: AddressField, address: bytes, what: str) -> Request:
    """Ask for the entries with an address in a field (``CTA_FILTER``, Linux 5.8; older kernels send all entries)."""
    direction, side = divmod(field, 2)
    flags = [0, 0]
    flags[direction] = _FLAGS[side]
    body = _head(AF_OF_FAMILY[version])
    body += _nest_tuples[direction](_nest_ip(_pack_ips[version][side](address)))
    body += _nest_filter(_pack_original_flags(flags[0]) + _pack_reply_flags(flags[1]))
    return Request(_SUBSYSTEM | IPCTNL_MSG_CT_GET, NLM_F_DUMP, body, what)


def delete_connection(version: int, connection: Connection, what: str) -> Request:
    """Delete this very entry; an entry that is gone by then is no error."""
    body = _head(AF_OF_FAMILY[version]) + connection.key
    return Request(_SUBSYSTEM | IPCTNL_MSG_CT_DELETE, 0, body, what, _GONE)


def decode_count(data: Data) -> int:
    """Decode the number in an answer to :func:`get_count`."""
    found = positions(data, _STATS.size)
    return int(_read_entries(data, found[_ENTRIES])) if _ENTRIES in found else 0


def decode_connection(data: Data, version: int) -> Connection | None:
    """Decode the entry in a message of a dump; None if it lacks an attribute that a deletion needs."""
    found = positions(data, _MESSAGE.size)
    # Never without the tuple: the kernel takes such a deletion for "delete all".
    if _ORIGINAL not in found or _ID not in found:
        return None
    original, number = payload(data, found[_ORIGINAL]), bytes(payload(data, found[_ID]))
    key = _pack_original(original) + _pack_id(number)
    if _ZONE in found:
        key += _pack_zone(payload(data, found[_ZONE]))
    reply = _ips(payload(data, found[_REPLY]), version) if _REPLY in found else _NO_IPS
    translated = _STATUS in found and bool(_read_status(data, found[_STATUS]) & IPS_NAT_MASK)
    return Connection(number, (*_ips(original, version), *reply), translated, key, bytes(original))


def destination_port(connection: Connection) -> tuple[int, int]:
    """Return (protocol, destination port) of the first packet; port -1 where the protocol has none."""
    protocol, _, port = transport(connection)
    return protocol, port


def transport(connection: Connection) -> tuple[int, int, int]:
    """Return (protocol, source port, destination port) of the first packet; -1 for what it does not have."""
    at = positions(connection.original, 0, _TUPLE_PROTO).get(_TUPLE_PROTO)
    if at is None:
        return -1, -1, -1
    data = payload(connection.original, at)
    found = positions(data, 0)
    protocol = int(_read_number(data, found[_NUMBER])) if _NUMBER in found else -1
    ports = [int(read(data, found[one])) if one in found else -1 for one, read in _PORTS]
    return protocol, ports[0], ports[1]


def _ips(data: Data, version: int) -> tuple[bytes | None, bytes | None]:
    """Read source and destination address of one direction, packed."""
    at = positions(data, 0, _TUPLE_IP).get(_TUPLE_IP)
    if at is None:
        return _NO_IPS
    ip = payload(data, at)
    found = positions(ip, 0)
    source, destination = _IPS[version]
    if source not in found or destination not in found:
        return _NO_IPS
    return bytes(payload(ip, found[source])), bytes(payload(ip, found[destination]))
