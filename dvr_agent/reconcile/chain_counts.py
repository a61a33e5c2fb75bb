"""Counts the chains of a table by owner: ours, or those of neutron-l3-agent.  Pure.

Used by takeover and handover, and by the lines of plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain
from dvr_agent.state.filter import CHAIN_PREFIX, Table

ChainCounts = list[tuple[str, int]]
"""(Text of a table, number of chains in it), only of tables that have such chains."""


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
    """Count chains by table; our four tables of a family are one table of nf_tables."""
    found: Counter[str] = Counter()
    for table in tables:
        found[table.text] += sum(is_counted(chain.name) for chain in table.chains)
    return [(table, number) for table, number in found.items() if number]
