"""Neighbour entries: ``struct ndmsg`` with attributes (``include/uapi/linux/neighbour.h``).  Only permanent ones."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from dvr_agent.kernel.netlink.message import (
    AF_OF_FAMILY,
    AF_UNSPEC,
    FAMILY_OF_AF,
    NLM_F_DUMP,
    REPLACE,
    Data,
    Request,
    attr,
    attr_u32,
    ip_bytes,
    ip_text,
    mac_bytes,
    mac_text,
    positions,
)
from dvr_agent.state.neighbour import Neighbour

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
NUD_PERMANENT = 0x80
NTF_PROXY = 0x08

_INFO = struct.Struct("=BxHiHBB")
"""struct ndmsg: family, index, state, flags, type."""
_SIZE = struct.Struct("=H").unpack_from


def add_neighbour(neighbour: Neighbour, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """``ip neighbour replace … nud permanent``: also in place of one the kernel learned itself."""
    family = AF_OF_FAMILY[6 if ":" in neighbour.dst else 4]
    body = _INFO.pack(family, 0, index, NUD_PERMANENT, 0, 0)
    body += attr(NDA_DST, ip_bytes(neighbour.dst)) + attr(NDA_LLADDR, mac_bytes(neighbour.mac))
    return Request(RTM_NEWNEIGH, REPLACE, body, neighbour, tolerate)


def delete_neighbour(neighbour: Neighbour, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    family = AF_OF_FAMILY[6 if ":" in neighbour.dst else 4]
    body = _INFO.pack(family, 0, index, 0, 0, 0) + attr(NDA_DST, ip_bytes(neighbour.dst))
    return Request(RTM_DELNEIGH, 0, body, neighbour, tolerate)


@lru_cache(maxsize=64)
def dump_neighbours(index: int = 0) -> Request:
    """All entries of both families, or those of one link."""
    body = _INFO.pack(AF_UNSPEC, 0, 0, 0, 0, 0) + (attr_u32(NDA_IFINDEX, index) if index else b"")
    return Request(RTM_GETNEIGH, NLM_F_DUMP, body, "neighbours")


def decode_neighbours(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Neighbour]:
    """Of RTM_NEWNEIGH messages the permanent entries on the given devices; proxy entries are something else."""
    for data in messages:
        family, _pad, index, state, flags, _type = _INFO.unpack_from(data)
        if state != NUD_PERMANENT or flags & NTF_PROXY or index not in devices or family not in FAMILY_OF_AF:
            continue
        found = positions(data, 12)
        dst, mac = found.get(NDA_DST, 0), found.get(NDA_LLADDR, 0)
        if dst and mac:
            address = data[dst + 4 : dst + _SIZE(data, dst)[0]]
            yield Neighbour(ip_text(address), devices[index], mac_text(data[mac + 4 : mac + _SIZE(data, mac)[0]]))
