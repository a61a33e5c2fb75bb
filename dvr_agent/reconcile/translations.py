"""Reads translations from packet filter rules: which floating IP stands for which fixed IP.

Used for post-commit work, for the inventory, at a handover, and by ``dvrctl show``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dvr_agent.state.filter import Dnat, FilterRule, Table


def rules_of(tables: Iterable[Table]) -> Iterator[FilterRule]:
    """Yield the rules of all chains."""
    for table in tables:
        for chain in table.chains:
            yield from chain.rules


def dnat_pairs(rules: Iterable[FilterRule]) -> Iterator[tuple[str, str]]:
    """Yield (floating IP, fixed IP) of each DNAT rule."""
    for rule in rules:
        if isinstance(rule.target, Dnat) and isinstance(rule.dst, str):
            yield rule.dst.partition("/")[0], rule.target.address
