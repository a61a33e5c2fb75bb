"""Routes: RTM_…ROUTE messages (pyroute2's ``rtmsg``, ``include/uapi/linux/rtnetlink.h``).

Covers the routes that :class:`~dvr_agent.state.route.Route` describes: unicast, protocol static or boot, default
metric.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from pyroute2.netlink import NLM_F_CREATE, NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, rt_proto, rt_scope, rt_type
from pyroute2.netlink.rtnl.rtmsg import IP6_RT_PRIO_USER, RTNH_F_ONLINK, nh, rtmsg

from dvr_agent.kernel.netlink.handler import EXISTS, GONE, NO_DEVICE, Handler, Instead, SliceReader, WriteContext
from dvr_agent.kernel.netlink.link import get_link, index_and_name
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, CREATE, REPLACE, Request, split_cidr
from dvr_agent.kernel.netlink.protocol import protocol_name
from dvr_agent.kernel.netlink.schema import Data, Schema, attributes, payload, positions
from dvr_agent.state.route import MAIN_TABLE, ROUTE_KIND, Hop, Route, make_route

ROUTE, HOP = Schema(rtmsg), Schema(nh)
RT_TABLE_UNSPEC = 0
"""In a dump: of all tables (include/uapi/linux/rtnetlink.h; not in pyroute2)."""
PROTO_UNSPEC, PROTO_KERNEL, PROTO_STATIC = rt_proto["unspec"], rt_proto["kernel"], rt_proto["static"]
OURS = (PROTO_STATIC, rt_proto["boot"])
"""Protocols of routes that can be ours."""
ANY_TYPE, UNICAST = rt_type["unspec"], rt_type["unicast"]
SCOPE_UNIVERSE, SCOPE_LINK = rt_scope["universe"], rt_scope["link"]
RTM_F_CLONED = 0x200
"""The kernel made the route of another one (include/uapi/linux/rtnetlink.h; not in pyroute2)."""
METRIC = {AF_INET: 0, AF_INET6: IP6_RT_PRIO_USER}
"""The metric that the kernel gives to a route which is added without one."""
_ANY = {AF_INET: "0.0.0.0", AF_INET6: "::"}

_BODY = ROUTE.size
"""Where the attributes begin."""
_head = ROUTE.head("family", "dst_len", "table", "proto", "scope", "type", "flags")
_read_head = ROUTE.read_head("family", "dst_len", "src_len", "tos", "table", "type", "flags")
_read_kind = ROUTE.read_head("type")
_proto = ROUTE.offset("proto")
_dst_len = ROUTE.offset("dst_len")
_dst, _oif, _gateway, _priority, _table = map(
    ROUTE.packer, ("RTA_DST", "RTA_OIF", "RTA_GATEWAY", "RTA_PRIORITY", "RTA_TABLE")
)
_multipath = ROUTE.nest("RTA_MULTIPATH")
_ipv6_metric = _priority(METRIC[AF_INET6])
_DST, _OIF, _GATEWAY, _PRIORITY, _TABLE, _MULTIPATH, _VIA, _ENCAP = map(
    ROUTE.number,
    ("RTA_DST", "RTA_OIF", "RTA_GATEWAY", "RTA_PRIORITY", "RTA_TABLE", "RTA_MULTIPATH", "RTA_VIA", "RTA_ENCAP"),
)
_read_ip, _read_number = ROUTE.reader("RTA_GATEWAY"), ROUTE.reader("RTA_OIF")
_hop_head, _read_hop = HOP.head("length", "flags", "oif"), HOP.read_head("length", "flags", "oif")


def add_route(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip route add … proto static``.

    EEXIST: a route with this destination, table and metric is there.

    :raises KeyError: a hop's device is not in ``indexes``
    """
    return Request(RTM_NEWROUTE, CREATE, _body(route, indexes, PROTO_STATIC), route, tolerate)


def prepend_route(route: Route, indexes: Mapping[str, int]) -> Request:
    """Return the request of ``ip route prepend``: before other IPv4 routes of the destination, table and metric."""
    return Request(RTM_NEWROUTE, NLM_F_CREATE, _body(route, indexes, PROTO_STATIC), route)


def replace_route(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip route replace``: no packet falls between the old and the new hops."""
    return Request(RTM_NEWROUTE, REPLACE, _body(route, indexes, PROTO_STATIC), route, tolerate)


def delete_route(
    route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset(), protocol: int = PROTO_UNSPEC
) -> Request:
    """Return the request that deletes exactly this route, of any protocol or of one."""
    return Request(RTM_DELROUTE, 0, _body(route, indexes, protocol), route, tolerate)


@lru_cache(maxsize=64)
def dump_routes(
    family: int,
    table: int = RT_TABLE_UNSPEC,
    index: int = 0,
    tolerate: frozenset[int] = frozenset(),
    kind: int = UNICAST,
) -> Request:
    """Return the request for the routes of a family.

    The kernel filters by table and by device of a hop where they are given, and by type.  ENOENT: there is no such
    table.
    """
    body = _head(family, 0, _short(table), PROTO_UNSPEC, SCOPE_UNIVERSE, kind, 0)
    if table:
        body += _table(table)
    if index:
        body += _oif(index)
    return Request(RTM_GETROUTE, NLM_F_DUMP, body, "routes", tolerate)


def decode_routes(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Route]:
    """Yield the routes that can be ours and whose hops all use one of the given devices, from RTM_NEWROUTE messages."""
    for data in messages:
        if data[_proto] in OURS:  # most routes are the kernel's
            route = _decode(data, devices)
            if route is not None:
                yield route


def decode_replaced(data: Data) -> Iterable[Route]:
    """Yield the place of a route that another one has replaced, without hops: the new one may be of any kind."""
    family, length, _src_len, _tos, table, _kind, _flags = _read_head(data, 0)
    if family not in METRIC:
        return
    found = positions(data, _BODY)
    if at := found.get(_TABLE, 0):
        table = _read_number(data, at)
    dst = _read_ip(data, at) if (at := found.get(_DST, 0)) else _ANY[family]
    yield Route(f"{dst}/{length}", table, ())


def first_in_place(messages: Iterable[Data], network: str, priority: int) -> Data | None:
    """Return the first route with a destination and a metric: the one that the kernel uses.

    :param messages: RTM_NEWROUTE messages of the destination's family and of one table, in the kernel's order
    """
    family, dst, length = split_cidr(network)
    for data in messages:
        found = positions(data, _BODY)
        at, metric = found.get(_DST, 0), found.get(_PRIORITY, 0)
        same = data[_dst_len] == length and (_read_ip(data, at) if at else _ANY[family]) == dst
        if same and (_read_number(data, metric) if metric else 0) == priority:
            return data
    return None


def replaced_text(data: Data) -> str:
    """Return what a route of another program is called that is replaced."""
    kind, protocol = rt_type.get(_read_kind(data, 0)[0], "unknown"), rt_proto.get(data[_proto], data[_proto])
    return f"a route of type {kind} and protocol {protocol}"


def hop_indexes(data: Data) -> list[int]:
    """Return the indexes of the devices that one RTM_NEWROUTE message uses."""
    found = []
    for which, start, end in attributes(data, _BODY):
        if which == _OIF:
            found.append(_read_number(data, start - 4))
        elif which == _MULTIPATH:
            while start + HOP.size <= end:
                size, _flags, index = _read_hop(data, start)
                found.append(index)
                start += max(HOP.size, (size + 3) & ~3)
    return found


def _short(table: int) -> int:
    """Return the table's number for the header, which has 8 bits; RTA_TABLE carries greater numbers."""
    return table if table < 256 else RT_TABLE_UNSPEC


def decode_protocol(data: Data) -> str:
    """Return the protocol of a route, see :func:`protocol_name`."""
    return protocol_name(data[_proto])


def _body(route: Route, indexes: Mapping[str, int], protocol: int) -> bytes:
    dst, table, hops = route
    family, address, length = split_cidr(dst)
    found = tuple([indexes[hop.device] for hop in hops])
    head, rest = _around_destination(family, length, table, hops, found, protocol)
    return head + _dst(address) + rest if length else head + rest


@lru_cache(maxsize=64)
def _around_destination(
    family: int, length: int, table: int, hops: tuple[Hop, ...], indexes: tuple[int, ...], protocol: int
) -> tuple[bytes, bytes]:
    """Return what is before and behind the destination in a request: a router may have thousands that share it.

    :param indexes: of the devices of the hops
    """
    direct = family == AF_INET and all(hop.gateway is None for hop in hops)
    scope = SCOPE_LINK if direct else SCOPE_UNIVERSE
    rest = _table(table)
    if family == AF_INET6:
        rest += _ipv6_metric
    flags = 0
    if len(hops) == 1:
        gateway, _device, onlink = hops[0]
        rest += _oif(indexes[0])
        if gateway is not None:
            rest += _gateway(gateway)
        flags = RTNH_F_ONLINK if onlink else 0
    else:
        rest += _multipath(_hops(hops, indexes))
    return _head(family, length, _short(table), protocol, scope, UNICAST, flags), rest


def _hops(hops: Sequence[Hop], indexes: Sequence[int]) -> bytes:
    packed = b""
    for (gateway, _device, onlink), index in zip(hops, indexes, strict=True):
        via = _gateway(gateway) if gateway is not None else b""
        packed += _hop_head(HOP.size + len(via), RTNH_F_ONLINK if onlink else 0, index) + via
    return packed


def _decode(data: Data, devices: Mapping[int, str]) -> Route | None:
    family, length, src_len, tos, table, kind, flags = _read_head(data, 0)
    if kind != UNICAST or tos or src_len or flags & RTM_F_CLONED or family not in METRIC:
        return None
    found = positions(data, _BODY)
    if _VIA in found or _ENCAP in found:
        return None
    if (_read_number(data, at) if (at := found.get(_PRIORITY, 0)) else 0) != METRIC[family]:
        return None
    if at := found.get(_TABLE, 0):
        table = _read_number(data, at)
    dst = _read_ip(data, at) if (at := found.get(_DST, 0)) else _ANY[family]
    network = f"{dst}/{length}"
    if at := found.get(_MULTIPATH, 0):
        hops = _decode_hops(data, at + 4, at + 4 + len(payload(data, at)), devices)
        return make_route(network, table, *hops) if hops else None
    device = devices.get(_read_number(data, at) if (at := found.get(_OIF, 0)) else 0)
    if device is None:
        return None
    gateway = _read_ip(data, at) if (at := found.get(_GATEWAY, 0)) else None
    return Route(network, table, (Hop(gateway, device, bool(flags & RTNH_F_ONLINK)),))


def _decode_hops(data: Data, start: int, end: int, devices: Mapping[int, str]) -> tuple[Hop, ...] | None:
    """Decode the hops of RTA_MULTIPATH; None if one uses another device, or :class:`Hop` cannot describe it."""
    hops = []
    while start + HOP.size <= end:
        size, flags, index = _read_hop(data, start)
        if size < HOP.size or index not in devices:
            return None
        gateway = None
        for which, begin, _stop in attributes(data, start + HOP.size, start + size):
            if which == _GATEWAY:
                gateway = _read_ip(data, begin - 4)
            elif which in (_VIA, _ENCAP):
                return None
        hops.append(Hop(gateway, devices[index], bool(flags & RTNH_F_ONLINK)))
        start += (size + 3) & ~3
    return tuple(hops)


_FAMILIES = (AF_INET, AF_INET6)
_NO_TABLE = frozenset({errno.ENOENT})


def _read(reader: SliceReader) -> Iterable[Route]:
    sock = reader.sock
    if reader.whole:
        messages = [data for family in _FAMILIES for data in sock.dump(dump_routes(family))]
    else:
        table = MAIN_TABLE if reader.ownership.main_only else RT_TABLE_UNSPEC
        gone = _NO_TABLE | NO_DEVICE
        requests = [dump_routes(family, table, index, gone) for family in _FAMILIES for index in reader.names]
        messages = [data for request in requests for data in sock.dump(request)]
        messages += _read_tables(reader)
    reader.routes = messages
    return decode_routes(messages, reader.names)


def _read_tables(reader: SliceReader) -> list[Data]:
    """Dump the tables that the slice owns, and ask for the names of further devices that their routes use."""
    sock, names = reader.sock, reader.names
    tables = sorted(reader.ownership.tables)
    requests = [dump_routes(family, table, 0, _NO_TABLE) for family in _FAMILIES for table in tables]
    messages = [data for request in requests for data in sock.dump(request)]
    unknown = {index for data in messages for index in hop_indexes(data)} - names.keys()
    answers = sock.get([get_link(index, NO_DEVICE) for index in sorted(unknown)])
    names.update(index_and_name(data) for data in answers if data is not None)
    return messages


def _add(routes: Sequence[Route], context: WriteContext) -> list[Request]:
    indexes = context.indexes
    return [add_route(route, indexes, EXISTS) for route in routes]


def _change(route: Route, context: WriteContext) -> list[Request]:
    return [replace_route(route, context.indexes)]


def _remove(route: Route, context: WriteContext) -> list[Request]:
    """Remove what is left of the route: the kernel has dropped hops by devices that are gone.

    Without a protocol the connected route of the device, which is the same but for it, could be removed instead.
    """
    left = tuple(hop for hop in route.hops if hop.device in context.indexes)
    is_as_connected = ":" not in route.dst and len(left) == 1 and left[0].gateway is None
    protocols = OURS if is_as_connected else (PROTO_UNSPEC,)
    return [delete_route(route._replace(hops=left), context.indexes, GONE, protocol) for protocol in protocols]


def _dump_table(route: Route, _context: WriteContext) -> Request:
    return dump_routes(AF_INET6 if ":" in route.dst else AF_INET, route.table, kind=ANY_TYPE)


def _instead(route: Route, _refused: Request, found: Sequence[Data], context: WriteContext) -> Instead:
    """Replace what another program has put there; put the route before the kernel's, whose address is removed later.

    The kernel's are connected IPv4 routes for the same subnet; connected IPv6 routes have a metric of their own.
    """
    first = first_in_place(found, route.dst, METRIC[AF_INET6 if ":" in route.dst else AF_INET])
    if first is None:
        return Instead()
    if first[_proto] == PROTO_KERNEL and ":" not in route.dst:
        return Instead([prepend_route(route, context.indexes)])
    return Instead([replace_route(route, context.indexes)], replaced_text(first))


HANDLER = Handler(
    ROUTE_KIND,
    read=_read,
    add=_add,
    remove=_remove,
    change=_change,
    dump_place=_dump_table,
    decode_place=decode_routes,
    instead=_instead,
)
