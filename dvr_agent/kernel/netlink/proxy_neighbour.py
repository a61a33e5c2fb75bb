"""Proxied IPv6 neighbours: RTM_…NEIGH messages with NTF_PROXY (pyroute2's ``ndmsg``, net/core/neighbour.c).

The kernel has one table of them for all namespaces of the host, apart from that of other neighbours, and tells no
events of changes.  It is read for slices that own proxied neighbours only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ndmsg import NTF_PROXY

from dvr_agent.kernel.netlink.handler import GONE, NO_DEVICE, Handler, SliceReader, WriteContext
from dvr_agent.kernel.netlink.link import decode_brief, get_link
from dvr_agent.kernel.netlink.message import AF_INET6, CREATE, Request
from dvr_agent.kernel.netlink.neighbour import NEIGHBOUR
from dvr_agent.kernel.netlink.schema import Data, positions
from dvr_agent.state.proxy_neighbour import PROXY_NEIGHBOUR_KIND, ProxyNeighbour

_BODY = NEIGHBOUR.size
"""Where the attributes begin."""
_head = NEIGHBOUR.head("family", "ifindex", "flags")
_read_head = NEIGHBOUR.read_head("family", "ifindex", "flags")
_dst = NEIGHBOUR.packer("NDA_DST")
_DST = NEIGHBOUR.number("NDA_DST")
_read_dst = NEIGHBOUR.reader("NDA_DST")


def add_proxy_neighbour(proxy: ProxyNeighbour, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip -6 neighbour add proxy``; the kernel takes an entry that is there as done."""
    return Request(RTM_NEWNEIGH, CREATE, _body(proxy, index), proxy, tolerate)


def delete_proxy_neighbour(proxy: ProxyNeighbour, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip -6 neighbour delete proxy``."""
    return Request(RTM_DELNEIGH, 0, _body(proxy, index), proxy, tolerate)


def _body(proxy: ProxyNeighbour, index: int) -> bytes:
    return _head(AF_INET6, index, NTF_PROXY) + _dst(proxy.dst)


def dump_proxy_neighbours() -> Request:
    """Return the request for all IPv6 entries of a namespace."""
    return Request(RTM_GETNEIGH, NLM_F_DUMP, _head(AF_INET6, 0, NTF_PROXY), "proxied neighbours")


def decode_proxy_neighbours(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[ProxyNeighbour]:
    """Yield the entries on the given devices from RTM_NEWNEIGH messages."""
    for data in messages:
        family, index, flags = _read_head(data, 0)
        dst = positions(data, _BODY).get(_DST, 0)
        if family == AF_INET6 and flags & NTF_PROXY and index in devices and dst:
            yield ProxyNeighbour(_read_dst(data, dst), devices[index])


def _read(reader: SliceReader) -> Iterable[ProxyNeighbour]:
    if not reader.ownership.proxied:
        return ()
    found = reader.sock.dump(dump_proxy_neighbours())
    names = dict(reader.names)
    unknown = {index for _family, index, _flags in (_read_head(data, 0) for data in found)} - names.keys()
    if unknown:  # a slice of a shared namespace has read its own devices only
        answers = reader.sock.get([get_link(index, NO_DEVICE) for index in sorted(unknown)])
        links = [decode_brief(data) for data in answers if data is not None]
        names |= {link.ifindex: link.name for link in links}
    return decode_proxy_neighbours(found, names)


def _add(proxies: Sequence[ProxyNeighbour], context: WriteContext) -> list[Request]:
    return [add_proxy_neighbour(proxy, context.indexes[proxy.device]) for proxy in proxies]


def _remove(proxy: ProxyNeighbour, context: WriteContext) -> list[Request]:
    return [delete_proxy_neighbour(proxy, context.indexes[proxy.device], GONE)]


HANDLER = Handler(PROXY_NEIGHBOUR_KIND, read=_read, add=_add, remove=_remove)
