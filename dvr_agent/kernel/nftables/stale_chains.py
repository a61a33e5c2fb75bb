"""Find the chains of neutron-l3-agent in a table of nf_tables, and make the requests that delete them.  Pure.

Used by :mod:`.manager`.  Chains of neutron-l3-agent are deleted with the rules in built-in chains that lead to them.  A
table of iptables-nft that then has only built-in chains without rules is deleted too, since each built-in chain costs
every packet a call.  A table with rules, chains or sets of other programs stays, with those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain, stale_chains
from dvr_agent.kernel.netlink.message import FAMILY_OF_AF, Request
from dvr_agent.kernel.nftables.message import (
    FAMILIES,
    ChainInfo,
    RuleInfo,
    TableInfo,
    delete_chain,
    delete_rule,
    delete_table,
)
from dvr_agent.kernel.nftables.rules import decode, jump_of
from dvr_agent.state.filter import Chain, Family, FilterRule, Jump, Table


@dataclass(frozen=True, slots=True)
class NftTable:
    """One table in which neutron-l3-agent has chains, with all its chains and rules."""

    info: TableInfo
    chains: tuple[ChainInfo, ...]
    rules: tuple[RuleInfo, ...]

    @property
    def stale_chains(self) -> tuple[ChainInfo, ...]:
        """The chains of neutron-l3-agent that are removed."""
        stale = stale_chains([chain.name for chain in self.chains])
        return tuple(chain for chain in self.chains if chain.name in stale)

    @property
    def jumps(self) -> tuple[RuleInfo, ...]:
        """Rules of built-in chains that lead to a chain of neutron-l3-agent."""
        stale = {chain.name for chain in self.stale_chains}
        base = {chain.name for chain in self.chains if chain.base}
        return tuple(rule for rule in self.rules if rule.chain in base and jump_of(rule.expressions) in stale)

    @property
    def is_deletable(self) -> bool:
        """True if the table has no rules, chains, sets or policies of other programs."""
        stale = {chain.name for chain in self.stale_chains}
        others = [chain for chain in self.chains if chain.name not in stale]
        builtins = BUILTINS.get(self.info.name, ())
        if self.info.use != len(self.chains):
            return False  # sets, maps or objects: not made by iptables-nft
        if not all(chain.base and chain.accepts and chain.name in builtins for chain in others):
            return False
        kept = {chain.name for chain in others}
        jumps = {rule.handle for rule in self.jumps}
        return all(rule.chain not in kept or rule.handle in jumps for rule in self.rules)


def tables_with_stale_chains(chains: Sequence[ChainInfo]) -> list[tuple[int, str]]:
    """Return (family, name) of the tables in which neutron-l3-agent has chains, sorted."""
    names: dict[tuple[int, str], list[str]] = {}
    for one in chains:
        if one.family in FAMILIES:
            names.setdefault((one.family, one.table), []).append(one.name)
    return sorted(place for place, found in names.items() if stale_chains(found))


def as_table(found: NftTable) -> Table:
    """Convert the chains of neutron-l3-agent and the jumps to them to a ``state.filter`` table."""
    family: Family = 4 if FAMILY_OF_AF[found.info.family] == 4 else 6
    rules: dict[str, list[FilterRule]] = {chain.name: [] for chain in found.stale_chains}
    for rule in found.rules:
        if rule.chain in rules:
            rules[rule.chain].append(decode(family, rule.expressions))
    jumps = {
        (rule.chain, target.chain)
        for rule in found.jumps
        if isinstance(target := decode(family, rule.expressions).target, Jump)
    }
    chains = tuple(Chain(name, tuple(rules[name])) for name in sorted(rules))
    name = f"{'ip' if family == 4 else 'ip6'} {found.info.name}"
    return Table(family, found.info.name, chains, tuple(sorted(jumps)), nft=name)


def deletions(found: NftTable) -> Iterator[Request]:
    """Make the requests in an order in which no rule leads to a chain that is deleted."""
    family, table = found.info.family, found.info.name
    for chain in found.stale_chains:
        yield delete_rule(family, table, chain.name)
    for rule in found.jumps:
        yield delete_rule(family, table, rule.chain, rule.handle)
    for chain in found.stale_chains:
        yield delete_chain(family, table, chain.name)
    if found.is_deletable:
        for chain in found.chains:
            if not is_l3_agent_chain(chain.name):
                yield delete_chain(family, table, chain.name)
        yield delete_table(family, table)
