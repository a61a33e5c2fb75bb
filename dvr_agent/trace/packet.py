"""The packet that is traced, and its way: one :class:`Hop` for each decision about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dvr_agent.state.filter import Family
from dvr_agent.trace.addresses import family_of
from dvr_agent.trace.filter_values import PROTOCOL_NUMBERS
from dvr_agent.trace.world import Outcome, Place

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
PROTOCOLS: dict[str, int] = {"icmp": ICMP, **{str(name): number for name, number in PROTOCOL_NUMBERS.items()}}
WITH_PORTS = frozenset(PROTOCOL_NUMBERS.values())
_ECHO = {8: 0, 0: 8, 128: 129, 129: 128}
"""ICMP type of an echo request or reply → type of the other one (RFC 792, RFC 4443)."""


class Tuple(NamedTuple):
    """Addresses and ports by which connection tracking knows one direction of a connection.

    Of ICMP ``sport`` is the identifier and ``dport`` the type.
    """

    src: str
    dst: str
    protocol: int
    sport: int
    dport: int

    def inverted(self) -> Tuple:
        """Return the tuple of an answer."""
        if self.protocol in (ICMP, ICMPV6):
            return Tuple(self.dst, self.src, self.protocol, self.sport, _ECHO.get(self.dport, self.dport))
        return Tuple(self.dst, self.src, self.protocol, self.dport, self.sport)

    @property
    def text(self) -> str:
        """Source and destination, with ports where the protocol has them."""
        if self.protocol not in WITH_PORTS:
            return f"{self.src} → {self.dst}"
        return f"{_endpoint(self.src, self.sport)} → {_endpoint(self.dst, self.dport)}"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of a connection that begins with it, or the answer to one.

    :ivar head: addresses and ports as they are now
    :ivar mark: its mark in the namespace where it is
    :ivar size: bytes with the IP header; it must not be fragmented
    """

    head: Tuple
    mark: int = 0
    size: int = 84

    @property
    def family(self) -> Family:
        """4 or 6."""
        return family_of(self.head.dst)

    def with_head(self, **changes: str | int) -> Packet:
        """Return the packet with other addresses or ports."""
        return replace(self, head=self.head._replace(**changes))  # type: ignore[arg-type]


def make_packet(src: str, dst: str, protocol: int, dport: int = 0, sport: int = 40000, size: int = 84) -> Packet:
    """Make a packet; of ICMP it is an echo request."""
    if protocol in (ICMP, ICMPV6):
        is_six = ":" in dst
        return Packet(Tuple(src, dst, ICMPV6 if is_six else ICMP, sport, 128 if is_six else 8), size=size)
    return Packet(Tuple(src, dst, protocol, sport, dport), size=size)


@dataclass(frozen=True, slots=True)
class RuleAt:
    """The place of a packet filter rule in its table.

    :ivar number: from 0, in the chain
    :ivar nft: the table is one of nf_tables
    :ivar handle: of a rule of nf_tables; 0: the policy
    """

    family: Family
    table: str
    chain: str
    number: int
    nft: bool = False
    handle: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One decision about the packet.

    :ivar where: part of the kernel that decides: ``from``, ``nat PREROUTING``, ``rule``, ``route``, ``rp_filter``,
        ``neighbour``, ``segment``, ``limit``, ``deliver`` …
    :ivar text: the object that decides, as ``ip`` or ``iptables`` prints it
    :ivar before: addresses and ports before
    :ivar after: addresses and ports after; the same object where nothing changes
    :ivar mark: of the packet, afterwards
    :ivar rule: the packet filter rule, None for other objects
    :ivar device: the device that the hop is about, None for none
    :ivar way: how the packet passes the device: ``in``, ``out`` or empty
    """

    namespace: str
    where: str
    text: str
    before: Tuple
    after: Tuple
    mark: int = 0
    rule: RuleAt | None = None
    device: str | None = None
    way: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """The way of a packet, as far as it can be known on this host.

    :ivar outcome: ``delivered`` to a namespace of this host, ``leaves`` the host (or enters a VM) by a device,
        ``dropped``, or ``unknown`` from the last hop on
    :ivar reason: where it ends and why, in one sentence
    :ivar packet: the packet at its end, as the far side sees it
    :ivar at: the device at which it ends, None if it never came to one
    :ivar notes: what may matter and is not computed
    :ivar others: number of further ways that are as likely (next hops of equal cost)
    """

    hops: tuple[Hop, ...]
    outcome: Outcome
    reason: str
    packet: Packet
    at: Place | None = None
    notes: tuple[str, ...] = ()
    others: int = 0
    connections: dict[str, list[Connection]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def reached(self) -> bool:
        """True if the packet arrives: at a namespace, or as far as this host can tell."""
        return self.outcome in ("delivered", "leaves")


@dataclass(slots=True)
class Connection:
    """A connection as one namespace tracks it.

    :ivar begin: tuple of its first packet, before any translation
    :ivar end: tuple of its first packet after translation; its inverse is what answers have
    :ivar translated: ``DNAT`` and ``SNAT``, as far as they apply
    :ivar decided: ``DNAT`` and ``SNAT``, as far as the nat tables are not asked any more
    :ivar state: of packets in the direction of the first one: ``NEW``, ``RELATED`` or ``ESTABLISHED``
    :ivar existing: the kernel has the connection; else the traced packet makes it
    """

    begin: Tuple
    end: Tuple
    mark: int = 0
    translated: set[str] = field(default_factory=set)
    decided: set[str] = field(default_factory=set)
    state: str = "NEW"
    existing: bool = False

    @property
    def text(self) -> str:
        """Both directions of the connection, for people."""
        return f"{self.begin.text}, answered by {self.end.inverted().text}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
