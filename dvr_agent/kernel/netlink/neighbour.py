"""Permanent neighbour entries: RTM_…NEIGH messages (pyroute2's ``ndmsg``, ``include/uapi/linux/neighbour.h``).

The kernel has one table per family for all namespaces of the host, and for a dump walks over all of it, whatever the
dump asks for: with 1,000 routers 0.2 ms for each family.  So a family is read only where a device of ours has an
address of it (without one, entries have no effect), and who only wants to know that entries are there asks for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from socket import inet_aton
from struct import Struct

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ndmsg import NTF_PROXY, NUD_PERMANENT, ndmsg

from dvr_agent.kernel.netlink.address import decode_addresses, dump_addresses
from dvr_agent.kernel.netlink.handler import GONE, Handler, SliceReader, WriteContext
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, AF_OF_FAMILY, AF_UNSPEC, FAMILY_OF_AF, REPLACE, Request
from dvr_agent.kernel.netlink.schema import Data, Schema, positions
from dvr_agent.state.neighbour import NEIGHBOUR_KIND, Neighbour

NEIGHBOUR = Schema(ndmsg)
SINGLY_MAX = 64
"""Entries of one namespace that are asked for one by one; for more, a dump costs less."""

_BODY = NEIGHBOUR.size
"""Where the attributes begin."""
_head = NEIGHBOUR.head("family", "ifindex", "state")
_read_head = NEIGHBOUR.read_head("family", "ifindex", "state", "flags")
_dst, _lladdr, _ifindex = map(NEIGHBOUR.packer, ("NDA_DST", "NDA_LLADDR", "NDA_IFINDEX"))
_DST, _LLADDR = map(NEIGHBOUR.number, ("NDA_DST", "NDA_LLADDR"))
_read_dst, _read_lladdr = map(NEIGHBOUR.reader, ("NDA_DST", "NDA_LLADDR"))


_ipv4_attributes = Struct("=HH4sHH6s2x").pack
"""Both attributes of an IPv4 entry at once: a router may have thousands."""
_MAC_SIZE = 6


@lru_cache(maxsize=64)
def _permanent(family: int, index: int) -> bytes:
    return _head(family, index, NUD_PERMANENT)


def add_neighbour(neighbour: Neighbour, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip neighbour replace … nud permanent``: it replaces a learned entry, too."""
    dst, _device, mac = neighbour
    lladdr = bytes.fromhex(mac.replace(":", ""))
    if ":" in dst or len(lladdr) != _MAC_SIZE:
        body = _permanent(AF_OF_FAMILY[6 if ":" in dst else 4], index) + _dst(dst) + _lladdr(mac)
    else:
        body = _permanent(AF_INET, index) + _ipv4_attributes(8, _DST, inet_aton(dst), 10, _LLADDR, lladdr)
    return Request(RTM_NEWNEIGH, REPLACE, body, neighbour, tolerate)


def delete_neighbour(neighbour: Neighbour, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip neighbour delete``."""
    family = AF_OF_FAMILY[6 if ":" in neighbour.dst else 4]
    return Request(RTM_DELNEIGH, 0, _head(family, index, 0) + _dst(neighbour.dst), neighbour, tolerate)


@lru_cache(maxsize=64)
def dump_neighbours(index: int = 0, family: int = AF_UNSPEC) -> Request:
    """Return the request for all entries, or for those of one link; of one family, or of both."""
    body = _head(family, 0, 0) + (_ifindex(index) if index else b"")
    return Request(RTM_GETNEIGH, NLM_F_DUMP, body, "neighbours")


def get_neighbour(neighbour: Neighbour, index: int) -> Request:
    """Return the request for one entry, for :meth:`NetlinkSocket.get`; the kernel finds it by its hash."""
    family = AF_OF_FAMILY[6 if ":" in neighbour.dst else 4]
    return Request(RTM_GETNEIGH, 0, _head(family, index, 0) + _dst(neighbour.dst), neighbour, GONE)


def decode_neighbours(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Neighbour]:
    """Yield the permanent entries on the given devices, without proxy entries, from RTM_NEWNEIGH messages."""
    for data in messages:
        family, index, state, flags = _read_head(data, 0)
        if state != NUD_PERMANENT or flags & NTF_PROXY or index not in devices or family not in FAMILY_OF_AF:
            continue
        found = positions(data, _BODY)
        dst, mac = found.get(_DST, 0), found.get(_LLADDR, 0)
        if dst and mac:
            yield Neighbour(_read_dst(data, dst), devices[index], _read_lladdr(data, mac))


def decode_named_neighbour(data: Data, devices: Mapping[int, str]) -> tuple[Neighbour, bool] | None:
    """Return the entry that a notification is about, its MAC address empty where it has none, and if it is permanent.

    None for proxy entries, and entries on devices that are not given.
    """
    family, index, state, flags = _read_head(data, 0)
    found = positions(data, _BODY)
    dst, mac = found.get(_DST, 0), found.get(_LLADDR, 0)
    if flags & NTF_PROXY or index not in devices or family not in FAMILY_OF_AF or not dst:
        return None
    entry = Neighbour(_read_dst(data, dst), devices[index], _read_lladdr(data, mac) if mac else "")
    return entry, state == NUD_PERMANENT and bool(mac)


def _dump_ipv4(index: int) -> Request:
    return dump_neighbours(index, AF_INET)


def _dump_ipv6(index: int) -> Request:
    return dump_neighbours(index, AF_INET6)


def _read(reader: SliceReader) -> Iterable[Neighbour]:
    wanted = reader.neighbours
    if wanted is not None and len(wanted) <= SINGLY_MAX:
        return _read_singly(reader, wanted)
    return _read_all(reader)


def _read_singly(reader: SliceReader, wanted: Collection[Neighbour]) -> Iterable[Neighbour]:
    indexes = {name: index for index, name in reader.owned.items()}
    requests = [get_neighbour(one, indexes[one.device]) for one in wanted if one.device in indexes]
    answers = reader.sock.get(requests) if requests else ()
    return decode_neighbours([data for data in answers if data is not None], reader.owned)


def _read_all(reader: SliceReader) -> Iterable[Neighbour]:
    families = {":" in address.cidr for address in decode_addresses(reader.on_devices(dump_addresses), reader.owned)}
    for is_ipv6, dump in ((False, _dump_ipv4), (True, _dump_ipv6)):
        if is_ipv6 in families:
            yield from decode_neighbours(reader.on_devices(dump), reader.owned)


def _add(neighbours: Sequence[Neighbour], context: WriteContext) -> list[Request]:
    indexes = context.indexes
    return [add_neighbour(one, indexes[one.device]) for one in neighbours]


def _remove(neighbour: Neighbour, context: WriteContext) -> list[Request]:
    return [delete_neighbour(neighbour, context.indexes[neighbour.device], GONE)]


HANDLER = Handler(NEIGHBOUR_KIND, read=_read, add=_add, remove=_remove, reads_owned_only=True)
