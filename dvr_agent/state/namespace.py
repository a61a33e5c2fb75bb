"""A namespace, or one owner's slice of it: everything that is there or should be there."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvr_agent.state.address import Address
from dvr_agent.state.filter import Table
from dvr_agent.state.link import Link
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl


@dataclass(frozen=True, slots=True)
class Announcement:
    """Tell the neighbours of ``device`` where ``address`` now lives (gratuitous ARP or unsolicited NA).

    Sent when ``because`` is added or changed: the address itself, or a route that brings its packets here.
    """

    device: str
    address: str
    because: Address | Route


@dataclass(frozen=True, slots=True)
class Outbound:
    """Which tracked connections end when an address gets a translation: they would go on without it.

    :ivar addresses: those whose connections to the outside are translated
    :ivar inside: IPv4 networks that are reached without leaving to the outside, so that nothing is translated
    """

    addresses: frozenset[str] = frozenset()
    inside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """What one slice of a namespace holds.

    :ivar name: of the namespace, e.g. ``qrouter-<uuid>``
    :ivar ownership: which objects of the namespace this slice answers for
    :ivar tables: our part of each packet filter table that this slice manages; no other is looked at
    :ivar left_over: only in observed states: chains of neutron-l3-agent in tables of nf_tables, which have to go
    :ivar announcements: only in desired states; likewise ``outbound``
    :ivar link_locals: only in observed states: link-local addresses that the kernel made, or somebody else
    :ivar loopback: only in observed states whose ownership has ``kernel_rules``: ``lo``, which must be up
    """

    name: str
    ownership: Ownership
    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    tables: tuple[Table, ...] = ()
    left_over: tuple[Table, ...] = ()
    announcements: tuple[Announcement, ...] = field(default=(), compare=False)
    outbound: Outbound = field(default=Outbound(), compare=False)
    link_locals: frozenset[Address] = field(default=frozenset(), compare=False)
    loopback: Link | None = field(default=None, compare=False)
