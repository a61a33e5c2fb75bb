"""Find and remove stale chains in the packet filter of a namespace: of neutron-l3-agent, and of ours.

Ours are stale where the option ``packet_filter`` was changed: in nf_tables on a host that uses legacy tables, or the
other way round.  They are removed when the new ones are there.  Implements
:class:`dvr_agent.kernel.api.NftablesManager`; used by takeover (``reconcile/takeover.py``) and the executor.
"""

from __future__ import annotations

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import DroppingChain, WriteCounters
from dvr_agent.kernel.host_filter import Backend
from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.kernel.iptables.manager import LibiptcManager
from dvr_agent.kernel.nftables.filter_manager import NftablesFilter
from dvr_agent.kernel.nftables.manager import NftablesTables
from dvr_agent.kernel.nftables.message import MISSING
from dvr_agent.kernel.nftables.ruleset import TABLE
from dvr_agent.state.filter import Table, TableKey

ALL_TABLES: tuple[TableKey, ...] = tuple((family, name) for family in (4, 6) for name in BUILTINS)
TRANSIT = frozenset({"PREROUTING", "FORWARD", "POSTROUTING"})
"""Built-in chains that forwarded packets pass."""


class OtherFilters:
    """Chains in the packet filter that this host does not use, and chains of neutron-l3-agent in nf_tables.

    :param backend: the packet filter that this host uses
    """

    def __init__(
        self, backend: Backend, counters: WriteCounters, legacy: LibiptcManager, l3_agent: NftablesTables
    ) -> None:
        self._l3_agent, self._counters = l3_agent, counters
        self._unused: LibiptcManager | NftablesFilter = legacy if backend == "nftables" else NftablesFilter(counters)
        self._legacy = legacy if backend == "nftables" else None

    def observe(self, namespace: str) -> tuple[Table, ...]:
        """Read the chains, by table; a table may be there twice, since each packet filter has one of its name.

        :raises NamespaceGoneError: there is no such namespace
        """
        tables, chains = self._l3_agent.observe(namespace)
        if self._legacy is None and not any(chain.table == TABLE for chain in chains):
            return tables  # ours would be in nf_tables
        return (*tables, *self._left(namespace))

    def dropping(self, namespace: str) -> tuple[DroppingChain, ...]:
        """Read the base chains by which others drop what is forwarded."""
        found = self._l3_agent.dropping(namespace)
        if self._legacy is None:
            return found  # policies of legacy tables are read with ours
        tables = self._legacy.observe(namespace, [key for key in ALL_TABLES if key[1] in ("mangle", "filter")])
        policies = [
            DroppingChain((table.family,), f"{table.text}: the policy of {chain} is DROP")
            for table in tables
            for chain in table.dropping
            if chain in TRANSIT
        ]
        return (*found, *policies)

    def remove(self, namespace: str) -> int:
        """Remove them all; returns the number of chains.

        :raises KernelError: some of them are left, and the call may be repeated
        """
        left = self._left(namespace)
        if left:
            with self._unused.defer_apply() as pending:
                for table in left:
                    pending.replace(namespace, Table(*table.key))
        return self._l3_agent.remove(namespace) + sum(len(table.chains) for table in left)

    def withdraw(self, namespace: str) -> None:
        """Remove chains of ours from the packet filter that this host does not use.

        :raises KernelError: some of them are left, and the call may be repeated
        """
        left = self._left(namespace)
        if left:
            with self._unused.defer_apply() as pending:
                for table in left:
                    pending.withdraw(namespace, table.key)

    def _left(self, namespace: str) -> list[Table]:
        try:
            return [table for table in self._unused.observe(namespace, ALL_TABLES) if table.chains]
        except NamespaceGoneError:
            raise
        except KernelError as exc:
            if exc.code not in MISSING:
                raise
            return []  # this kernel has no nf_tables
