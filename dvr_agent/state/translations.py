"""Reads translations from packet filter rules: which floating IP, or which of its ports, stands for which fixed IP.

Used for post-commit work, for the inventory, at a handover, and by ``dvrctl show`` and the topology.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dvr_agent.state.filter import Dnat, DportMatch, FilterRule, Ports, Table


class Inbound(NamedTuple):
    """A translation of what comes to a floating IP.

    :ivar ports: of the floating IP, those that are translated; None: all of them
    :ivar to: ports of the fixed IP and base port, as the rule has them
    """

    address: str
    fixed: str
    ports: Ports | None = None
    to: tuple[tuple[int, int] | None, int | None] = (None, None)


def rules_of(tables: Iterable[Table]) -> Iterator[FilterRule]:
    """Yield the rules of all chains."""
    for table in tables:
        for chain in table.chains:
            yield from chain.rules


def inbound(rules: Iterable[FilterRule]) -> Iterator[Inbound]:
    """Yield the translation of each DNAT rule."""
    for rule in rules:
        if isinstance(rule.target, Dnat) and isinstance(rule.dst, str):
            to = (rule.target.ports, rule.target.base)
            yield Inbound(rule.dst.partition("/")[0], rule.target.address, ports_of(rule), to)


def ports_of(rule: FilterRule) -> Ports | None:
    """Return the destination ports that a rule matches; None: it matches them all."""
    found = (one for one in rule.matches if isinstance(one, DportMatch))
    return next(((one.protocol, one.first, one.last) for one in found), None)


def dnat_pairs(rules: Iterable[FilterRule]) -> Iterator[tuple[str, str]]:
    """Yield (floating IP, fixed IP) of each DNAT rule."""
    for one in inbound(rules):
        yield one.address, one.fixed
