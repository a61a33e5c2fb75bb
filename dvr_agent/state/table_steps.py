"""Replaces a packet filter table in two steps, so that what is led somewhere is translated all the time.

The first step (:func:`first_step`) comes before traffic is led to what is new: the table has its new rules, and still
those that it loses.  The last step (:func:`last_step`) comes when no traffic is led to what is lost.  A table that only
gains, or only loses, needs one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dvr_agent.state.diff import TableChange
from dvr_agent.state.filter import CHAIN_PREFIX, Chain, Dnat, FilterRule, Snat, Table

_MERGED = ("nat", "mangle")
"""Tables whose old and new rules can stand together: of two translations the first counts, of two marks the last.

Rules of ``filter`` drop what has another mark than theirs: those of both states together would drop everything."""


def first_step(change: TableChange) -> Table | None:
    """Return the table before traffic is led to what is new; None: it only loses rules, which waits."""
    if not change.old.chains:
        return change.new
    gained, lost = list(_more(change.new, change.old)), list(_more(change.old, change.new))
    if not gained and (lost or change.new.jumps != change.old.jumps):
        return None
    return merged(change) if lost and change.new.name in _MERGED else change.new


def last_step(change: TableChange, is_kept: Callable[[FilterRule], bool] | None = None) -> Table:
    """Return the table at the end.

    :param is_kept: tells of a rule that the table would lose whether it must stay
    """
    return change.new if is_kept is None else merged(change, is_kept)


def merged(change: TableChange, is_kept: Callable[[FilterRule], bool] = lambda _rule: True) -> Table:
    """Return the new table with rules of the old one: each after the rule that it came after, before new ones."""
    old = {chain.name: chain.rules for chain in change.old.chains if chain.name.startswith(CHAIN_PREFIX)}
    new = {chain.name: chain.rules for chain in change.new.chains}
    rules = {name: _merged(old.get(name, ()), new.get(name, ()), is_kept) for name in sorted({*old, *new})}
    chains = tuple(Chain(name, found) for name, found in rules.items() if found or name in new)
    names = {chain.name for chain in chains}
    jumps = sorted(jump for jump in {*change.old.jumps, *change.new.jumps} if jump[1] in names)
    return Table(change.new.family, change.new.name, chains, tuple(jumps))


def gained_subjects(change: TableChange) -> set[str]:
    """Return the addresses that new rules are about."""
    return {address for rule in _more(change.new, change.old) for address in subjects(rule)}


def subjects(rule: FilterRule) -> set[str]:
    """Return the addresses that a rule is about: what it matches, and what it translates to."""
    found = {text for text in (rule.src, rule.dst) if isinstance(text, str)}
    if isinstance(rule.target, Dnat | Snat):
        found.add(rule.target.address)
    return {text.removesuffix("/32") for text in found}


def translated_pairs(tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    """Yield (floating IP, fixed IP) of each DNAT rule."""
    for table in tables:
        for chain in table.chains:
            for rule in chain.rules:
                if isinstance(rule.target, Dnat) and isinstance(rule.dst, str):
                    yield rule.dst.removesuffix("/32"), rule.target.address


def switched(change: TableChange) -> set[str]:
    """Return the outside addresses that a source is translated to until the last step, and then to another one."""
    if not change.old.chains:
        return set()
    old, new = (dict(_sources(table)) for table in (change.old, change.new))
    return {address for source, address in old.items() if new.get(source, address) != address}


def _sources(table: Table) -> Iterator[tuple[str, str]]:
    for chain in table.chains:
        for rule in chain.rules:
            if isinstance(rule.target, Snat) and isinstance(rule.src, str):
                yield rule.src, rule.target.address


def _more(one: Table, other: Table) -> Iterator[FilterRule]:
    """Yield the rules in our chains of ``one`` that the same chain of ``other`` lacks."""
    there = {chain.name: frozenset(chain.rules) for chain in other.chains}
    for chain in one.chains:
        if chain.name.startswith(CHAIN_PREFIX):
            yield from (rule for rule in chain.rules if rule not in there.get(chain.name, frozenset()))


def _merged(
    old: tuple[FilterRule, ...], new: tuple[FilterRule, ...], is_kept: Callable[[FilterRule], bool]
) -> tuple[FilterRule, ...]:
    found, present, at = list(new), set(new), 0
    for rule in old:
        if rule in present:
            at = found.index(rule) + 1
        elif is_kept(rule):
            found.insert(at, rule)
            at += 1
    return tuple(found)
