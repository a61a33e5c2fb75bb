"""Read the devices of all namespaces of the host, with their addresses, masters and the other ends of veth pairs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETADDR
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_DADFAILED, IFA_F_TENTATIVE, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.netlink.link import LinkInfo, LinkRelations, decode_related_link, dump_links
from dvr_agent.kernel.netlink.message import AF_UNSPEC, Request
from dvr_agent.kernel.netlink.nsid import NETNSA_FD, NOT_ASSIGNED, decode_nsid, get_nsid
from dvr_agent.kernel.netlink.schema import Data, Schema
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import open_namespace
from dvr_agent.kernel.survey.messages import decoded, dumped
from dvr_agent.kernel.survey.proxies import Proxies, proxied_families, read_proxies
from dvr_agent.trace.world import Device, Place

IFF_LOWER_UP = 1 << 16
"""The device has a carrier (include/uapi/linux/if.h)."""
_ADDRESS_HEAD = Schema(ifaddrmsg).head("family")
Found = dict[str, dict[str, Device]]


@dataclass(slots=True)
class _Links:
    """The links of one namespace.

    :ivar by_index: index → link and its relations
    :ivar vlan_filtering: names of bridges that separate VLANs
    :ivar addresses: index → addresses
    :ivar tentative: the same, of addresses that duplicate address detection keeps back
    :ivar proxies: devices that answer for addresses of others
    """

    name: str
    by_index: dict[int, tuple[LinkInfo, LinkRelations]] = field(default_factory=dict)
    vlan_filtering: set[str] = field(default_factory=set)
    addresses: dict[int, list[str]] = field(default_factory=dict)
    tentative: dict[int, list[str]] = field(default_factory=dict)
    proxies: Proxies = field(default_factory=dict)


def read_devices(names: Iterable[str]) -> Found:
    """Read the devices of these namespaces; one that is gone by now is left out.

    :raises KernelError: the kernel could not be asked
    """
    read = {}
    for name in names:
        try:
            read[name] = _read(name)
        except NamespaceGoneError:
            continue
    found = {name: _devices(links) for name, links in read.items()}
    for name, links in read.items():
        with contextlib.suppress(NamespaceGoneError):
            _join_pairs(name, links, read, found)
    return found


def _read(name: str) -> _Links:
    links = _Links(name)
    with NetlinkSocket.open(name, None) as sock:
        for data in sock.dump(dump_links()):
            link, relations = decode_related_link(data)
            links.by_index[link.ifindex] = (link, relations)
            if link.kind == "bridge" and _separates_vlans(data):
                links.vlan_filtering.add(link.name)
        for message in dumped(sock, Request(RTM_GETADDR, NLM_F_DUMP, _ADDRESS_HEAD(AF_UNSPEC), "addresses"), ifaddrmsg):
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            kept = links.tentative if _is_tentative(message) else links.addresses
            kept.setdefault(message["index"], []).append(f"{address}/{message['prefixlen']}")
        links.proxies = read_proxies(sock)
    return links


def _is_tentative(message: Any) -> bool:
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return bool(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED))


def _separates_vlans(data: Data) -> bool:
    info = decoded(ifinfmsg, data).get_attr("IFLA_LINKINFO")
    values = info.get_attr("IFLA_INFO_DATA") if info else None
    return bool(values is not None and values.get_attr("IFLA_BR_VLAN_FILTERING"))


def _devices(links: _Links) -> dict[str, Device]:
    names = {index: link.name for index, (link, _relations) in links.by_index.items()}
    return {
        link.name: Device(
            Place(links.name, link.name),
            link.mac,
            link.mtu,
            link.up,
            bool(link.flags & IFF_LOWER_UP),
            link.kind,
            names.get(link.master, "?") if link.master else None,
            None,
            tuple(links.addresses.get(index, ())),
            link.name in links.vlan_filtering,
            proxied_families(links.proxies, index),
            tuple(links.tentative.get(index, ())),
            names.get(relations.peer) if link.kind == "vlan" and not relations.elsewhere else None,
        )
        for index, (link, relations) in links.by_index.items()
    }


def _join_pairs(name: str, links: _Links, read: Mapping[str, _Links], found: Found) -> None:
    """Fill in the other end of each veth pair of a namespace."""
    with contextlib.closing(_Numbers(name)) as numbers:
        for index, (link, relations) in links.by_index.items():
            if link.kind != "veth" or not relations.peer:
                continue
            candidates = [
                other
                for other, theirs in read.items()
                if (other != name) == relations.elsewhere and _may_be_ends(theirs.by_index.get(relations.peer), index)
            ]
            if relations.elsewhere and len(candidates) > 1:
                wanted = numbers.of_link(link.name)
                candidates = [other for other in candidates if numbers.of(other) == wanted]
            if len(candidates) == 1:
                peer = Place(candidates[0], read[candidates[0]].by_index[relations.peer][0].name)
                found[name][link.name] = replace(found[name][link.name], peer=peer)


def _may_be_ends(other: tuple[LinkInfo, LinkRelations] | None, index: int) -> bool:
    return other is not None and other[0].kind == "veth" and other[1].peer == index


class _Numbers:
    """The numbers (NSID) that one namespace has for others, by which it names where the other end of a pair is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sock: NetlinkSocket | None = None
        self._known: dict[str, int] = {}
        self._of_links: dict[str, int] = {}

    def of(self, other: str) -> int:
        """Return the number for a namespace."""
        if other not in self._known:
            try:
                fd = open_namespace(other)
            except KernelError:
                return NOT_ASSIGNED
            try:
                (answer,) = self._opened().get([get_nsid(f"namespace {other}", NETNSA_FD, fd)])
                self._known[other] = NOT_ASSIGNED if answer is None else decode_nsid(answer)
            finally:
                os.close(fd)
        return self._known[other]

    def of_link(self, link: str) -> int:
        """Return the number of the namespace in which the other end of a pair is."""
        if not self._of_links:
            for data in self._opened().dump(dump_links()):
                message = decoded(ifinfmsg, data)
                number = message.get_attr("IFLA_LINK_NETNSID")
                self._of_links[message.get_attr("IFLA_IFNAME")] = NOT_ASSIGNED if number is None else number
        return self._of_links.get(link, NOT_ASSIGNED)

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            self._sock.close()

    def _opened(self) -> NetlinkSocket:
        if self._sock is None:
            self._sock = NetlinkSocket.open(self._name, None)
        return self._sock
