"""The floor's input: every byte that goes to the kernel, made before the clock starts.

Every device gets its index here, so that one batch per namespace does without look-ups.  File descriptors of namespaces
stand in the messages too: they have fixed numbers, on which :mod:`.floor` puts them in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from bench.documents import EXTERNAL_BRIDGE, EXTERNAL_NETWORK
from bench.libiptc_tables import TableEntries, entries_of
from bench.ready_tables import ReadyTables, ready
from dvr_agent.attach.outer_ends import ALIAS, bridge_name, ipv6_switch, tap_alias, tap_name
from dvr_agent.desired import names
from dvr_agent.kernel.netlink import link as links
from dvr_agent.kernel.netlink.address import add_address
from dvr_agent.kernel.netlink.message import CREATE, HEADER, Request
from dvr_agent.kernel.netlink.neighbour import add_neighbour
from dvr_agent.kernel.netlink.route import add_route, delete_route
from dvr_agent.kernel.netlink.rule import add_rule, delete_rule
from dvr_agent.state.link import Link, Port, Veth
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import Route

HOST_FD, FIP_FD = 200, 201
"""Descriptors of the host's namespace and of the fip namespace."""
FIRST_INDEX = 10_000
_head = links.LINK.head("index", "flags", "change")
_name, _mac, _mtu, _fd = map(links.LINK.packer, ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU", "IFLA_NET_NS_FD"))
_bridge = links.LINK.nest("IFLA_LINKINFO")(links.INFO.packer("IFLA_INFO_KIND")("bridge"))

Files = list[tuple[str, bytes]]
"""Path and content of kernel parameters."""


@dataclass(slots=True)
class Part:
    """One namespace's part of a router.

    :ivar make: the namespace is new; otherwise it is the fip namespace, which is there
    :ivar before: messages to the host's namespace that come first (bridges), ``after`` those that come last (taps)
    :ivar messages: messages to this namespace
    :ivar tables: packet filter tables as ready bytes, or ``entries``: for libiptc
    :ivar switches: parameters of the host's namespace, between the two
    """

    name: str
    make: bool
    before: bytes = b""
    messages: bytes = b""
    parameters: Files = field(default_factory=list)
    tables: ReadyTables = field(default_factory=ReadyTables)
    entries: list[TableEntries] = field(default_factory=list)
    switches: Files = field(default_factory=list)
    after: bytes = b""


@dataclass(frozen=True, slots=True)
class Removal:
    """How one namespace's part of a router goes.

    :ivar whole: the namespace is removed; otherwise it is the fip namespace, which stays, and loses a slice
    """

    name: str
    whole: bool
    messages: bytes = b""


class Encoder:
    """Makes the parts of all routers of one run.

    :param external_index: of the bridge of the external network, which is there already
    :param by_libiptc: tables are written by libiptc, as by earlier versions of the floor
    """

    def __init__(self, external_index: int, by_libiptc: bool = False) -> None:
        self._by_libiptc = by_libiptc
        self._numbers = count(FIRST_INDEX)
        self._indexes: dict[tuple[str, str], int] = {("", EXTERNAL_BRIDGE): external_index}
        self._made: set[str] = set()

    def part(self, state: NamespaceState) -> Part:
        """What makes one namespace, or one slice of the fip namespace, what it should be."""
        ports = sorted(link.origin for link in state.links if isinstance(link.origin, Port))
        part = Part(state.name, state.name not in self._made)
        self._made.add(state.name)
        bridges = [self._bridge(port) for port in ports]
        new = [name for name in bridges if ("", name) not in self._indexes]
        part.before = _messages(request for name in new for request in self._new_bridge(name))
        part.messages = _messages(self._inside(state, part.make))
        part.parameters = [_parameter(item.key, item.value) for item in sorted(state.sysctls)]
        if self._by_libiptc:
            part.entries = entries_of(state.tables)
        else:
            part.tables = ready(state.tables)
        taps = [tap_name(port.port_id) for port in ports]
        part.switches = [_parameter(ipv6_switch(name), "1") for name in (*new, *taps)]
        part.after = _messages([*self._up(new), *self._connect(state.name, ports)])
        return part

    def removal(self, state: NamespaceState) -> Removal:
        """How a namespace goes, or a slice of the fip namespace: its devices go with the router's namespace."""
        if not state.name.startswith(names.FIP):
            return Removal(state.name, whole=True)
        devices = {hop.device: self._index(state.name, hop.device) for route in state.routes for hop in route.hops}
        own = {link.name for link in state.links}
        rules = [delete_rule(rule) for rule in sorted(state.rules, key=str)]
        staying = (route for route in state.routes if own.isdisjoint(hop.device for hop in route.hops))
        return Removal(state.name, False, _messages([*rules, *(delete_route(route, devices) for route in staying)]))

    def _index(self, namespace: str, name: str) -> int:
        key = (namespace, name)
        if key not in self._indexes:
            self._indexes[key] = next(self._numbers)
        return self._indexes[key]

    def _bridge(self, port: Port) -> str:
        return EXTERNAL_BRIDGE if port.network_id == EXTERNAL_NETWORK else bridge_name(port.network_id)

    def _new_bridge(self, name: str) -> list[Request]:
        index = self._index("", name)
        body = _head(index, 0, 0) + _name(name) + _bridge
        return [Request(RTM_NEWLINK, CREATE, body, name), links.set_link(index, alias=ALIAS)]

    def _up(self, devices: Iterable[str]) -> list[Request]:
        return [links.set_link(self._index("", name), up=True) for name in devices]

    def _connect(self, namespace: str, ports: Iterable[Port]) -> list[Request]:
        return [
            links.set_link(
                self._index("", tap_name(port.port_id)),
                master=self._index("", self._bridge(port)),
                alias=tap_alias(port.port_id, namespace),
                up=True,
            )
            for port in ports
        ]

    def _inside(self, state: NamespaceState, make: bool) -> list[Request]:
        """Everything in the namespace, in dependency order."""
        indexes = {link.name: self._index(state.name, link.name) for link in state.links}
        for route in state.routes:
            for hop in route.hops:
                indexes[hop.device] = self._index(state.name, hop.device)
        return [
            *([links.set_link(links.LOOPBACK, up=True)] if make else []),
            *(self._link(state.name, link) for link in sorted(state.links, key=lambda link: link.name)),
            *(add_address(address, indexes[address.device]) for address in sorted(state.addresses)),
            *(add_neighbour(neighbour, indexes[neighbour.device]) for neighbour in sorted(state.neighbours)),
            *(add_route(route, indexes) for route in sorted(state.routes, key=_onlink_first)),
            *(add_rule(rule) for rule in sorted(state.rules, key=str)),
        ]

    def _link(self, namespace: str, link: Link) -> Request:
        index, origin = self._index(namespace, link.name), link.origin
        if isinstance(origin, Port):
            name = tap_name(origin.port_id)
            return _veth(link, index, _end(name, self._index("", name), None, link.mtu), HOST_FD)
        if isinstance(origin, Veth):
            there = self._index(origin.peer_namespace, origin.peer_name)
            return _veth(link, index, _end(origin.peer_name, there, origin.peer_mac, link.mtu), FIP_FD)
        return links.set_link(index, up=True)  # the far end, made with MAC and MTU by the near one


def _onlink_first(route: Route) -> tuple[bool, str]:
    return (route.hops[0].gateway is not None, str(route))


def _end(name: str, index: int, mac: str | None, mtu: int) -> bytes:
    """The second end of a veth pair."""
    return _head(index, 0, 0) + _name(name) + (_mac(mac) if mac else b"") + _mtu(mtu)


def _veth(link: Link, index: int, end: bytes, there: int) -> Request:
    """A pair with chosen indexes; the first end is up at once."""
    body = _head(index, IFF_UP, IFF_UP) + _name(link.name) + _mac(link.mac) + _mtu(link.mtu)
    return Request(RTM_NEWLINK, CREATE, body + links.veth_info(end + _fd(there)), link)


def _messages(requests: Iterable[Request]) -> bytes:
    """One send: only the last message asks for an answer, errors are always told."""
    found: Sequence[Request] = list(requests)
    packed = b""
    for number, request in enumerate(found, 1):
        flags = request.flags | NLM_F_REQUEST | (NLM_F_ACK if number == len(found) else 0)
        packed += HEADER.pack(16 + len(request.body), request.kind, flags, number, 0) + request.body
    return packed


def _parameter(key: str, value: str) -> tuple[str, bytes]:
    return f"/proc/sys/net/{key}", value.encode()
