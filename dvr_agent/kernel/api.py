"""The kernel layer's public face: what the reconciler may ask of a kernel, real (``linux``) or fake (``fake``).

It knows namespaces, links, addresses, rules and tables; it knows no routers.  Every method blocks and is called from
the one native worker thread.  Every method may raise :class:`~dvr_agent.errors.KernelError`; one that finds its
namespace missing raises :class:`~dvr_agent.errors.NamespaceGoneError`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from dvr_agent.state.diff import Change
from dvr_agent.state.filter import Table, TableKey
from dvr_agent.state.namespace import Announcement, NamespaceState
from dvr_agent.state.ownership import Ownership


@dataclass(slots=True)
class WriteCounters:
    """How often the kernel was written to since the process began; a second run over the same state adds nothing."""

    netlink: int = 0
    """Netlink messages that ask for a change."""
    commits: int = 0
    """Packet filter tables replaced."""
    nftables: int = 0
    """Transactions on nf_tables, each of which removes the chains that another agent has in a namespace."""
    sysctls: int = 0
    namespaces: int = 0
    """Namespaces created or removed."""

    def total(self) -> int:
        return self.netlink + self.commits + self.nftables + self.sysctls + self.namespaces


class NamespaceManager(Protocol):
    """Named network namespaces, the ones ``ip netns`` shows."""

    def create(self, name: str) -> None:
        """Make it, with ``lo`` up.  One that is there already is left as it is."""

    def remove(self, name: str) -> None:
        """Remove it with all that is in it; the kernel tears it down in the background.  None there: nothing to do."""

    def list(self) -> list[str]:
        """Names of all of them, sorted."""

    def exists(self, name: str) -> bool: ...

    def empty_files(self) -> Sequence[str]:
        """Names without a namespace, sorted: files that a process made and was killed before it mounted one on them."""

    def remove_file(self, name: str) -> None:
        """Remove a name without a namespace.  One that has a namespace by now stays; none there: nothing to do."""

    def enter(self, name: str) -> AbstractContextManager[None]:
        """The calling thread is in that namespace inside the ``with`` block.

        Only system calls belong in the block: no logging, no lock, nothing that may switch green threads.
        """


class InterfacePlumber(Protocol):
    """Links, addresses, routes, rules, neighbours and sysctls of a namespace."""

    def observe(self, namespace: str, ownership: Ownership, sysctls: Iterable[str]) -> NamespaceState | None:
        """What is there of what ``ownership`` claims; of the parameters, those named in ``sysctls``.

        :returns: None if there is no such namespace; ``tables`` stays empty
        """

    def apply(self, namespace: str, changes: Sequence[Change]) -> None:
        """Make the changes in the given order, in as few netlink batches as the order allows.

        Links: ADD of a ``Veth`` makes the pair, of a ``VethPeer`` raises the end that is there by then; ADD of a
        ``Port`` is the attach driver's work and must not come here.  CHANGE and REMOVE work for all.
        Removing what is already gone is no error.

        :raises KernelError: naming the first object that failed; objects after it may have been done or not
        """


class PendingTables(Protocol):
    """Changes collected inside a ``defer_apply()`` block."""

    def replace(self, namespace: str, table: Table) -> None:
        """Our part of this table shall be exactly ``table`` at the end of the block."""

    def withdraw(self, namespace: str, key: TableKey) -> None:
        """What we made in this table shall be gone at the end of the block; left-overs of the other agent stay."""


class IptablesManager(Protocol):
    """Our chains in the packet filter tables."""

    def observe(self, namespace: str, tables: Iterable[TableKey]) -> tuple[Table, ...]:
        """Our part of each named table, in the order asked for."""

    def defer_apply(self) -> AbstractContextManager[PendingTables]:
        """Collect changes; at the end of the block commit each changed table once.

        An exception inside the block applies nothing.  Counters of rules that stay are kept.
        """

    def save(self, namespace: str) -> str:
        """Our chains in all tables of both families, in iptables-save syntax."""


class NftablesManager(Protocol):
    """Chains of neutron-l3-agent in tables of nf_tables, where its iptables is iptables-nft."""

    def observe(self, namespace: str) -> tuple[Table, ...]:
        """Those tables in which it has chains, with its chains only; () if there are none or no nf_tables.

        :raises NamespaceGoneError: there is no such namespace
        """

    def remove(self, namespace: str) -> int:
        """Remove its chains from all tables in one transaction; returns how many there were.

        :raises KernelError: nothing was changed
        """


class Conntrack(Protocol):
    """The connection tracking table of a namespace."""

    def delete(self, namespace: str, address: str) -> int:
        """Delete the connections with exactly this address on either side of either direction; returns how many."""

    def drop_untranslated(self, namespace: str, addresses: Collection[str], inside: Sequence[str]) -> int:
        """Delete the connections that one of these IPv4 addresses has begun and that no NAT rule translates.

        :param inside: networks; connections to these stay
        :returns: how many were deleted
        """


class Announcer(Protocol):
    """Tells other hosts where an address lives."""

    def announce(self, namespace: str, announcements: Sequence[Announcement]) -> None:
        """One gratuitous ARP request and reply (IPv4) or unsolicited neighbour advertisement (IPv6) for each."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """All of it in one hand."""

    namespaces: NamespaceManager
    interfaces: InterfacePlumber
    iptables: IptablesManager
    nftables: NftablesManager
    conntrack: Conntrack
    announcer: Announcer
    counters: WriteCounters
