"""Protocols for reading the host: the reading halves of the kernel managers, the attach driver and the services.

The planner gets these types only, so that it can write neither kernel nor layer 2 nor services.
:class:`dvr_agent.kernel.api.Kernel`, :class:`dvr_agent.attach.api.AttachDriver` and
:class:`dvr_agent.services.bundle.Services` have these methods, with the contracts given there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from dvr_agent.attach.api import OuterPort
from dvr_agent.kernel.api import DroppingChain, RuleCount
from dvr_agent.model.router import Router
from dvr_agent.services.bundle import ServiceChange
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.state.filter import Family, Table, TableKey, Transport
from dvr_agent.state.limit import Drops, Limit
from dvr_agent.state.link import Port
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.wiring import Wiring


class NamespaceReader(Protocol):
    """Reads which network namespaces there are."""

    def list(self) -> list[str]:
        """Return the names of all namespaces, sorted."""

    def exists(self, name: str) -> bool:
        """Return True if there is a namespace of that name."""

    def empty_files(self) -> Sequence[str]:
        """Return names in ``/run/netns`` without a namespace."""


class InterfaceReader(Protocol):
    """Reads links, addresses, routes, rules, neighbours and sysctls of a namespace."""

    def observe(
        self,
        namespace: str,
        ownership: Ownership,
        sysctls: Iterable[str],
        neighbours: Collection[Neighbour] | None = None,
    ) -> NamespaceState | None:
        """Read the objects that ``ownership`` claims, and the named sysctls; None without such a namespace.

        :param neighbours: look at these only; None: at all
        """

    def limits(self, namespace: str, ownership: Ownership) -> frozenset[Limit]:
        """Read the bandwidth limits that ``ownership`` claims."""

    def limit_drops(self, namespace: str) -> tuple[Drops, ...]:
        """Read what bandwidth limits have dropped."""


class FilterTables(Protocol):
    """Reads legacy packet filter tables: our chains, and those of neutron-l3-agent."""

    def observe(self, namespace: str, tables: Iterable[TableKey], likely: Iterable[Table] = ()) -> tuple[Table, ...]:
        """Read the chains of each named table that are ours or neutron-l3-agent's, in the order of the arguments."""

    def save(self, namespace: str) -> str:
        """Return our chains in all tables of both families, in iptables-save syntax."""

    def counts(self, namespace: str, table: TableKey) -> tuple[RuleCount, ...]:
        """Read the counters of all rules in our chains of a table."""

    def helper_families(self, name: str, protocol: Transport) -> frozenset[Family]:
        """Return the families for which the kernel has this connection tracking helper; empty: it has none."""


class NftablesReader(Protocol):
    """Reads stale chains, and nf_tables of others."""

    def observe(self, namespace: str) -> tuple[Table, ...]:
        """Read the tables with chains of neutron-l3-agent in nf_tables, or with any in the unused packet filter."""

    def dropping(self, namespace: str) -> tuple[DroppingChain, ...]:
        """Read the base chains by which others drop what is forwarded."""


class KernelReader(Protocol):
    """The reading half of :class:`dvr_agent.kernel.api.Kernel`."""

    @property
    def namespaces(self) -> NamespaceReader:
        """Network namespaces."""

    @property
    def interfaces(self) -> InterfaceReader:
        """Links, addresses, routes, rules, neighbours and sysctls."""

    @property
    def packet_filter(self) -> FilterTables:
        """Packet filter tables."""

    @property
    def nftables(self) -> NftablesReader:
        """Stale chains."""


class AttachReader(Protocol):
    """The reading half of :class:`dvr_agent.attach.api.AttachDriver`."""

    @property
    def is_told_by_links(self) -> bool:
        """True if events of the host's links tell of each new fault that :meth:`check` would find."""

    def check(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return, by device, the faults of ports whose device exists."""

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return, by device, the reasons why ports could not be plugged now."""

    def hindrances(self, networks: Collection[str]) -> Sequence[str]:
        """Return what of others stops the traffic of these networks, as the last :meth:`check` found it."""

    def host_hindrances(self) -> Sequence[str]:
        """Return what of others stops the traffic of external networks."""

    def filtered_families(self) -> Sequence[Family]:
        """Return the families of the packets on layer 2 that pass by the host's own packet filter."""

    def wiring(self) -> Wiring:
        """Return the layer 2 sides of all ports by the beginning of their id, and the uplinks of bridges."""

    def list(self) -> list[OuterPort]:
        """Return the layer 2 sides of all our ports."""

    def idle(self, networks: Collection[str] = (), without: Collection[str] = ()) -> Sequence[str]:
        """Return the bridges of ours that nothing uses and that are of none of the networks.

        :param without: namespaces whose ports do not count
        """


class ServiceReader(Protocol):
    """The reading half of :class:`dvr_agent.services.bundle.Services`."""

    @property
    def troubles(self) -> list[str]:
        """Reasons why a service cannot work on this host."""

    def plan(self, router: Router, place: VrrpPlace | None = None) -> tuple[ServiceChange, ...]:
        """Return the changes that serving a router would make."""

    def plan_remove(self, router_id: str) -> tuple[ServiceChange, ...]:
        """Return the changes that ending a router's services would make."""

    def routers(self) -> set[str]:
        """Return the ids of routers with a service on this host."""
