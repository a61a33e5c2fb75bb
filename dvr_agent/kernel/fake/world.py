"""The namespaces of the fake kernel, and what Linux does to other objects when a device or an address goes.

Tests may look at everything here, and may change it behind the agent's back with :class:`World`'s methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dvr_agent.kernel.fake.routes import is_v6, without_device
from dvr_agent.state.address import Address
from dvr_agent.state.filter import Table, TableKey
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.route import Route
from dvr_agent.state.rule import KERNEL_RULES, Rule

NAMESPACE_SYSCTLS = {
    "ipv4/ip_forward": "0",
    "ipv4/ip_nonlocal_bind": "0",
    "ipv4/conf/all/arp_ignore": "0",
    "ipv4/conf/all/arp_announce": "0",
    "ipv4/conf/all/send_redirects": "1",
    "ipv4/conf/default/send_redirects": "1",
    "ipv6/conf/all/forwarding": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
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
    "ipv6/conf/{}/forwarding": "0",
}
"""Parameters that come with a device."""


@dataclass
class FakeLink:
    """A device; ``peer`` is (namespace, name) of the other end of a veth pair."""

    mac: str
    mtu: int
    up: bool
    peer: tuple[str, str] | None = None


@dataclass
class FakeNamespace:
    """Everything in one namespace.

    ``nft_tables`` holds what another agent has in nf_tables, ``connections`` the four addresses of each tracked
    connection.
    """

    links: dict[str, FakeLink] = field(default_factory=dict)
    addresses: list[Address] = field(default_factory=list)
    routes: dict[tuple[str, int], Route] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=lambda: sorted(KERNEL_RULES))
    neighbours: dict[tuple[str, str], Neighbour] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=lambda: dict(NAMESPACE_SYSCTLS))
    tables: dict[TableKey, Table] = field(default_factory=dict)
    nft_tables: list[Table] = field(default_factory=list)
    connections: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add_link(self, name: str, link: FakeLink) -> None:
        self.links[name] = link
        self.sysctls |= {key.format(name): value for key, value in DEVICE_SYSCTLS.items()}

    def forget_link(self, name: str) -> None:
        """The device is gone, and with it all that hung on it.  Rules that name it stay (fib_rules_detach)."""
        del self.links[name]
        self.addresses = [address for address in self.addresses if address.device != name]
        self.drop_neighbours(name)
        self._drop_routes(name, (4, 6), unregistered=True)
        for key in [key.format(name) for key in DEVICE_SYSCTLS]:
            self.sysctls.pop(key, None)

    def set_down(self, name: str) -> None:
        """Routes and neighbours go; of the addresses those of IPv6 (ip-sysctl, keep_addr_on_down=0)."""
        self.links[name].up = False
        self.addresses = [one for one in self.addresses if one.device != name or not is_v6(one.cidr)]
        self.drop_neighbours(name)
        self._drop_routes(name, (4, 6), unregistered=False)

    def remove_address(self, address: Address) -> None:
        """With the last IPv4 address of a device all IPv4 routes and neighbours on it go (fib_inetaddr_event)."""
        if address not in self.addresses:
            return
        self.addresses.remove(address)
        left = (one for one in self.addresses if one.device == address.device and not is_v6(one.cidr))
        if not is_v6(address.cidr) and next(left, None) is None:
            self.drop_neighbours(address.device, (4,))
            self._drop_routes(address.device, (4,), unregistered=False)

    def drop_neighbours(self, device: str, families: tuple[int, ...] = (4, 6)) -> None:
        """Permanent ones too, as neigh_ifdown and neigh_changeaddr do."""
        for key in list(self.neighbours):
            if key[1] == device and _family(key[0]) in families:
                del self.neighbours[key]

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
    """All namespaces by name."""

    def __init__(self) -> None:
        self.namespaces: dict[str, FakeNamespace] = {}
        self.empty_files: set[str] = set()
        """Names that a killed process left without a namespace."""

    def create(self, name: str) -> bool:
        """True if it was not there."""
        if name in self.namespaces:
            return False
        self.namespaces[name] = namespace = FakeNamespace()
        namespace.add_link("lo", FakeLink("00:00:00:00:00:00", 65536, True))
        return True

    def remove(self, name: str) -> bool:
        """True if it was there.  The other ends of its veth pairs vanish from other namespaces."""
        if name not in self.namespaces:
            return False
        for link in list(self.namespaces[name].links):
            self.remove_link(name, link)
        del self.namespaces[name]
        return True

    def add_pair(self, one: tuple[str, str], link: FakeLink, other: tuple[str, str], peer: FakeLink) -> None:
        """A veth pair; each end is (namespace, name)."""
        link.peer, peer.peer = other, one
        self.namespaces[one[0]].add_link(one[1], link)
        self.namespaces[other[0]].add_link(other[1], peer)

    def remove_link(self, namespace: str, name: str) -> None:
        """Both ends, if it is one of a pair; none there: nothing to do."""
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
