"""Values that describe a host as far as a packet meets it: devices, routing, neighbours, packet filter tables.

They hold whatever the kernel has, of any owner; ``state`` describes only what dvr-agent can own.  Made by
``kernel/survey`` (a real host), :mod:`.state_world` (states that are not in a kernel yet) and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dvr_agent.state.filter import Family
from dvr_agent.state.limit import Limit
from dvr_agent.trace.filter_values import WholeTable


class Place(NamedTuple):
    """A device of a namespace; ``""`` is the host's own namespace."""

    namespace: str
    device: str

    @property
    def text(self) -> str:
        """The device with its namespace, for people."""
        return f"{self.device} in {namespace_text(self.namespace)}"


@dataclass(frozen=True, slots=True)
class Device:
    """A network device.

    :ivar kind: ``veth``, ``bridge``, ``tun``, …; empty for physical devices and ``lo``
    :ivar carrier: the device has a carrier (of a veth: its other end is up)
    :ivar master: name of the bridge or switch it is a port of, None for none
    :ivar peer: the other end of a veth pair; None where it is not known
    :ivar addresses: with prefix length, in the kernel's order; tentative ones are left out
    :ivar vlan_filtering: of a bridge: it separates VLANs
    :ivar tentative: addresses that do not count yet, or never will: duplicate address detection
    :ivar proxies: families for which it may answer in place of others; only then is its namespace asked for that
    :ivar lower: of a VLAN: the device of this namespace that it is on top of, None where that is in another one
    """

    place: Place
    mac: str
    mtu: int
    up: bool = True
    carrier: bool = True
    kind: str = ""
    master: str | None = None
    peer: Place | None = None
    addresses: tuple[str, ...] = ()
    vlan_filtering: bool = False
    proxies: tuple[int, ...] = (4, 6)
    tentative: tuple[str, ...] = ()
    lower: str | None = None

    @property
    def name(self) -> str:
        """Name of the device in its namespace."""
        return self.place.device


class NextHop(NamedTuple):
    """A next hop of a route: a gateway (None: on-link) by a device; a dead one is not used."""

    gateway: str | None
    device: str
    dead: bool = False


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A route of any type and protocol.

    :ivar dst: network in canonical text
    :ivar kind: ``unicast``, ``local``, ``broadcast``, ``blackhole``, ``unreachable``, ``prohibit``, ``throw`` …
    :ivar text: as ``ip route`` prints it
    :ivar src: only packets from this network take it (``from`` of ``ip -6 route``); None: all do
    """

    dst: str
    table: int
    kind: str = "unicast"
    hops: tuple[NextHop, ...] = ()
    metric: int = 0
    text: str = ""
    src: str | None = None


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """A policy routing rule of any kind.

    :ivar action: ``lookup``, ``goto``, ``blackhole``, ``unreachable``, ``prohibit`` or ``nop``; any other is not
        understood
    :ivar suppress: routes with at most this prefix length do not count; None: all count
    :ivar strange: names of selectors that are not understood
    :ivar text: as ``ip rule`` prints it
    :ivar goto: priority at which ``goto`` continues
    """

    family: Family
    priority: int
    table: int = 0
    action: str = "lookup"
    src: str | None = None
    dst: str | None = None
    iif: str | None = None
    oif: str | None = None
    mark: int = 0
    mask: int = 0
    invert: bool = False
    suppress: int | None = None
    strange: tuple[str, ...] = ()
    text: str = ""
    goto: int = 0


@dataclass(frozen=True, slots=True)
class NeighbourEntry:
    """A neighbour of any state, in the terms of ``ip neighbour``: ``PERMANENT``, ``REACHABLE``, ``FAILED`` …"""

    dst: str
    device: str
    mac: str
    state: str
    proxy: bool = False

    @property
    def text(self) -> str:
        """The entry as ``ip neighbour`` prints it."""
        if self.proxy:
            return f"neighbour proxy {self.dst} dev {self.device}"
        return f"neighbour {self.dst} dev {self.device}{f' lladdr {self.mac}' if self.mac else ''} {self.state}"


@dataclass(frozen=True, slots=True)
class Namespace:
    """All of a namespace that decides where a packet goes.

    :ivar rules: in the order in which the kernel tries them
    :ivar neighbours: IPv4 and IPv6
    :ivar sysctls: path below ``net/`` → value, of those in :data:`SYSCTLS` and :data:`DEVICE_SYSCTLS`
    :ivar tables: packet filter tables of everybody, legacy ones and those of nf_tables
    :ivar limits: bandwidth limits
    :ivar fdb: (MAC address, port of a bridge) where frames from it were seen
    """

    name: str
    devices: Mapping[str, Device]
    routes: tuple[RouteEntry, ...] = ()
    rules: tuple[RuleEntry, ...] = ()
    neighbours: tuple[NeighbourEntry, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[WholeTable, ...] = ()
    limits: tuple[Limit, ...] = ()
    fdb: frozenset[tuple[str, str]] = frozenset()

    def number(self, key: str) -> int:
        """Return a parameter as a number; 0 if it is not there."""
        value = self.sysctls.get(key, "0")
        return int(value) if value.lstrip("-").isdigit() else 0

    def of_device(self, family: Family, name: str, device: str) -> tuple[int, int]:
        """Return a parameter of all devices and of one device."""
        root = f"ipv{family}/conf"
        return self.number(f"{root}/all/{name}"), self.number(f"{root}/{device}/{name}")


SYSCTLS = (
    *(f"ipv4/conf/all/{name}" for name in ("rp_filter", "arp_ignore", "arp_announce", "proxy_arp", "accept_local")),
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/proxy_ndp",
    "ipv4/ip_forward",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
)
"""Parameters of a namespace that decide where packets go."""
DEVICE_SYSCTLS = (
    *(
        f"ipv4/conf/{{}}/{name}"
        for name in ("forwarding", "rp_filter", "arp_ignore", "arp_announce", "proxy_arp", "accept_local")
    ),
    "ipv6/conf/{}/proxy_ndp",
)
"""Parameters of each device."""


@dataclass(frozen=True)
class World:
    """A host: the devices of all its namespaces, and each namespace as a whole at its first use.

    :ivar devices: namespace → device → value, of all namespaces; ``""`` is the host's own
    :ivar load: reads a namespace as a whole; called once for each that the packet meets.  Raises EndOfWay if that
        has vanished
    """

    devices: Mapping[str, Mapping[str, Device]]
    load: Callable[[str], Namespace]
    _loaded: dict[str, Namespace] = field(default_factory=dict)

    def namespace(self, name: str) -> Namespace:
        """Return a namespace as a whole."""
        found = self._loaded.get(name)
        if found is None:
            found = self._loaded[name] = self.load(name)
        return found

    def device(self, place: Place) -> Device | None:
        """Return a device, None if there is none of that name."""
        return self.devices.get(place.namespace, {}).get(place.device)


Outcome = Literal["delivered", "leaves", "dropped", "unknown"]


def namespace_text(name: str) -> str:
    """Return the name of a namespace for people."""
    return name or "(host)"
