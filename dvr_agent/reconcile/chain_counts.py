"""Counts the chains of a table by owner: ours, or those of neutron-l3-agent.  Pure.

Used by takeover and handover, and by the lines of plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain
from dvr_agent.state.filter import CHAIN_PREFIX, Table

ChainCounts = list[tuple[Table, int]]
"""Tables that have such chains, and the number of the chains."""


def own_chains(tables: Iterable[Table]) -> ChainCounts:
    """Count our chains."""
    return _count(tables, _is_own)


def l3_agent_chains(tables: Iterable[Table]) -> ChainCounts:
    """Count the chains of neutron-l3-agent."""
    return _count(tables, is_l3_agent_chain)


def has_own_chains(table: Table) -> bool:
    """True if a table has chains of ours."""
    return any(_is_own(chain.name) for chain in table.chains)


def has_l3_agent_chains(table: Table) -> bool:
    """True if a table has chains of neutron-l3-agent."""
    return any(is_l3_agent_chain(chain.name) for chain in table.chains)


def _is_own(chain: str) -> bool:
    return chain.startswith(CHAIN_PREFIX)


def _count(tables: Iterable[Table], is_counted: Callable[[str], bool]) -> ChainCounts:
    """Count chains by table; all of ours that are in one table of nf_tables are counted together."""
    found: dict[str, tuple[Table, int]] = {}
    for table in tables:
        first, number = found.get(table.text, (table, 0))
        found[table.text] = (first, number + sum(is_counted(chain.name) for chain in table.chains))
    return [(table, number) for table, number in found.values() if number]
