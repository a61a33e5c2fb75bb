"""Packet filter tables of a namespace as ready bytes: one system call for each legacy table, or one transaction.

Made before the clock starts, by the agent's own packet filter in a namespace of a moment, from which legacy tables are
read back as the kernel holds them: that is what it takes, too (``IPT_SO_SET_REPLACE``).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from pyroute2.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST

from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.iptables.layout import ENTRIES_HEADER, GET_ENTRIES, GET_INFO, INFO
from dvr_agent.kernel.iptables.manager import LibiptcManager
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.netlink.message import HEADER, Request
from dvr_agent.kernel.netns import in_new_namespace
from dvr_agent.kernel.nftables.filter_diff import changes
from dvr_agent.kernel.nftables.message import begin_transaction, end_transaction
from dvr_agent.kernel.nftables.ruleset import Ruleset, with_tables
from dvr_agent.state.filter import Family, Table

SET_REPLACE = 64
"""``IPT_SO_SET_REPLACE``, of IPv6 too."""
LEVELS = {4: (socket.AF_INET, socket.IPPROTO_IP), 6: (socket.AF_INET6, socket.IPPROTO_IPV6)}
FRESH = {"raw": 3, "mangle": 6, "nat": 5, "filter": 4}
"""Entries of a table that nobody has written to: a policy for each built-in chain, and the end."""
REPLACE = struct.Struct("=32sIII5I5IIQ")
"""``struct ipt_replace`` before the entries: name, hooks, number, size, offsets, counters of the old entries."""
_libc = ctypes.CDLL(None, use_errno=True)


class Blob(NamedTuple):
    """A legacy table.

    :ivar counters: buffer for the counters of the table that is replaced; the kernel writes to it
    """

    family: int
    body: bytes
    counters: Any


class ReadyTables(NamedTuple):
    """What the tables of a namespace are made of: one of the two is empty."""

    blobs: tuple[Blob, ...] = ()
    transaction: bytes = b""


def ready(tables: Sequence[Table]) -> ReadyTables:
    """Make the bytes of the tables of a namespace, for the packet filter of this host."""
    filled = [table for table in tables if table.chains]
    if not filled:
        return ReadyTables()
    if HostFilter.backend == "nftables":
        return ReadyTables(transaction=_transaction(filled))
    return ReadyTables(tuple(in_new_namespace(lambda: _blobs(filled))))


def open_sockets(tables: ReadyTables) -> dict[int, socket.socket]:
    """Open what the tables are written through, in the thread's namespace."""
    if tables.transaction:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return {0: socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)}
    families = dict.fromkeys(blob.family for blob in tables.blobs)
    return {family: socket.socket(LEVELS[family][0], socket.SOCK_RAW, socket.IPPROTO_RAW) for family in families}


def write(tables: ReadyTables, sockets: dict[int, socket.socket], buffer: bytearray) -> None:
    """Write the tables.

    :raises OSError: the kernel refused one
    """
    if tables.transaction:
        sockets[0].send(tables.transaction)
        size = sockets[0].recv_into(buffer)
        code = struct.unpack_from("=i", buffer, HEADER.size)[0]
        if code:
            raise OSError(-code, f"floor: packet filter: {os.strerror(-code)} ({size} bytes)")
    for blob in tables.blobs:
        sock = sockets[blob.family].fileno()
        if _libc.setsockopt(sock, LEVELS[blob.family][1], SET_REPLACE, blob.body, len(blob.body)):
            raise OSError(ctypes.get_errno(), f"floor: packet filter: {os.strerror(ctypes.get_errno())}")
    for one in sockets.values():
        one.close()


def _transaction(tables: Sequence[Table]) -> bytes:
    requests: list[Request] = []
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        here = [table for table in tables if table.family == family]
        if here:
            empty = Ruleset(family)
            requests += changes(empty, with_tables(empty, here))
    last = requests[-1]
    requests[-1] = last._replace(flags=last.flags | NLM_F_ACK)
    packed = b""
    for number, request in enumerate((begin_transaction(None), *requests, end_transaction()), 1):
        flags = request.flags | NLM_F_REQUEST
        packed += HEADER.pack(HEADER.size + len(request.body), request.kind, flags, number, 0) + request.body
    return packed


def _blobs(tables: Sequence[Table]) -> list[Blob]:
    """Write tables in the thread's namespace, and read them back."""
    counters = WriteCounters()
    packet_filter = LibiptcManager(RealNamespaces(counters), counters)
    with packet_filter.defer_apply() as pending:
        for table in tables:
            pending.replace("", table)
    return [_blob(table.family, table.name) for table in tables]


def _blob(family: Family, name: str) -> Blob:
    af, level = LEVELS[family]
    with socket.socket(af, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        info = _get(sock, level, GET_INFO, name.encode().ljust(INFO.size, b"\0"))
        _, hooks, *offsets, number, size = INFO.unpack(info)
        asked = ENTRIES_HEADER.pack(name.encode(), size) + bytes(size)
        entries = _get(sock, level, GET_ENTRIES, asked)[ENTRIES_HEADER.size :]
    buffer = ctypes.create_string_buffer(16 * FRESH[name])
    head = REPLACE.pack(name.encode(), hooks, number, size, *offsets, FRESH[name], ctypes.addressof(buffer))
    return Blob(family, head + entries, buffer)


def _get(sock: socket.socket, level: int, option: int, asked: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(asked, len(asked))
    size = ctypes.c_uint32(len(asked))
    if _libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(size)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw
