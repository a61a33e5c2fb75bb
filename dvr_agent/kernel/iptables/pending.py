"""Changes of packet filter tables that a ``defer_apply()`` block collects, checked as they come.  Pure.

Used by both packet filters: ``kernel/iptables`` and ``kernel/nftables``.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace

from dvr_agent.errors import KernelError
from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.kernel.iptables.rule_codec import check_chain_name
from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain
from dvr_agent.state.filter import CHAIN_PREFIX, Jump, Table, TableKey


@dataclass(slots=True)
class Pending:
    """Changes collected inside a ``defer_apply()`` block: a :class:`~dvr_agent.kernel.api.PendingTables`."""

    tables: dict[tuple[str, TableKey], Table] = field(default_factory=dict)
    withdrawn: set[tuple[str, TableKey]] = field(default_factory=set)

    def replace(self, namespace: str, table: Table) -> None:
        """Make our part of this table exactly ``table`` at the end of the block; the last call for a table counts.

        :raises KernelError: EINVAL, the table is not one that can be ours
        """
        try:
            check_table(table)
        except ValueError as exc:
            raise KernelError(namespace, table.text, errno.EINVAL, str(exc)) from exc
        self.tables[namespace, table.key] = table
        self.withdrawn.discard((namespace, table.key))

    def withdraw(self, namespace: str, key: TableKey) -> None:
        """Remove our chains and jumps from this table at the end of the block; those of neutron-l3-agent stay."""
        self.replace(namespace, Table(*key))
        self.withdrawn.add((namespace, key))

    def namespaces(self) -> list[str]:
        """Return the names of the namespaces with changes, sorted."""
        return sorted({namespace for namespace, _key in self.tables})

    def of(self, namespace: str) -> list[Table]:
        """Return the desired tables of one namespace, in the order in which they were added."""
        return [table for (found, _key), table in self.tables.items() if found == namespace]


def l3_agent_part(table: Table) -> Table:
    """Return the chains of neutron-l3-agent in a table, and the jumps to them."""
    return replace(
        table,
        chains=tuple(chain for chain in table.chains if is_l3_agent_chain(chain.name)),
        jumps=tuple(jump for jump in table.jumps if is_l3_agent_chain(jump[1])),
    )


def check_table(table: Table) -> None:
    """Check that a table can be ours.

    :raises ValueError: a chain is not ours or there twice, or a jump leads from or to a chain that does not exist
    """
    if table.name not in BUILTINS:
        raise ValueError(f"the tables are {', '.join(BUILTINS)}")
    names = {chain.name for chain in table.chains}
    if len(names) != len(table.chains):
        raise ValueError("a chain is there twice")
    for name in names:
        check_chain_name(name)
        if not name.startswith(CHAIN_PREFIX):
            raise ValueError(f"chains of ours begin with {CHAIN_PREFIX}: {name}")
    _check_jumps(table, names)
    for found in table.chains:
        for rule in [rule for rule in found.rules if rule.target.__class__ is Jump]:
            if isinstance(rule.target, Jump) and rule.target.chain not in names:
                raise ValueError(f"there is no chain for -A {found.name} {rule.text}")


def _check_jumps(table: Table, names: set[str]) -> None:
    for builtin, chain in table.jumps:
        if builtin not in BUILTINS[table.name] or chain not in names:
            raise ValueError(f"no jump from {builtin} to {chain} is possible")
    if len(set(table.jumps)) != len(table.jumps):
        raise ValueError("a jump is there twice")
