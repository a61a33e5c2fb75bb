"""What was read about a subject, as values: no check reads anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dvr_agent.cli.why.address_path import NO_PATH, AddressPath
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView
from dvr_agent.model.router import FloatingIp, Router, SubnetPort
from dvr_agent.state.diff import Changes
from dvr_agent.state.limit import Drops
from dvr_agent.state.link import Port
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.trace.segment import Segment
from dvr_agent.trace.world import Device


class Kind(Enum):
    """Kind of a subject."""

    FLOATING_IP = "floating IP"
    FORWARDED = "floating IP of port forwardings"
    FIXED = "fixed address"
    OWN = "address of the router"
    ROUTER = "router"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Subject:
    """What the operator asks about.

    :ivar text: as it was asked, or the name of the router
    :ivar address: canonical; empty for a router
    :ivar router: the router whose document has it; None: no document has it
    :ivar document: name of that document
    :ivar fip: of a floating IP, and of a fixed address that has one
    :ivar fixed: the address behind it: of the instance
    :ivar port: the instance's port, None where the document lists none
    :ivar role: of an address of the router, e.g. ``gateway port``
    :ivar device: of such an address
    """

    text: str
    kind: Kind
    address: str = ""
    router: Router | None = None
    document: str = ""
    fip: FloatingIp | None = None
    fixed: str = ""
    port: SubnetPort | None = None
    role: str = ""
    device: str = ""

    @property
    def title(self) -> str:
        """The router's name or id."""
        return self.text if self.router is None else self.router.name or self.router.id


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """A device.

    :ivar port_flags: what a bridge does not do with its port: ``isolated``, ``locked``, ``blocking``, ``disabled``
    """

    name: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    master: str = ""
    kind: str = ""
    port_flags: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The link as ``ip link`` shows it, as far as it counts here."""
        flags = ",".join(["UP"] * self.up + ["LOWER_UP" if self.carrier else "NO-CARRIER"])
        master = f" master {self.master}" if self.master else ""
        port = "".join(f" {flag}" for flag in sorted(self.port_flags))
        return f"{self.name}: <{flags}> mtu {self.mtu}{master}{port} link/ether {self.mac}"


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """A rule of ``ip rule``; ``words`` are its selectors and its action, by their keyword."""

    family: int
    priority: int
    words: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """A route of ``ip route show table all``; ``type`` is ``unicast``, ``blackhole`` and so on."""

    family: int
    type: str
    dst: str
    table: str
    words: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class NeighbourFacts:
    """An entry of ``ip neigh``; ``state`` in capitals."""

    address: str
    device: str
    mac: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class FilterFacts:
    """A packet filter rule that is not ours and that drops or translates.

    :ivar program: ``iptables``, ``ip6tables`` or ``nft``
    :ivar place: table and chain
    :ivar hook: ``PREROUTING``, ``FORWARD`` …, in capitals; empty for a chain that others jump to
    :ivar verdict: ``DROP``, ``REJECT``, ``DNAT`` …
    :ivar selects: of ``src``, ``dst``, ``smac``, ``dmac``, ``iif``, ``oif``: the value that it asks for, with a leading
        ``!`` if negated
    :ivar is_conditional: it asks for something else, too
    :ivar packets: counted so far; None: not counted
    :ivar text: as the program prints it
    """

    program: str
    place: str
    hook: str
    verdict: str
    selects: Mapping[str, str]
    is_conditional: bool
    packets: int | None
    text: str

    @property
    def family(self) -> str:
        """Family of an nft table, empty for iptables."""
        words = self.place.split()
        return words[2] if words[0] == "nft" else ""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """An IPsec policy that drops what it selects: it has no security association, or blocks.

    :ivar direction: ``out``, ``fwd`` or ``in``
    :ivar why: why it drops
    :ivar text: as ``ip xfrm policy`` prints it, in one line
    """

    src: str
    dst: str
    direction: str
    why: str
    text: str


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """A tracked connection: source and destination of the first packet, and of its answer.

    :ivar protocol: name or number; empty: not known
    :ivar sport: port of the first packet; -1: the protocol has none
    """

    src: str
    dst: str
    reply_src: str
    reply_dst: str
    protocol: str = ""
    sport: int = -1
    dport: int = -1

    @property
    def text(self) -> str:
        """The connection as ``conntrack -L`` shows it."""
        protocol = f"{self.protocol} " if self.protocol else ""
        ports = f" sport={self.sport} dport={self.dport}" if self.has_ports else ""
        return f"{protocol}src={self.src} dst={self.dst}{ports} src={self.reply_src} dst={self.reply_dst}"

    @property
    def selector(self) -> str:
        """Options of ``conntrack`` that select this connection."""
        protocol = f"-p {self.protocol} " if self.protocol else ""
        ports = f" --sport {self.sport} --dport {self.dport}" if self.has_ports else ""
        return f"{protocol}-s {self.src} -d {self.dst}{ports}"

    @property
    def has_ports(self) -> bool:
        """True if the protocol has ports."""
        return self.sport >= 0 and self.dport >= 0


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """A namespace as the kernel has it, foreign objects too.

    :ivar drops: what bandwidth limits have dropped
    :ivar unread: what could not be read, and why
    """

    name: str
    exists: bool = True
    links: tuple[LinkFacts, ...] = ()
    rules: tuple[RuleFacts, ...] = ()
    routes: tuple[RouteFacts, ...] = ()
    neighbours: tuple[NeighbourFacts, ...] = ()
    filters: tuple[FilterFacts, ...] = ()
    policies: tuple[PolicyFacts, ...] = ()
    connections: tuple[ConnectionFacts, ...] = ()
    tracked: tuple[int, int] | None = None
    drops: tuple[Drops, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    def link(self, name: str) -> LinkFacts | None:
        """Return a device by its name, None if it is not there."""
        return next((link for link in self.links if link.name == name), None)


@dataclass(frozen=True, slots=True)
class OvsPort:
    """A port of Open vSwitch.

    :ivar tag: VLAN tag, None for none
    :ivar port_id: Neutron port UUID (``external_ids:iface-id``), may be empty
    :ivar mac: MAC address of the instance (``external_ids:attached-mac``), may be empty
    """

    name: str
    bridge: str
    tag: int | None
    port_id: str
    error: str
    text: str
    mac: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host's own namespace: layer 2.

    :ivar here: devices and packet filter of the host
    :ivar fdb: bridge → MAC address → ports at which it was learned
    :ivar filtered: the packets of bridges pass by the host's packet filter
    :ivar ovs: ports of Open vSwitch; None: another attach driver
    :ivar segments: device of the path → what is on its segment, as ``dvrctl trace`` follows it
    :ivar peers: device of the host → the other end of its veth pair, in another namespace
    """

    here: NamespaceFacts = NamespaceFacts("")
    fdb: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    filtered: bool = False
    ovs: tuple[OvsPort, ...] | None = None
    segments: Mapping[str, Segment] = field(default_factory=dict)
    peers: Mapping[str, Device] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What the planner found: the difference between documents and kernel.

    :ivar error: why there is no plan; empty: there is one
    :ivar view: the router as this host builds it, None without a plan
    :ivar desired: namespace → desired states of its slices
    :ivar changes: of the router's namespaces
    :ivar ports: device → fault of its outer side, or why it cannot be plugged
    :ivar omitted: what is left out of the router, and why
    :ivar host_hindrances: what stops the traffic of many routers
    """

    error: str = ""
    view: HostView | None = None
    desired: Mapping[str, tuple[NamespaceState, ...]] = field(default_factory=dict)
    changes: tuple[Changes, ...] = ()
    ports: Mapping[str, str] = field(default_factory=dict)
    plugged: tuple[Port, ...] = ()
    services: tuple[tuple[str, str], ...] = ()
    service_troubles: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()
    host_hindrances: tuple[str, ...] = ()
    is_master: bool | None = None


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What the running daemon says.

    :ivar unreachable: why it does not answer; empty: it does
    :ivar pid: of its process, where it does not answer and the process exists; 0: there is none
    :ivar is_silent: the process listens, and does not answer
    :ivar is_stopped: a signal has stopped the process
    :ivar status: its answer to ``GET /status``
    :ivar router: its record of the subject's router
    """

    unreachable: str = ""
    pid: int = 0
    is_silent: bool = False
    is_stopped: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    router: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """Answers to packets that were sent; None: not asked.

    :ivar instance: MAC addresses that answered ARP for the fixed address
    :ivar gateway: those that answered for the gateway of the external network
    :ivar others: those that answered for the floating IP, beside this host
    :ivar masters: addresses of other hosts that advertise themselves as VRRP master of the router
    """

    instance: tuple[str, ...] | None = None
    gateway: tuple[str, ...] | None = None
    others: tuple[str, ...] | None = None
    masters: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that cannot be used.

    :ivar document: its name
    :ivar reason: key, value and what was expected there
    :ivar router_id: of its router; empty: it cannot be read
    :ivar name: of its router, likewise
    :ivar wants: what it says about the subject, where it can be read
    :ivar file: its path; empty: it is not kept
    """

    document: str
    reason: str
    router_id: str = ""
    name: str = ""
    wants: str = ""
    file: str = ""

    @property
    def title(self) -> str:
        """The router's name or id."""
        return self.name or self.router_id or "(its id cannot be read)"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another document that claims the subject's address.

    :ivar title: the name of its router, or its id
    :ivar path: where the document has the address
    :ivar place: the host that builds it, if that is another one; empty: this host
    :ivar in_kernel: routers of which the kernel has it
    """

    address: str
    title: str
    router_id: str
    document: str
    path: str
    place: str = ""
    in_kernel: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was read.

    :ivar refusal: the newest document of the router, or of the address, that cannot be used; None: it can
    :ivar rivals: other documents that claim the subject's address
    :ivar newest_counts: of two documents that claim one thing the newest has it, else the first
    :ivar near: for an address that no document has: what there is near it
    :ivar in_kernel: for such an address, or a router without a good document: where the kernel has it
    :ivar changes: entries of the history about the subject, oldest first
    :ivar outside_fips: number of floating IPs of all routers that this host has in the path's external network
    """

    subject: Subject
    settings: HostSettings
    refusal: Refusal | None = None
    near: tuple[str, ...] = ()
    in_kernel: tuple[str, ...] = ()
    rivals: tuple[Rival, ...] = ()
    newest_counts: bool = False
    path: AddressPath = NO_PATH
    outside_fips: int = 0
    plan: PlanFacts = PlanFacts()
    namespaces: Mapping[str, NamespaceFacts] = field(default_factory=dict)
    host: HostFacts = HostFacts()
    daemon: DaemonFacts = DaemonFacts()
    probe: ProbeFacts = ProbeFacts()
    changes: tuple[Mapping[str, Any], ...] = ()

    @property
    def places(self) -> list[NamespaceFacts]:
        """The namespaces on the path that exist, outermost first."""
        found = [self.namespaces[name] for name in self.path.namespaces if name in self.namespaces]
        return [one for one in found if one.exists]
