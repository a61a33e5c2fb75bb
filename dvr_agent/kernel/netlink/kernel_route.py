"""Routes that the kernel makes with an address: which of them are lost, and the requests that add them again.

fib_add_ifaddr in net/ipv4/fib_frontend.c; addrconf_prefix_route and ipv6_add_addr in net/ipv6/addrconf.c.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_network

from pyroute2.netlink import NLM_F_APPEND, NLM_F_CREATE
from pyroute2.netlink.rtnl import RTM_NEWROUTE, rt_scope, rt_type
from pyroute2.netlink.rtnl.ifaddrmsg import (
    IFA_F_DADFAILED,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFA_F_SECONDARY,
    IFA_F_TENTATIVE,
    ifaddrmsg,
)
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dvr_agent.kernel.netlink.address import add_address, delete_address, dump_addresses
from dvr_agent.kernel.netlink.handler import EXISTS, GONE, Handler, Instead, SliceReader, WriteContext
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, CREATE, REPLACE, Request, split_cidr
from dvr_agent.kernel.netlink.route import PROTO_KERNEL, UNICAST, dump_routes, first_in_place, replaced_text
from dvr_agent.kernel.netlink.schema import Data, Schema, positions
from dvr_agent.state.address import Address
from dvr_agent.state.kernel_route import KERNEL_ROUTE_KIND, KernelRoute
from dvr_agent.state.route import MAIN_TABLE

ADDRESS, ROUTE = Schema(ifaddrmsg), Schema(rtmsg)
LOCAL_TABLE = 255
"""RT_TABLE_LOCAL (include/uapi/linux/rtnetlink.h)."""
METRIC = {AF_INET: 0, AF_INET6: 256}
"""The metric of a connected route; of IPv6 IP6_RT_PRIO_ADDRCONF (include/net/ip6_fib.h)."""
LOCAL = rt_type["local"]

_read_address_head = ADDRESS.read_head("family", "prefixlen", "flags", "index")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = map(ADDRESS.number, ("IFA_ADDRESS", "IFA_LOCAL", "IFA_FLAGS"))
_read_ip, _read_flags = ADDRESS.reader("IFA_ADDRESS"), ADDRESS.reader("IFA_FLAGS")
_STATE = IFA_F_PERMANENT | IFA_F_TENTATIVE | IFA_F_DADFAILED
"""Flags of which an IPv6 address that counts has the first alone: it was not learned, and no duplicate was found."""

_head = ROUTE.head("family", "dst_len", "table", "proto", "scope", "type")
_read_route_head = ROUTE.read_head("family", "dst_len", "table", "proto", "type")
_dst, _prefsrc, _oif, _priority = map(ROUTE.packer, ("RTA_DST", "RTA_PREFSRC", "RTA_OIF", "RTA_PRIORITY"))
_DST, _PREFSRC, _OIF, _METRIC = map(ROUTE.number, ("RTA_DST", "RTA_PREFSRC", "RTA_OIF", "RTA_PRIORITY"))
_read_index = ROUTE.reader("RTA_OIF")

# Where a kernel has the values of nearly all such messages; what is not found by them is decoded.
_v4_address = struct.Struct("=xBBxI8x4xI").unpack_from
"""Prefix length, flags, index; behind IFA_ADDRESS the value of IFA_LOCAL."""
_v6_address = struct.Struct("=xBBxI4xQQ").unpack_from
"""Prefix length, flags, index, IFA_ADDRESS."""
_v4_route = struct.Struct("=xB30xI4xI").unpack_from
"""Prefix length; behind RTA_TABLE and RTA_DST the values of RTA_PREFSRC and RTA_OIF."""
_v6_route = struct.Struct("=xB22xQQ12xI").unpack_from
"""Prefix length; behind RTA_TABLE RTA_DST; behind RTA_PRIORITY the value of RTA_OIF."""
_IPV6 = struct.Struct("=QQ")
_proto, _table = ROUTE.offset("proto"), ROUTE.offset("table")

_Key = tuple[int, ...]
"""What address and connected route have in common: prefix length, address (IPv4) or subnet (IPv6), index."""


# --- which are lost ------------------------------------------------------------------------------------------------


def find_lost(reader: SliceReader, up: Collection[int]) -> frozenset[KernelRoute]:
    """Return the connected routes that addresses of the slice should have and have not.

    :param up: indexes of the devices that are up, without which there are no such routes
    """
    addresses = reader.on_devices(dump_addresses)
    try:
        suspects = _suspects(addresses, up, _keys(reader.routes))
    except struct.error:  # a message that is shorter
        suspects = list(addresses)
    if not suspects:
        return frozenset()
    present = set(_connected_subnets(reader.routes))
    lacking = [
        (index, cidr)
        for data in suspects
        for subnet, index, cidr in _subnet_of(data)
        if index in up and (subnet, index) not in present
    ]
    broadcasts = list(_broadcasts(addresses, up)) if lacking else []
    return frozenset(
        KernelRoute(reader.owned[index], cidr)
        for index, cidr in lacking
        if not any(ip == cidr.partition("/")[0] and other != index for ip, other in broadcasts)
    )


def find_lost_local(reader: SliceReader, up: Collection[int]) -> frozenset[KernelRoute]:
    """Return the local routes that addresses of the slice should have and have not.

    One more dump for each family, so that this is looked for only where a connected route is lost, too.
    """
    found = [
        data
        for family in (AF_INET, AF_INET6)
        for data in reader.sock.dump(dump_routes(family, LOCAL_TABLE, 0, GONE, LOCAL))
    ]
    present = set(_local_addresses(found))
    return frozenset(
        KernelRoute(reader.owned[index], cidr, is_local=True)
        for ip, index, cidr in _own_addresses(reader.on_devices(dump_addresses), up)
        if (ip, index) not in present
    )


def _suspects(addresses: Iterable[Data], up: Collection[int], present: Collection[_Key]) -> list[Data]:
    """Return the addresses of which no connected route is among those present."""
    found = []
    for data in addresses:
        if data[0] == AF_INET:
            length, flags, index, ip = _v4_address(data)
            if index in up and length < 32 and not flags & IFA_F_SECONDARY and (length, ip, index) not in present:
                found.append(data)
        elif data[0] == AF_INET6:
            length, flags, index, high, low = _v6_address(data)
            if index not in up or not _counts(AF_INET6, flags & ~IFA_F_TENTATIVE):
                continue
            high, low = (high, 0) if length == 64 else _masked(high, low, length)
            if (length, high, low, index) not in present:
                found.append(data)
    return found


def _keys(routes: Iterable[Data]) -> set[_Key]:
    """Return what the connected routes among routes have in common with their addresses."""
    found: set[_Key] = set()
    for data in routes:
        if data[_proto] == PROTO_KERNEL and data[_table] == MAIN_TABLE:
            found.add(_v4_route(data) if data[0] == AF_INET else _v6_route(data))
    return found


@lru_cache(maxsize=1024)
def _masked(high: int, low: int, length: int) -> tuple[int, int]:
    """Return the subnet of an IPv6 address, in the machine's byte order as the address."""
    number = int.from_bytes(_IPV6.pack(high, low), "big") >> (128 - length) << (128 - length)
    masked_high, masked_low = _IPV6.unpack(number.to_bytes(16, "big"))
    return masked_high, masked_low


def _subnet_of(data: Data) -> Iterator[tuple[str, int, str]]:
    """Yield (subnet, index, address) of an address that has a connected route.

    Not of one with a peer, whose routes are others; nor in 0.0.0.0/8, for which Linux before 5.3 makes none.
    """
    family, length, flags, index = _read_address_head(data, 0)
    if not _counts(family, flags & ~IFA_F_TENTATIVE):  # its connected route is there from the beginning
        return
    found = positions(data, ADDRESS.size)
    if at := found.get(_IFA_FLAGS, 0):
        flags = _read_flags(data, at)
    ip = _read_ip(data, found[_IFA_ADDRESS]) if _IFA_ADDRESS in found else ""
    own = _read_ip(data, found[_IFA_LOCAL]) if _IFA_LOCAL in found else ip
    if ip != own or not ip or flags & IFA_F_NOPREFIXROUTE:
        return
    subnet = str(ip_network(f"{ip}/{length}", strict=False))
    if family == AF_INET6 or (length < 32 and not subnet.startswith("0.")):
        yield subnet, index, f"{ip}/{length}"


def _broadcasts(addresses: Iterable[Data], up: Collection[int]) -> Iterator[tuple[str, int]]:
    """Yield (address, index) of broadcast addresses: another device that has one as its own gets no connected route.

    The route's source must be a local address, which it is not then (fib_valid_prefsrc in net/ipv4/fib_semantics.c).
    Older kernels have the network address as a broadcast address, too.
    """
    for data in addresses:
        for subnet, index, _cidr in _subnet_of(data):
            network = ip_network(subnet)
            if index in up and network.version == 4 and network.prefixlen < 31:
                yield str(network[0]), index
                yield str(network[-1]), index


def _counts(family: int, flags: int) -> bool:
    """Return False for an address whose routes are another one's, or not there yet."""
    if family == AF_INET:
        return not flags & IFA_F_SECONDARY
    return family == AF_INET6 and flags & _STATE == IFA_F_PERMANENT


def _connected_subnets(routes: Iterable[Data]) -> Iterator[tuple[str, int]]:
    """Yield (destination, index) of the connected routes among routes."""
    for data in routes:
        if data[_proto] != PROTO_KERNEL or data[_table] != MAIN_TABLE:
            continue
        found = positions(data, ROUTE.size)
        if _OIF in found:
            yield _destination(data, found), _read_index(data, found[_OIF])


def _destination(data: Data, found: Mapping[int, int]) -> str:
    family, length, _table, _proto, _kind = _read_route_head(data, 0)
    none = "0.0.0.0" if family == AF_INET else "::"
    return f"{_read_ip(data, found[_DST]) if _DST in found else none}/{length}"


def _local_addresses(routes: Iterable[Data]) -> Iterator[tuple[str, int]]:
    """Yield (address, index) of local routes."""
    for data in routes:
        found = positions(data, ROUTE.size)
        if _DST in found and _OIF in found:
            yield _read_ip(data, found[_DST]), _read_index(data, found[_OIF])


def _own_addresses(addresses: Iterable[Data], up: Collection[int]) -> Iterator[tuple[str, int, str]]:
    """Yield (address, index, address with prefix length) of addresses that have a local route of their own.

    That of a secondary IPv4 address has another source, and is the kernel's to remove by it.
    """
    for data in addresses:
        family, length, flags, index = _read_address_head(data, 0)
        if index not in up or not _counts(family, flags):
            continue
        found = positions(data, ADDRESS.size)
        at = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, 0)
        if at:
            ip = _read_ip(data, at)
            yield ip, index, f"{ip}/{length}"


# --- events --------------------------------------------------------------------------------------------------------


def decode_removed(data: Data, devices: Mapping[int, str]) -> Iterator[KernelRoute]:
    """Yield the connected route that another program has removed, from the RTM_DELROUTE message."""
    family, length, table, protocol, kind = _read_route_head(data, 0)
    if protocol != PROTO_KERNEL or table != MAIN_TABLE or kind != UNICAST or family not in METRIC:
        return
    found = positions(data, ROUTE.size)
    device = devices.get(_read_index(data, found[_OIF])) if _OIF in found else None
    if device is not None:
        source = f"{_read_ip(data, found[_PREFSRC])}/{length}" if _PREFSRC in found else _destination(data, found)
        yield KernelRoute(device, source)


def decode_replaced(data: Data) -> Iterator[KernelRoute]:
    """Yield the connected route that a route of another program may have replaced, from the RTM_NEWROUTE message."""
    family, _length, table, protocol, _kind = _read_route_head(data, 0)
    if protocol == PROTO_KERNEL or table != MAIN_TABLE or family not in METRIC:
        return
    found = positions(data, ROUTE.size)
    if (_read_index(data, found[_METRIC]) if _METRIC in found else 0) == METRIC[family]:
        yield KernelRoute("", _destination(data, found))


# --- adding them ---------------------------------------------------------------------------------------------------


def add_kernel_route(route: KernelRoute, index: int, flags: int = CREATE) -> Request:
    """Return the request for a route as the kernel makes it with an address, and so removes it with the address.

    Not for local IPv6 routes: the kernel removes the one that it has made itself, and no other (``ifp->rt``).
    """
    family, ip, _length = split_cidr(route.cidr)
    _family, dst, length = split_cidr(route.dst)
    table = LOCAL_TABLE if route.is_local else MAIN_TABLE
    if family == AF_INET6:
        scope, rest = rt_scope["universe"], _priority(METRIC[AF_INET6])
    else:
        scope, rest = rt_scope["host" if route.is_local else "link"], _prefsrc(ip)
    body = _head(family, length, table, PROTO_KERNEL, scope, LOCAL if route.is_local else UNICAST)
    return Request(RTM_NEWROUTE, flags, body + (_dst(dst) if length else b"") + rest + _oif(index), route, EXISTS)


def _requests(route: KernelRoute, context: WriteContext) -> list[Request]:
    index = context.indexes[route.device]
    if not route.is_local or ":" not in route.cidr:
        return [add_kernel_route(route, index)]
    # With the address added again the kernel makes all of its routes, and ff00::/8 (addrconf_add_dev).
    address = Address(route.device, route.cidr)
    return [delete_address(address, index, GONE), add_address(address, index, EXISTS)]


def _add(routes: Sequence[KernelRoute], context: WriteContext) -> list[Request]:
    return [request for route in routes for request in _requests(route, context)]


def _dump_table(route: KernelRoute, _context: WriteContext) -> Request:
    family = AF_INET6 if ":" in route.cidr else AF_INET
    return dump_routes(family, LOCAL_TABLE if route.is_local else MAIN_TABLE, kind=rt_type["unspec"])


def _instead(route: KernelRoute, _refused: Request, found: Sequence[Data], context: WriteContext) -> Instead:
    """Replace what another program has put there; join the connected routes of other devices with the same subnet."""
    index = context.indexes[route.device]
    first = first_in_place(found, route.dst, METRIC[AF_INET6 if ":" in route.cidr else AF_INET])
    if first is None or first[_proto] == PROTO_KERNEL:
        return Instead([add_kernel_route(route, index, NLM_F_CREATE | NLM_F_APPEND)])
    return Instead([add_kernel_route(route, index, REPLACE)], replaced_text(first))


HANDLER = Handler(
    KERNEL_ROUTE_KIND,
    read=lambda reader: (),
    add=_add,
    remove=lambda route, context: [],
    adds_singly=True,
    dump_place=_dump_table,
    decode_place=lambda messages, devices: (),
    instead=_instead,
)
"""Not among those by which kinds are read: see :func:`find_lost`."""
