"""Routes: ``struct rtmsg`` with attributes (``include/uapi/linux/rtnetlink.h``).

Only what :class:`~dvr_agent.state.route.Route` can say: unicast, protocol static or boot, the family's own metric.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from dvr_agent.kernel.netlink.message import (
    AF_INET,
    AF_INET6,
    CREATE,
    NLM_F_CREATE,
    NLM_F_DUMP,
    REPLACE,
    Data,
    Request,
    attr,
    attr_u32,
    attributes,
    ip_bytes,
    ip_text,
    positions,
    split_cidr,
    u32,
)
from dvr_agent.state.route import Hop, Route, make_route

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 1, 2, 4, 5, 6, 9, 15
RTA_VIA, RTA_ENCAP = 18, 22
RT_TABLE_UNSPEC = 0
RTPROT_UNSPEC, RTPROT_KERNEL, RTPROT_BOOT, RTPROT_STATIC = 0, 2, 3, 4
OURS = (RTPROT_STATIC, RTPROT_BOOT)
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTN_UNSPEC, RTN_UNICAST = 0, 1
RTNH_F_ONLINK = 4
RTM_F_CLONED = 0x200
METRIC = {AF_INET: 0, AF_INET6: 1024}
"""What the kernel gives a route that asks for none (IP6_RT_PRIO_USER is 1024)."""

_INFO = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
_HOP = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, weight - 1, index."""
_SIZE = struct.Struct("=H").unpack_from
_ANY = {AF_INET: "0.0.0.0", AF_INET6: "::"}


def add_route(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """``ip route add … proto static``.  EEXIST: one with this destination, table and metric is there.

    :raises KeyError: a hop's device is not in ``indexes``
    """
    return Request(RTM_NEWROUTE, CREATE, _body(route, indexes, RTPROT_STATIC), route, tolerate)


def prepend_route(route: Route, indexes: Mapping[str, int]) -> Request:
    """``ip route prepend … proto static``: an IPv4 route before others with its destination, table and metric."""
    return Request(RTM_NEWROUTE, NLM_F_CREATE, _body(route, indexes, RTPROT_STATIC), route)


def replace_route(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """``ip route replace … proto static``: no packet falls between the old and the new hops."""
    return Request(RTM_NEWROUTE, REPLACE, _body(route, indexes, RTPROT_STATIC), route, tolerate)


def delete_route(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """Exactly this route, of whatever protocol."""
    return Request(RTM_DELROUTE, 0, _body(route, indexes, RTPROT_UNSPEC), route, tolerate)


@lru_cache(maxsize=64)
def dump_routes(
    family: int, table: int = RT_TABLE_UNSPEC, index: int = 0, tolerate: frozenset[int] = frozenset()
) -> Request:
    """The routes of a family; the kernel filters by table and by device of a hop where they are given.

    ENOENT: there is no such table.
    """
    body = _INFO.pack(family, 0, 0, 0, table if table < 256 else 0, 0, 0, RTN_UNICAST, 0)
    if table:
        body += attr_u32(RTA_TABLE, table)
    if index:
        body += attr_u32(RTA_OIF, index)
    return Request(RTM_GETROUTE, NLM_F_DUMP, body, "routes", tolerate)


def _body(route: Route, indexes: Mapping[str, int], protocol: int) -> bytes:
    family, dst, length = split_cidr(route.dst)
    hops = route.hops
    direct = family == AF_INET and all(hop.gateway is None for hop in hops)
    scope = RT_SCOPE_LINK if direct else RT_SCOPE_UNIVERSE
    body = attr(RTA_DST, dst) if length else b""
    body += attr_u32(RTA_TABLE, route.table)
    if family == AF_INET6:
        body += attr_u32(RTA_PRIORITY, METRIC[AF_INET6])
    flags = 0
    if len(hops) == 1:
        gateway, device, onlink = hops[0]
        body += attr_u32(RTA_OIF, indexes[device])
        if gateway is not None:
            body += attr(RTA_GATEWAY, ip_bytes(gateway))
        flags = RTNH_F_ONLINK if onlink else 0
    else:
        body += attr(RTA_MULTIPATH, _hops(hops, indexes))
    table = route.table if route.table < 256 else 0
    return _INFO.pack(family, length, 0, 0, table, protocol, scope, RTN_UNICAST, flags) + body


def _hops(hops: Sequence[Hop], indexes: Mapping[str, int]) -> bytes:
    packed = b""
    for gateway, device, onlink in hops:
        via = attr(RTA_GATEWAY, ip_bytes(gateway)) if gateway is not None else b""
        packed += _HOP.pack(8 + len(via), RTNH_F_ONLINK if onlink else 0, 0, indexes[device]) + via
    return packed


def decode_routes(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Route]:
    """Of RTM_NEWROUTE messages those that can be ours and whose hops all use one of the given devices."""
    for data in messages:
        if data[5] in OURS:  # rtm_protocol; most routes are the kernel's
            route = _decode(data, devices)
            if route is not None:
                yield route


def is_connected_only(messages: Iterable[Data], route: Route) -> bool:
    """True if every IPv4 route with the destination and metric of ``route`` is the kernel's own, of an address.

    :param messages: RTM_NEWROUTE messages of the route's table
    """
    _, dst, length = split_cidr(route.dst)
    protocols = set()
    for data in messages:
        found = positions(data, 12)
        at, metric = found.get(RTA_DST, 0), found.get(RTA_PRIORITY, 0)
        same = data[1] == length and at and bytes(data[at + 4 : at + _SIZE(data, at)[0]]) == dst
        if same and not (metric and u32(data, metric + 4)):
            protocols.add(data[5])
    return protocols == {RTPROT_KERNEL}


def hop_indexes(data: Data) -> list[int]:
    """Indexes of the devices that one RTM_NEWROUTE message uses."""
    found = []
    for which, start, end in attributes(data, 12):
        if which == RTA_OIF:
            found.append(u32(data, start))
        elif which == RTA_MULTIPATH:
            while start + 8 <= end:
                size, _flags, _weight, index = _HOP.unpack_from(data, start)
                found.append(index)
                start += max(8, (size + 3) & ~3)
    return found


def _decode(data: Data, devices: Mapping[int, str]) -> Route | None:
    family, length, src_len, tos, table, _protocol, _scope, kind, flags = _INFO.unpack_from(data)
    if kind != RTN_UNICAST or tos or src_len or flags & RTM_F_CLONED or family not in METRIC:
        return None
    found = positions(data, 12)
    if RTA_VIA in found or RTA_ENCAP in found:
        return None
    if (u32(data, at + 4) if (at := found.get(RTA_PRIORITY, 0)) else 0) != METRIC[family]:
        return None
    if at := found.get(RTA_TABLE, 0):
        table = u32(data, at + 4)
    dst = ip_text(data[at + 4 : at + _SIZE(data, at)[0]]) if (at := found.get(RTA_DST, 0)) else _ANY[family]
    network = f"{dst}/{length}"
    if at := found.get(RTA_MULTIPATH, 0):
        hops = _decode_hops(data, at + 4, at + _SIZE(data, at)[0], devices)
        return make_route(network, table, *hops) if hops else None
    device = devices.get(u32(data, at + 4) if (at := found.get(RTA_OIF, 0)) else 0)
    if device is None:
        return None
    gateway = ip_text(data[at + 4 : at + _SIZE(data, at)[0]]) if (at := found.get(RTA_GATEWAY, 0)) else None
    return Route(network, table, (Hop(gateway, device, bool(flags & RTNH_F_ONLINK)),))


def _decode_hops(data: Data, start: int, end: int, devices: Mapping[int, str]) -> tuple[Hop, ...] | None:
    """None: a hop is by another device, or of a kind :class:`Hop` has no word for."""
    hops = []
    while start + 8 <= end:
        size, flags, _weight, index = _HOP.unpack_from(data, start)
        if size < 8 or index not in devices:
            return None
        gateway = None
        for which, begin, stop in attributes(data, start + 8, start + size):
            if which == RTA_GATEWAY:
                gateway = ip_text(data[begin:stop])
            elif which in (RTA_VIA, RTA_ENCAP):
                return None
        hops.append(Hop(gateway, devices[index], bool(flags & RTNH_F_ONLINK)))
        start += (size + 3) & ~3
    return tuple(hops)
