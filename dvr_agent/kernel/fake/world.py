"""The namespaces of the fake kernel, and what Linux does to other objects when a device or an address is removed.

Tests read it, and change it with :class:`World`'s methods as other programs would.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dvr_agent.kernel.api import DroppingChain
from dvr_agent.kernel.fake.routes import is_v6, without_device
from dvr_agent.kernel.kinds import HANDLERS
from dvr_agent.state.address import ADDRESS_KIND, Address
from dvr_agent.state.filter import Table, TableKey
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.kind import AnyKind
from dvr_agent.state.limit import LIMIT_KIND
from dvr_agent.state.neighbour import NEIGHBOUR_KIND, Neighbour
from dvr_agent.state.proxy_neighbour import PROXY_NEIGHBOUR_KIND
from dvr_agent.state.route import ROUTE_KIND, Route
from dvr_agent.state.rule import KERNEL_RULES, RULE_KIND, Rule

NAMESPACE_SYSCTLS = {
    "ipv4/ip_forward": "0",
    "ipv4/conf/default/forwarding": "0",
    "ipv4/ip_nonlocal_bind": "0",
    "ipv4/conf/all/arp_ignore": "0",
    "ipv4/conf/all/arp_announce": "0",
    "ipv4/conf/all/send_redirects": "1",
    "ipv4/conf/default/send_redirects": "1",
    "ipv6/conf/all/forwarding": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/default/addr_gen_mode": "0",
    "netfilter/nf_conntrack_tcp_be_liberal": "0",
    "netfilter/nf_conntrack_tcp_loose": "1",
}
"""Parameters of a new namespace with their defaults (ip-sysctl.rst, nf_conntrack-sysctl.rst)."""
DEVICE_SYSCTLS = {
    "ipv4/conf/{}/send_redirects": "1",
    "ipv4/conf/{}/proxy_arp": "0",
    "ipv4/conf/{}/rp_filter": "0",
    "ipv4/neigh/{}/proxy_delay": "80",
    "ipv6/conf/{}/accept_ra": "1",
    "ipv6/conf/{}/disable_ipv6": "0",
    "ipv6/conf/{}/addr_gen_mode": "0",
    "ipv6/conf/{}/forwarding": "0",
    "ipv6/conf/{}/proxy_ndp": "0",
    "ipv6/neigh/{}/proxy_delay": "80",
}
"""Parameters that come with a device."""


@dataclass
class FakeLink:
    """A device.

    :ivar peer: (namespace, name) of the other end of a veth pair
    """

    mac: str
    mtu: int
    up: bool
    peer: tuple[str, str] | None = None


def _objects() -> dict[AnyKind, dict[Hashable, Any]]:
    found: dict[AnyKind, dict[Hashable, Any]] = {handler.kind: {} for handler in HANDLERS}
    found[LIMIT_KIND] = {}
    found[RULE_KIND] = {rule: rule for rule in sorted(KERNEL_RULES)}
    return found


@dataclass
class FakeNamespace:
    """Everything in one namespace.

    :ivar objects: objects by kind and identity, in the order in which they were made; of kinds with a handler, and
        limits
    :ivar nft_tables: tables with stale chains, of neutron-l3-agent in nf_tables or of ours
    :ivar dropping: base chains of others in nf_tables that drop what is forwarded
    :ivar lost_routes: routes that another program has removed, of those that the kernel has made with addresses
    :ivar connections: the four addresses of each tracked connection
    """

    links: dict[str, FakeLink] = field(default_factory=dict)
    objects: dict[AnyKind, dict[Hashable, Any]] = field(default_factory=_objects)
    sysctls: dict[str, str] = field(default_factory=lambda: dict(NAMESPACE_SYSCTLS))
    tables: dict[TableKey, Table] = field(default_factory=dict)
    nft_tables: list[Table] = field(default_factory=list)
    dropping: list[DroppingChain] = field(default_factory=list)
    lost_routes: set[KernelRoute] = field(default_factory=set)
    connections: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def addresses(self) -> list[Address]:
        """The addresses (a copy)."""
        return list(self.objects[ADDRESS_KIND].values())

    @property
    def routes(self) -> dict[Hashable, Route]:
        """The routes by :attr:`Route.key`."""
        return self.objects[ROUTE_KIND]

    @property
    def rules(self) -> list[Rule]:
        """The rules (a copy)."""
        return list(self.objects[RULE_KIND].values())

    @property
    def neighbours(self) -> dict[Hashable, Neighbour]:
        """The neighbours by :attr:`Neighbour.key`."""
        return self.objects[NEIGHBOUR_KIND]

    def add_link(self, name: str, link: FakeLink) -> None:
        """Add a device with its parameters."""
        self.links[name] = link
        self.sysctls |= {key.format(name): value for key, value in DEVICE_SYSCTLS.items()}

    def forget_link(self, name: str) -> None:
        """Remove a device and all objects on it.  Rules that name it stay (fib_rules_detach)."""
        del self.links[name]
        for kind in self.objects:
            if kind.goes_with_device and kind is not ROUTE_KIND:
                self._drop(kind, name)
        self._drop_routes(name, (4, 6), unregistered=True)
        for key in [key.format(name) for key in DEVICE_SYSCTLS]:
            self.sysctls.pop(key, None)

    def set_down(self, name: str) -> None:
        """Take a device down: routes, neighbours and IPv6 addresses go (ip-sysctl, keep_addr_on_down=0)."""
        self.links[name].up = False
        addresses = self.objects[ADDRESS_KIND]
        for address in [one for one in addresses.values() if one.device == name and is_v6(one.cidr)]:
            del addresses[address]
        self.drop_neighbours(name)
        self._drop(PROXY_NEIGHBOUR_KIND, name)
        self._drop_routes(name, (4, 6), unregistered=False)

    def set_mac(self, name: str, mac: str) -> None:
        """Change a device's MAC address: the kernel flushes neighbours, permanent ones too (neigh_changeaddr)."""
        if self.links[name].mac != mac:
            self.links[name].mac = mac
            for kind in self.objects:
                if kind.flushed_on_new_mac:
                    self._drop(kind, name)

    def remove_address(self, address: Address) -> None:
        """Remove an address; with the last IPv4 one of a device its IPv4 routes and neighbours (fib_inetaddr_event)."""
        addresses = self.objects[ADDRESS_KIND]
        if addresses.pop(address, None) is None:
            return
        left = (one for one in addresses.values() if one.device == address.device and not is_v6(one.cidr))
        if not is_v6(address.cidr) and next(left, None) is None:
            self.drop_neighbours(address.device, (4,))
            self._drop_routes(address.device, (4,), unregistered=False)

    def drop_neighbours(self, device: str, families: tuple[int, ...] = (4, 6)) -> None:
        """Remove the neighbours of a device, permanent ones too, as neigh_ifdown does."""
        neighbours = self.objects[NEIGHBOUR_KIND]
        for key, neighbour in list(neighbours.items()):
            if neighbour.device == device and _family(neighbour.dst) in families:
                del neighbours[key]

    def _drop(self, kind: AnyKind, device: str) -> None:
        objects = self.objects[kind]
        for key in [key for key, item in objects.items() if device in kind.devices(item)]:
            del objects[key]

    def _drop_routes(self, device: str, families: tuple[int, ...], unregistered: bool) -> None:
        for key, route in list(self.routes.items()):
            if _family(route.dst) not in families:
                continue
            left = without_device(route, device, unregistered)
            if left is None:
                del self.routes[key]
            else:
                self.routes[key] = left


class World:
    """All namespaces of the host, by name."""

    def __init__(self) -> None:
        self.namespaces: dict[str, FakeNamespace] = {}
        self.empty_files: set[str] = set()
        """Names that a killed process left without a namespace."""

    def create(self, name: str) -> bool:
        """Make a namespace; True if it was not there."""
        if name in self.namespaces:
            return False
        self.namespaces[name] = namespace = FakeNamespace()
        namespace.add_link("lo", FakeLink("00:00:00:00:00:00", 65536, True))
        return True

    def remove(self, name: str) -> bool:
        """Remove a namespace with its veth pairs, whose other ends are in other namespaces; True if it was there."""
        if name not in self.namespaces:
            return False
        for link in list(self.namespaces[name].links):
            self.remove_link(name, link)
        del self.namespaces[name]
        return True

    def add_pair(self, one: tuple[str, str], link: FakeLink, other: tuple[str, str], peer: FakeLink) -> None:
        """Add a veth pair; each end is (namespace, name)."""
        link.peer, peer.peer = other, one
        self.namespaces[one[0]].add_link(one[1], link)
        self.namespaces[other[0]].add_link(other[1], peer)

    def remove_link(self, namespace: str, name: str) -> None:
        """Remove a device, and the other end of its veth pair; does nothing if there is no such device."""
        for where, device in self._ends(namespace, name):
            self.namespaces[where].forget_link(device)

    def _ends(self, namespace: str, name: str) -> Iterator[tuple[str, str]]:
        link = self.namespaces[namespace].links.get(name)
        if link is not None:
            yield namespace, name
            if link.peer is not None:
                yield link.peer


def _family(text: str) -> int:
    return 6 if is_v6(text) else 4
