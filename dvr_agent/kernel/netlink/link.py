"""Links: RTM_…LINK messages that make, change, remove and describe veth pairs and bridges.

pyroute2's ``ifinfmsg``; ``include/uapi/linux/if_link.h`` and ``veth.h``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg

from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, AF_UNSPEC, CREATE, Named, Request
from dvr_agent.kernel.netlink.schema import Data, Schema, attribute, payload, positions
from dvr_agent.state.sysctl import Sysctl

LINK = Schema(ifinfmsg)
INFO, VETH = Schema(ifinfmsg.ifinfo), Schema(ifinfmsg.ifinfo.veth_data)
INET6 = Schema(ifinfmsg.af_spec_inet.inet6)
IPV6_MIN_MTU = 1280
"""The kernel takes IPv6 with its parameters off a device below (include/net/ipv6.h), and gives it back above."""
_FORWARDING_IPV6, DISABLE_IPV6 = map(
    ifinfmsg.af_spec_inet.inet6.ipv6_devconf.field_names.index, ("forwarding", "disable_ipv6")
)
"""Indexes of the parameters in IFLA_INET6_CONF, an array of 32-bit numbers."""
IFLA_INET_CONF = 1
"""Attribute with one attribute for each IPv4 parameter in it (include/uapi/linux/if_link.h).

pyroute2 knows it only as the array that the kernel *reports*, and writes it so; the kernel accepts that and changes
nothing.
"""
PROMOTE_SECONDARIES = ifinfmsg.af_spec_inet.inet.field_names.index("promote_secondaries")
"""Number of the parameter's attribute in IFLA_INET_CONF (``IPV4_DEVCONF_PROMOTE_SECONDARIES``)."""
_FORWARDING, _RP_FILTER = (
    ifinfmsg.af_spec_inet.inet.field_names.index(name) - 1 for name in ("forwarding", "rp_filter")
)
"""Indexes of the parameters in the reported IFLA_INET_CONF, an array of 32-bit numbers without pyroute2's ``dummy``."""
RTEXT_FILTER_SKIP_STATS = 1 << 3
"""Leave out statistics, the bigger half of a link message (include/uapi/linux/rtnetlink.h; not in pyroute2)."""
GROUP_TO_DELETE = 0x64767264
"""Link group ("dvrd") of links that are about to be removed; the agent puts links into it for no other purpose."""
LOOPBACK = 1
"""Index of ``lo`` in every namespace (drivers/net/loopback.c)."""

_BODY = LINK.size
"""Where the attributes begin."""
_head = LINK.head("family", "index", "flags", "change")
_read_head = LINK.read_head("index", "flags")
_ifname, _address, _mtu, _master, _group, _namespace_fd, _filter = map(
    LINK.packer,
    ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU", "IFLA_MASTER", "IFLA_GROUP", "IFLA_NET_NS_FD", "IFLA_EXT_MASK"),
)
_alias = LINK.raw("IFLA_IFALIAS")
_linkinfo, _kind = LINK.nest("IFLA_LINKINFO"), INFO.packer("IFLA_INFO_KIND")
_info_data, _peer = INFO.nest("IFLA_INFO_DATA"), VETH.nest("VETH_INFO_PEER")
_af_spec = LINK.nest("IFLA_AF_SPEC")
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _IFALIAS = map(
    LINK.number, ("IFLA_ADDRESS", "IFLA_IFNAME", "IFLA_MTU", "IFLA_MASTER", "IFLA_LINKINFO", "IFLA_IFALIAS")
)
_LINK, _LINK_NETNSID, _AF_SPEC = map(LINK.number, ("IFLA_LINK", "IFLA_LINK_NETNSID", "IFLA_AF_SPEC"))
_INET6_CONF = INET6.number("IFLA_INET6_CONF")
_KIND = INFO.number("IFLA_INFO_KIND")
_read_name, _read_mac, _read_number = map(LINK.reader, ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU"))
_read_kind = INFO.reader("IFLA_INFO_KIND")
_no_stats = _filter(RTEXT_FILTER_SKIP_STATS)
_promote_secondaries = _af_spec(
    attribute(AF_INET, attribute(IFLA_INET_CONF, attribute(PROMOTE_SECONDARIES, (1).to_bytes(4, sys.byteorder))))
)


class LinkInfo(NamedTuple):
    """A network device as the kernel describes it.

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
        """True if the device is administratively up."""
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
    """Return the request that makes a veth pair; this end may be up from the start."""
    other = _head(AF_UNSPEC, 0, 0, 0) + _properties(peer.name, peer.mac, peer.mtu)
    if peer.namespace_fd is not None:
        other += _namespace_fd(peer.namespace_fd)
    flags = IFF_UP if up else 0
    body = _head(AF_UNSPEC, 0, flags, flags) + _properties(name, mac, mtu) + veth_info(other)
    return Request(RTM_NEWLINK, CREATE, body, what or f"link {name}")


def veth_info(other: bytes) -> bytes:
    """Return the attribute that makes a new link a veth.

    :param other: the other end: header and attributes of a link message
    """
    return _linkinfo(_kind("veth") + _info_data(_peer(other)))


def add_bridge(name: str, mac: str | None = None, mtu: int | None = None, up: bool = False) -> Request:
    """Return the request that makes a Linux bridge with the kernel's defaults (no STP)."""
    flags = IFF_UP if up else 0
    body = _head(AF_UNSPEC, 0, flags, flags) + _properties(name, mac, mtu) + _linkinfo(_kind("bridge"))
    return Request(RTM_NEWLINK, CREATE, body, f"link {name} type bridge")


def set_link(  # noqa: PLR0913 - one keyword for each property that `ip link set` has
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
    """Return the request that changes the named properties of a link; None: unchanged.

    The kernel sets MAC and MTU before it raises the link.

    :param link: index or name
    :param master: index of a bridge, 0: of no bridge
    :param alias: empty: none
    :param new_name: only with an index
    :param namespace_fd: move the link there; the other properties are changed after the move (do_setlink in
        net/core/rtnetlink.c).  Waits for an RCU grace period, some 16 ms for each link, several in one batch or not
    """
    mask = 0 if up is None else IFF_UP
    body = _target(link, IFF_UP if up else 0, mask) + _properties(new_name, mac, mtu)
    if master is not None:
        body += _master(master)
    if alias is not None:
        body += _alias(alias.encode())
    if group is not None:
        body += _group(group)
    if namespace_fd is not None:
        body += _namespace_fd(namespace_fd)
    return Request(RTM_NEWLINK, 0, body, what or f"link {link}", tolerate)


def keep_secondaries(index: int, what: Named | str, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request that sets ``net.ipv4.conf.DEV.promote_secondaries=1`` within a netlink batch.

    Without it, removing an IPv4 address takes the other addresses of its subnet along (ip-sysctl in the kernel's
    documentation).
    """
    return Request(RTM_NEWLINK, 0, _head(AF_UNSPEC, index, 0, 0) + _promote_secondaries, what, tolerate)


def delete_link(link: int | str, what: Named | str = "", tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request that deletes a link, and with it the other end of a veth pair.

    The kernel waits for an RCU grace period, some 15 ms.
    """
    return Request(RTM_DELLINK, 0, _target(link, 0, 0), what or f"link {link}", tolerate)


def delete_group(group: int, what: Named | str = "", tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request that deletes all links of a group at the price of one.  ENODEV: there are none."""
    body = _head(AF_UNSPEC, 0, 0, 0) + _group(group)
    return Request(RTM_DELLINK, 0, body, what or f"links of group {group}", tolerate)


def delete_links(links: Sequence[tuple[str, Named | str]], tolerate: frozenset[int] = frozenset()) -> list[Request]:
    """Return the requests that delete links: several by group, since the kernel then waits for RCU once, not for each.

    :param links: (name, object for errors) of each
    """
    if len(links) == 1:
        return [delete_link(*links[0], tolerate)]
    names = ", ".join(name for name, _ in links)
    moved = [set_link(name, group=GROUP_TO_DELETE, what=what, tolerate=tolerate) for name, what in links]
    return [*moved, delete_group(GROUP_TO_DELETE, f"links {names}", tolerate)] if moved else []


def get_link(link: int | str, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request for one link, for :meth:`NetlinkSocket.get`."""
    return Request(RTM_GETLINK, 0, _target(link, 0, 0) + _no_stats, f"link {link}", tolerate)


@lru_cache(maxsize=64)
def dump_links(master: int = 0) -> Request:
    """Return the request for all links, or for the ports of one bridge."""
    body = _head(AF_UNSPEC, 0, 0, 0) + _no_stats
    if master:
        body += _master(master)
    return Request(RTM_GETLINK, NLM_F_DUMP, body, "links")


def decode_link(data: Data) -> LinkInfo:
    """Decode one RTM_NEWLINK message."""
    return _info(data, positions(data, _BODY))


def _info(data: Data, found: Mapping[int, int]) -> LinkInfo:
    index, flags = _read_head(data, 0)
    name = _read_name(data, found[_IFNAME])
    mac = _read_mac(data, at) if (at := found.get(_ADDRESS, 0)) else ""
    kind = _kind_of(payload(data, at)) if (at := found.get(_LINKINFO, 0)) else ""
    alias = bytes(payload(data, at)).rstrip(b"\0").decode(errors="replace") if (at := found.get(_IFALIAS, 0)) else ""
    master = _read_number(data, at) if (at := found.get(_MASTER, 0)) else 0
    mtu = _read_number(data, at) if (at := found.get(_MTU, 0)) else 0
    return LinkInfo(index, name, mac, mtu, flags, master, alias, kind)


class LinkRelations(NamedTuple):
    """Relations of a device to other devices.

    :ivar peer: index of the other end of a veth pair, or of the device it is on top of (VLAN, macvlan, …); 0 for none
    :ivar elsewhere: ``peer`` is in another namespace
    :ivar ipv6: IPv6 is on (``disable_ipv6`` is 0)
    """

    peer: int
    elsewhere: bool
    ipv6: bool


def decode_related_link(data: Data) -> tuple[LinkInfo, LinkRelations]:
    """Decode one RTM_NEWLINK message with the device's relations; its attributes are searched once."""
    found = positions(data, _BODY)
    peer = _read_number(data, at) if (at := found.get(_LINK, 0)) else 0
    has_ipv6 = bool(at := found.get(_AF_SPEC, 0)) and _has_ipv6(payload(data, at))
    return _info(data, found), LinkRelations(peer, _LINK_NETNSID in found, has_ipv6)


def decode_brief(data: Data) -> LinkInfo:
    """Decode one RTM_NEWLINK message without master, alias and kind, in half the time.

    The walk ends at the MAC address: most attributes come after it.
    """
    index, flags = _read_head(data, 0)
    found = positions(data, _BODY, _ADDRESS)
    name = _read_name(data, found[_IFNAME])
    mac = _read_mac(data, at) if (at := found.get(_ADDRESS, 0)) else ""
    mtu = _read_number(data, found.get(_MTU, 0) or positions(data, _BODY)[_MTU])
    return LinkInfo(index, name, mac, mtu, flags)


def index_and_name(data: Data) -> tuple[int, str]:
    """Decode index and name of one RTM_NEWLINK message."""
    at = positions(data, _BODY, _IFNAME).get(_IFNAME, 0)
    return _read_head(data, 0)[0], _read_name(data, at) if at else ""


def _kind_of(info: Data) -> str:
    at = positions(info, 0, _KIND)
    return str(_read_kind(info, at[_KIND])) if _KIND in at else ""


def adverse_parameters(data: Data, device: str) -> list[Sysctl]:
    """Return the parameters in a RTM_NEWLINK message whose values keep a router from working (``state/adverse.py``)."""
    families = payload(data, at) if (at := positions(data, _BODY).get(_AF_SPEC, 0)) else b""
    found = positions(families, 0)
    adverse = []
    if (read := _parameter_reader(families, found.get(AF_INET), IFLA_INET_CONF)) is not None:
        if read(_FORWARDING) == 0:
            adverse.append(Sysctl(f"ipv4/conf/{device}/forwarding", "0"))
        if read(_RP_FILTER) == 1:
            adverse.append(Sysctl(f"ipv4/conf/{device}/rp_filter", "1"))
    if (read := _parameter_reader(families, found.get(AF_INET6), _INET6_CONF)) is not None:
        if read(_FORWARDING_IPV6) == 0:
            adverse.append(Sysctl(f"ipv6/conf/{device}/forwarding", "0"))
        if read(DISABLE_IPV6):
            adverse.append(Sysctl(f"ipv6/conf/{device}/disable_ipv6", "1"))
    return adverse


def _has_ipv6(families: Data) -> bool:
    """Return True if the reported ``disable_ipv6`` is 0; a device that never had IPv6 reports no parameter."""
    read = _parameter_reader(families, positions(families, 0).get(AF_INET6), _INET6_CONF)
    return read is not None and read(DISABLE_IPV6) == 0


def _parameter_reader(families: Data, family: int | None, attribute: int) -> Callable[[int], int] | None:
    """Return what reads a parameter by its place in the array that a family reports; None: it reports none.

    :param family: offset of the family's attribute
    """
    parameters = payload(families, family) if family is not None else b""
    array = positions(parameters, 0).get(attribute)
    return None if array is None else lambda place: int(_read_number(parameters, array + 4 * place))


def _target(link: int | str, flags: int, change: int) -> bytes:
    if isinstance(link, int):
        return _head(AF_UNSPEC, link, flags, change)
    return _head(AF_UNSPEC, 0, flags, change) + _ifname(link)


def _properties(name: str | None, mac: str | None, mtu: int | None) -> bytes:
    body = _ifname(name) if name else b""
    if mac:
        body += _address(mac)
    return body + (_mtu(mtu) if mtu else b"")
