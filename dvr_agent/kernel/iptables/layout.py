"""Memory layout of x_tables' tables, entries and extensions: numbers and sizes only, for IPv4 and IPv6.

Sources: ``x_tables.h``, ``ip_tables.h`` and ``ip6_tables.h`` below ``include/uapi/linux/netfilter*``; pyroute2 has no
x_tables, and python-iptables' structures are read through libiptc only.
A table as the kernel hands it out is a run of entries.  An entry is its IP part (what iptables calls the standard
matches), a header with sizes and counters, any matches, and one target.  Every chain ends with a policy entry; a chain
made by a user begins with an ``ERROR`` entry that carries its name, and one more ``ERROR`` entry ends the table.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Literal

from dvr_agent.state.filter import Family, Transport

ALIGN = 8
"""``XT_ALIGN`` on 64 bit machines: extension sizes are rounded up to it."""
EXTENSION = struct.Struct("=H29sB")
"""``struct xt_entry_match`` and ``xt_entry_target`` without data: size with data, name, revision."""
NAME_SIZE = 29
"""``XT_EXTENSION_MAXNAMELEN``; chain names share the field, so a chain's has at most 28 bytes (and a final zero)."""
CHAIN_NAME_MAX = NAME_SIZE - 1
IFNAME_MAX = 15
"""``IFNAMSIZ`` without the final zero."""
IFNAME_FIELD = 16

ERROR = "ERROR"
STANDARD = ""
"""Name of the target that carries a verdict or a jump."""
VERDICTS: dict[int, Literal["ACCEPT", "DROP", "RETURN"]] = {-1: "DROP", -2: "ACCEPT", -5: "RETURN"}
"""A standard target's number: ``-NF_DROP - 1``, ``-NF_ACCEPT - 1``, ``XT_RETURN``; zero and up is a jump offset."""

HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
"""Built-in chains by hook number (``enum nf_inet_hooks``)."""
BUILTINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": HOOKS,
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The tables we may write to, in the order in which a packet meets them, and their built-in chains."""

GET_INFO, GET_ENTRIES = 64, 65
"""``IPT_SO_GET_INFO`` and ``IPT_SO_GET_ENTRIES``; the numbers of IPv6 are the same."""
INFO = struct.Struct("=32sI5I5III")
"""``struct ipt_getinfo``: name, valid hooks, 5 hook offsets, 5 underflow offsets, number of entries, size."""
ENTRIES_HEADER = struct.Struct("=32sI4x")
"""``struct ipt_get_entries`` before the entries: name, size."""

PROTOCOLS: dict[Transport, int] = {
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": socket.IPPROTO_SCTP,
    "dccp": 33,  # socket has no name for it
}

INV_IIF, INV_OIF, INV_SRC, INV_DST = 0x01, 0x02, 0x08, 0x10
"""``IPT_INV_VIA_IN`` and so on."""


@dataclass(frozen=True)
class Layout:
    """Layout of one family's ``struct ipt_entry`` or ``ip6t_entry``.

    :ivar ip: IP part up to the interface masks: source, destination, their masks, two interfaces, their masks
    :ivar ip_size: size of the whole IP part
    :ivar offsets_at: offset of ``target_offset`` and ``next_offset``
    :ivar counters_at: offset of the packet and byte counters, which end the header
    :ivar header_size: size of the entry without matches and target
    :ivar level: for getsockopt(2)
    :ivar names: file below ``/proc/net`` with the names of the tables that a namespace has
    """

    family: Family
    address_family: int
    address_size: int
    ip: struct.Struct
    ip_size: int
    offsets_at: int
    counters_at: int
    header_size: int
    level: int
    names: str


V4 = Layout(4, socket.AF_INET, 4, struct.Struct("=4s4s4s4s16s16s16s16sHBB"), 84, 88, 96, 112, 0, "ip_tables_names")
V6 = Layout(
    6, socket.AF_INET6, 16, struct.Struct("=16s16s16s16s16s16s16s16sHBBB3x"), 136, 140, 152, 168, 41, "ip6_tables_names"
)
LAYOUTS: dict[Family, Layout] = {4: V4, 6: V6}

OFFSETS = struct.Struct("=HH")
"""``target_offset`` (start of the target) and ``next_offset`` (size of the entry), both from the entry's start."""
IP6T_F_PROTO = 0x01
"""An IPv6 entry compares the protocol only with this flag."""


def aligned(size: int) -> int:
    """Round a size up as ``XT_ALIGN`` does."""
    return -(-size // ALIGN) * ALIGN


def extension(name: str, revision: int, data: bytes) -> bytes:
    """Pack a match or target with its header."""
    size = aligned(len(data))
    return EXTENSION.pack(EXTENSION.size + size, name.encode(), revision) + data.ljust(size, b"\0")
