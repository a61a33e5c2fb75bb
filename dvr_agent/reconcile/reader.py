"""What a plan may ask of the host: the reading half of the kernel managers, the attach driver and the services.

The planner gets these types only, so that nothing it does can write: neither kernel nor layer 2 nor services.
:class:`dvr_agent.kernel.api.Kernel`, :class:`dvr_agent.attach.api.AttachDriver` and
:class:`dvr_agent.services.bundle.Services` have these methods, with the contracts given there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from dvr_agent.attach.api import OuterPort
from dvr_agent.model.router import Router
from dvr_agent.services.bundle import ServiceChange
from dvr_agent.state.filter import Table, TableKey
from dvr_agent.state.link import Port
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership


class NamespaceReader(Protocol):
    """Reads which network namespaces there are."""

    def list(self) -> list[str]: ...

    def exists(self, name: str) -> bool: ...

    def empty_files(self) -> Sequence[str]: ...


class InterfaceReader(Protocol):
    """Reads links, addresses, routes, rules, neighbours and sysctls of a namespace."""

    def observe(self, namespace: str, ownership: Ownership, sysctls: Iterable[str]) -> NamespaceState | None: ...


class IptablesReader(Protocol):
    """Reads our part of packet filter tables."""

    def observe(self, namespace: str, tables: Iterable[TableKey]) -> tuple[Table, ...]: ...


class NftablesReader(Protocol):
    """Reads what neutron-l3-agent has in nf_tables."""

    def observe(self, namespace: str) -> tuple[Table, ...]: ...


class KernelReader(Protocol):
    """The reading half of :class:`dvr_agent.kernel.api.Kernel`."""

    @property
    def namespaces(self) -> NamespaceReader: ...

    @property
    def interfaces(self) -> InterfaceReader: ...

    @property
    def iptables(self) -> IptablesReader: ...

    @property
    def nftables(self) -> NftablesReader: ...


class AttachReader(Protocol):
    """The reading half of :class:`dvr_agent.attach.api.AttachDriver`."""

    def check(self, ports: Iterable[Port]) -> dict[str, str]: ...

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]: ...

    def list(self) -> list[OuterPort]: ...

    def idle(self, networks: Collection[str] = ()) -> Sequence[str]: ...


class ServiceReader(Protocol):
    """The reading half of :class:`dvr_agent.services.bundle.Services`."""

    @property
    def troubles(self) -> list[str]: ...

    def plan(self, router: Router) -> tuple[ServiceChange, ...]: ...

    def plan_remove(self, router_id: str) -> tuple[ServiceChange, ...]: ...

    def routers(self) -> set[str]: ...
