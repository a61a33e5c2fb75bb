"""Interfaces of the kernel managers that the reconciler uses; ``linux`` and ``fake`` implement them.

The managers know namespaces, links, addresses, rules and tables, and no routers.  Every method blocks and is called
from the one native worker thread.  Every method may raise :class:`~dvr_agent.errors.KernelError`, and for a namespace
that does not exist :class:`~dvr_agent.errors.NamespaceGoneError`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Flag, auto
from typing import NamedTuple, Protocol

from dvr_agent.state.diff import Change
from dvr_agent.state.filter import Family, FilterRule, Ports, Table, TableKey, Transport
from dvr_agent.state.limit import Drops, Limit
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import Announcement, NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership


@dataclass(slots=True)
class WriteCounters:
    """Writes to the kernel since the process began; a second run over the same state adds none.

    :ivar netlink: netlink messages that ask for a change
    :ivar commits: packet filter tables replaced
    :ivar nftables: transactions on nf_tables: of limits, and those that remove neutron-l3-agent's chains of a namespace
    :ivar sysctls: parameters set
    :ivar namespaces: namespaces created or removed
    """

    netlink: int = 0
    commits: int = 0
    nftables: int = 0
    sysctls: int = 0
    namespaces: int = 0

    def total(self) -> int:
        """Return the sum of all writes."""
        return self.netlink + self.commits + self.nftables + self.sysctls + self.namespaces


class NamespaceManager(Protocol):
    """Named network namespaces, those that ``ip netns`` lists.

    :ivar on_new: is told of each namespace that :meth:`create` makes, by name and descriptor, before the name is there
    """

    on_new: Callable[[str, int], object]

    def create(self, name: str) -> None:
        """Create a namespace, with ``lo`` up; a namespace that exists already is left as it is."""

    def remove(self, name: str) -> None:
        """Remove a namespace with all its objects; the kernel does so in the background.  An absent one is no error."""

    def list(self) -> list[str]:
        """Return the names of all namespaces, sorted."""

    def exists(self, name: str) -> bool:
        """True if there is a namespace of that name.

        :raises KernelError: it cannot be told
        """

    def empty_files(self) -> Sequence[str]:
        """Return names without a namespace, sorted: a process was killed between making the file and mounting on it."""

    def remove_file(self, name: str) -> None:
        """Remove a name without a namespace.  A name that has a namespace by now stays; an absent one is no error."""

    def job(self) -> AbstractContextManager[None]:
        """Make writes in several steps cheaper inside the block: what one call opens is kept for the next ones."""

    def enter(self, name: str) -> AbstractContextManager[None]:
        """Have the calling thread in a namespace inside the ``with`` block.

        Only system calls belong in the block: no logging, no lock, nothing that may switch green threads.
        """


class InterfacePlumber(Protocol):
    """Links, addresses, routes, rules, neighbours, sysctls and bandwidth limits of a namespace."""

    def observe(
        self,
        namespace: str,
        ownership: Ownership,
        sysctls: Iterable[str],
        neighbours: Collection[Neighbour] | None = None,
    ) -> NamespaceState | None:
        """Read the objects of a namespace that ``ownership`` claims, and the named kernel parameters.

        Neighbours of a family are read where an address of that family is: without one they have no effect.

        :param neighbours: look only whether these are as they should be; others are left out, or may be.  To find all
            neighbours of a namespace the kernel walks over those of the whole host
        :returns: None if there is no such namespace; ``tables`` is empty
        """

    def apply(self, namespace: str, changes: Sequence[Change], missing: Missing | None = None) -> None:
        """Apply the changes in the given order, in as few netlink batches as the order allows.

        An object that the kernel refuses does not stop the others, except those that depend on it: they are skipped.

        Links: ADD of a ``Veth`` creates the pair, of a ``VethPeer`` raises the end that exists by then; ADD of a
        ``Port`` is done by the attach driver and must not be passed here.  CHANGE and REMOVE work for all.
        The removal of an object that does not exist is no error.

        :param missing: what earlier changes of the same job lack; refused objects are noted there
        :raises KernelError: the kernel could not be asked; without ``missing`` also the first object that it refused
        """

    def limits(self, namespace: str, ownership: Ownership) -> frozenset[Limit]:
        """Read the bandwidth limits of a namespace that ``ownership`` claims, and nothing else."""

    def limit_drops(self, namespace: str) -> tuple[Drops, ...]:
        """Read what the bandwidth limits of a namespace have dropped; nothing of those that have dropped no packet."""


class PendingTables(Protocol):
    """Changes collected inside a :meth:`PacketFilter.defer_apply` block."""

    def replace(self, namespace: str, table: Table) -> None:
        """Make our part of this table exactly ``table`` at the end of the block."""

    def withdraw(self, namespace: str, key: TableKey) -> None:
        """Remove our chains and jumps from this table at the end of the block; those of neutron-l3-agent stay."""


class RuleCount(NamedTuple):
    """What a packet filter rule of ours has matched since it was made.

    :ivar bytes: of whole IP packets
    """

    rule: FilterRule
    packets: int
    bytes: int


class PacketFilter(Protocol):
    """Our packet filter rules, in legacy tables (``kernel/iptables``) or in nf_tables (``kernel/nftables``).

    What a host uses, ``kernel/host_filter.py`` says.  Both have the same tables with the same rules.
    """

    def observe(self, namespace: str, tables: Iterable[TableKey]) -> tuple[Table, ...]:
        """Read our part of each named table, in the order asked for."""

    def reserve(self) -> AbstractContextManager[None]:
        """Inside the block no :meth:`defer_apply` waits for other programs.

        :raises TablesLockedError: another program holds the lock of iptables programs; never with nf_tables
        """

    def defer_apply(self) -> AbstractContextManager[PendingTables]:
        """Collect changes; at the end of the block commit each changed table once.

        An exception inside the block applies nothing.  Counters of rules that stay are kept.
        """

    def save(self, namespace: str) -> str:
        """Return our rules of both families, as iptables-save or nft prints them."""

    def counts(self, namespace: str, table: TableKey) -> tuple[RuleCount, ...]:
        """Read the counters of the rules of a table that are there to count, in their order; () without such a table.

        Legacy tables count what any rule matches, and return that.
        """

    def helper_families(self, name: str, protocol: Transport) -> frozenset[Family]:
        """Return the families for which the kernel has this connection tracking helper; empty: it has none."""


class DroppingChain(NamedTuple):
    """A chain of another program that drops what is forwarded.

    :ivar families: of the packets that it sees
    """

    families: tuple[Family, ...]
    text: str


class NftablesManager(Protocol):
    """Stale chains: of neutron-l3-agent in nf_tables, and any in the packet filter that this host does not use.

    Also what others drop in nf_tables.
    """

    def observe(self, namespace: str) -> tuple[Table, ...]:
        """Read the stale chains, by table; () if there are none.

        :raises NamespaceGoneError: there is no such namespace
        """

    def dropping(self, namespace: str) -> tuple[DroppingChain, ...]:
        """Read the base chains by which others drop what is forwarded; () without any, or without the namespace."""

    def remove(self, namespace: str) -> int:
        """Remove all stale chains, in one transaction for each packet filter; returns the number of chains.

        :raises KernelError: some are left, and the call may be repeated
        """

    def withdraw(self, namespace: str) -> None:
        """Remove the stale chains of ours only; those of neutron-l3-agent stay.

        :raises KernelError: some are left, and the call may be repeated
        """


class Conntrack(Protocol):
    """The connection tracking table of a namespace."""

    def delete(self, namespace: str, address: str) -> int:
        """Delete connections with exactly this address on either side of either direction; returns their number."""

    def delete_to_ports(self, namespace: str, address: str, ports: Collection[Ports]) -> int:
        """Delete connections that began to one of these ports of an IPv4 address; returns their number."""

    def drop_untranslated(self, namespace: str, addresses: Collection[str], inside: Sequence[str]) -> int:
        """Delete connections that one of these IPv4 addresses began and that no NAT rule translates.

        :param inside: networks; connections to these stay
        :returns: number of deleted connections
        """


class GratuitousArp(Flag):
    """The frames that announce an IPv4 address; a broadcast costs the host time for every router on the network."""

    REQUEST = auto()
    """The announcement of RFC 5227."""
    REPLY = auto()
    """For neighbours that heed replies only."""
    BOTH = REQUEST | REPLY


class Announcer(Protocol):
    """Announces addresses to the hosts on a network."""

    def announce(
        self, namespace: str, announcements: Sequence[Announcement], arp: GratuitousArp = GratuitousArp.BOTH
    ) -> None:
        """Send gratuitous ARP frames (IPv4) or an unsolicited neighbour advertisement (IPv6) for each."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Facade over the kernel managers.

    :ivar counters: counts the writes of all managers
    """

    namespaces: NamespaceManager
    interfaces: InterfacePlumber
    packet_filter: PacketFilter
    nftables: NftablesManager
    conntrack: Conntrack
    announcer: Announcer
    counters: WriteCounters
