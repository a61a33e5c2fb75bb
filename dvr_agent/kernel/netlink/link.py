"""Links: veth pairs and bridges made, changed, removed and read.

Numbers are those of ``include/uapi/linux/if_link.h``, ``if.h`` and ``veth.h``; the messages are rtnetlink(7)'s
``struct ifinfomsg`` with attributes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from dvr_agent.kernel.netlink.message import (
    AF_INET,
    AF_UNSPEC,
    CREATE,
    NLM_F_DUMP,
    Data,
    Named,
    Request,
    attr,
    attr_text,
    attr_u32,
    attributes,
    mac_bytes,
    mac_text,
    positions,
    u32,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 18, 20, 26, 27, 28, 29
IFLA_LINK_NETNSID = 37
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_INET_CONF = 1
VETH_INFO_PEER = 1
IPV4_DEVCONF_PROMOTE_SECONDARIES = 20
IFF_UP = 0x1
RTEXT_FILTER_SKIP_STATS = 1 << 3
"""Statistics are the bigger half of a link message; nobody here reads them."""
LOOPBACK = 1
"""Index of ``lo`` in every namespace (drivers/net/loopback.c)."""

_INFO = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, which flags to change."""
_SIZE = struct.Struct("=H").unpack_from
_NO_STATS = attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)


class LinkInfo(NamedTuple):
    """A device as the kernel describes it.

    :ivar mac: empty for devices without one
    :ivar flags: ``IFF_…``
    :ivar master: index of the bridge it is a port of, 0 for none
    :ivar alias: text of ``ip link set … alias``, empty for none
    :ivar kind: ``veth``, ``bridge``, …; empty for physical devices and ``lo``
    """

    ifindex: int
    name: str
    mac: str
    mtu: int
    flags: int
    master: int = 0
    alias: str = ""
    kind: str = ""

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


class PeerEnd(NamedTuple):
    """The other end of a new veth pair; it cannot be raised at creation (ENOTCONN).

    :ivar namespace_fd: the namespace it is made in; None: the same as this end
    """

    name: str
    mac: str | None = None
    mtu: int | None = None
    namespace_fd: int | None = None


def add_veth(name: str, mac: str | None, mtu: int | None, up: bool, peer: PeerEnd, what: Named | str = "") -> Request:
    """A veth pair; this end may be up from the start."""
    ends = _INFO.pack(AF_UNSPEC, 0, 0, 0, 0) + _properties(peer.name, peer.mac, peer.mtu)
    if peer.namespace_fd is not None:
        ends += attr_u32(IFLA_NET_NS_FD, peer.namespace_fd)
    info = attr_text(IFLA_INFO_KIND, "veth") + attr(IFLA_INFO_DATA, attr(VETH_INFO_PEER, ends))
    flags = IFF_UP if up else 0
    body = _INFO.pack(AF_UNSPEC, 0, 0, flags, flags) + _properties(name, mac, mtu) + attr(IFLA_LINKINFO, info)
    return Request(RTM_NEWLINK, CREATE, body, what or f"link {name}")


def add_bridge(name: str, mac: str | None = None, mtu: int | None = None, up: bool = False) -> Request:
    """A Linux bridge with the kernel's defaults (no STP)."""
    flags = IFF_UP if up else 0
    info = attr(IFLA_LINKINFO, attr_text(IFLA_INFO_KIND, "bridge"))
    body = _INFO.pack(AF_UNSPEC, 0, 0, flags, flags) + _properties(name, mac, mtu) + info
    return Request(RTM_NEWLINK, CREATE, body, f"link {name} type bridge")


def set_link(
    link: int | str,
    *,
    up: bool | None = None,
    mac: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    group: int | None = None,
    new_name: str | None = None,
    namespace_fd: int | None = None,
    what: Named | str = "",
    tolerate: frozenset[int] = frozenset(),
) -> Request:
    """Change what is named; what is None stays.  The kernel sets MAC and MTU before it raises the link.

    :param link: index or name
    :param master: index of a bridge, 0: none any more
    :param alias: empty: none any more
    :param new_name: only with an index
    :param namespace_fd: move it there; the rest is changed after the move (do_setlink in net/core/rtnetlink.c).  Waits
        for an RCU grace period, some 16 ms for each link, several in one batch or not
    """
    mask = 0 if up is None else IFF_UP
    body = _target(link, IFF_UP if up else 0, mask) + _properties(new_name, mac, mtu)
    if master is not None:
        body += attr_u32(IFLA_MASTER, master)
    if alias is not None:
        body += attr(IFLA_IFALIAS, alias.encode())
    if group is not None:
        body += attr_u32(IFLA_GROUP, group)
    if namespace_fd is not None:
        body += attr_u32(IFLA_NET_NS_FD, namespace_fd)
    return Request(RTM_NEWLINK, 0, body, what or f"link {link}", tolerate)


def keep_secondaries(index: int, what: Named | str, tolerate: frozenset[int] = frozenset()) -> Request:
    """``net.ipv4.conf.DEV.promote_secondaries=1`` by netlink, so that it fits into the batch.

    Without it, removing an IPv4 address takes the other addresses of its subnet along (ip-sysctl in the kernel's
    documentation).
    """
    conf = attr(IFLA_INET_CONF, attr_u32(IPV4_DEVCONF_PROMOTE_SECONDARIES, 1))
    body = _INFO.pack(AF_UNSPEC, 0, index, 0, 0) + attr(IFLA_AF_SPEC, attr(AF_INET, conf))
    return Request(RTM_NEWLINK, 0, body, what, tolerate)


def delete_link(link: int | str, what: Named | str = "", tolerate: frozenset[int] = frozenset()) -> Request:
    """One link (and with it the other end of a veth pair).  Waits for an RCU grace period, some 15 ms."""
    return Request(RTM_DELLINK, 0, _target(link, 0, 0), what or f"link {link}", tolerate)


def delete_group(group: int, what: Named | str = "", tolerate: frozenset[int] = frozenset()) -> Request:
    """All links of the namespace that are in this group, for the price of one.  ENODEV if there are none."""
    body = _INFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_u32(IFLA_GROUP, group)
    return Request(RTM_DELLINK, 0, body, what or f"links of group {group}", tolerate)


def get_link(link: int | str, tolerate: frozenset[int] = frozenset()) -> Request:
    """One link, for :meth:`NetlinkSocket.get`."""
    return Request(RTM_GETLINK, 0, _target(link, 0, 0) + _NO_STATS, f"link {link}", tolerate)


@lru_cache(maxsize=64)
def dump_links(master: int = 0) -> Request:
    """All links, or the ports of one bridge."""
    body = _INFO.pack(AF_UNSPEC, 0, 0, 0, 0) + _NO_STATS
    if master:
        body += attr_u32(IFLA_MASTER, master)
    return Request(RTM_GETLINK, NLM_F_DUMP, body, "links")


def decode_link(data: Data) -> LinkInfo:
    """One RTM_NEWLINK message."""
    _family, _type, index, flags, _mask = _INFO.unpack_from(data)
    found = positions(data, 16)
    name = data[(at := found[IFLA_IFNAME]) + 4 : at + _SIZE(data, at)[0] - 1].decode(errors="surrogateescape")
    mac = alias = kind = ""
    if at := found.get(IFLA_ADDRESS, 0):
        mac = mac_text(data[at + 4 : at + _SIZE(data, at)[0]])
    if at := found.get(IFLA_LINKINFO, 0):
        kind = _kind(data, at + 4, at + _SIZE(data, at)[0])
    if at := found.get(IFLA_IFALIAS, 0):
        alias = data[at + 4 : at + _SIZE(data, at)[0]].rstrip(b"\0").decode(errors="replace")
    master = u32(data, at + 4) if (at := found.get(IFLA_MASTER, 0)) else 0
    mtu = u32(data, at + 4) if (at := found.get(IFLA_MTU, 0)) else 0
    return LinkInfo(index, name, mac, mtu, flags, master, alias, kind)


def decode_brief(data: Data) -> LinkInfo:
    """The same without master, alias and kind, for half the price: most attributes come after the MAC address."""
    _family, _type, index, flags, _mask = _INFO.unpack_from(data)
    found = positions(data, 16, IFLA_ADDRESS)
    name = data[(at := found[IFLA_IFNAME]) + 4 : at + _SIZE(data, at)[0] - 1].decode(errors="surrogateescape")
    mac = mac_text(data[at + 4 : at + _SIZE(data, at)[0]]) if (at := found.get(IFLA_ADDRESS, 0)) else ""
    mtu = u32(data, at + 4) if (at := found.get(IFLA_MTU, 0)) else u32(data, positions(data, 16)[IFLA_MTU] + 4)
    return LinkInfo(index, name, mac, mtu, flags)


def index_and_name(data: Data) -> tuple[int, str]:
    """Of one RTM_NEWLINK message, without decoding the rest."""
    index = _INFO.unpack_from(data)[2]
    for kind, start, end in attributes(data, 16):
        if kind == IFLA_IFNAME:
            return index, data[start : end - 1].decode(errors="surrogateescape")
    return index, ""


def _kind(data: Data, start: int, end: int) -> str:
    for kind, begin, stop in attributes(data, start, end):
        if kind == IFLA_INFO_KIND:
            return data[begin:stop].rstrip(b"\0").decode(errors="replace")
    return ""


def _target(link: int | str, flags: int, mask: int) -> bytes:
    if isinstance(link, int):
        return _INFO.pack(AF_UNSPEC, 0, link, flags, mask)
    return _INFO.pack(AF_UNSPEC, 0, 0, flags, mask) + attr_text(IFLA_IFNAME, link)


def _properties(name: str | None, mac: str | None, mtu: int | None) -> bytes:
    body = attr_text(IFLA_IFNAME, name) if name else b""
    if mac:
        body += attr(IFLA_ADDRESS, mac_bytes(mac))
    return body + (attr_u32(IFLA_MTU, mtu) if mtu else b"")
