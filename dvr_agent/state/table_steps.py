"""Replaces a packet filter table in steps, so that what is led somewhere is always translated (:func:`table_at`).

A table that only gains or only loses rules usually needs one step.  More are needed where rules are gained and lost,
and where translations depend on addresses that come or go in the same namespace (floating IPs of the snat namespace).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import IntEnum

from dvr_agent.state.diff import TableChange
from dvr_agent.state.filter import CHAIN_PREFIX, Chain, Dnat, FilterRule, Snat, Table, Verdict
from dvr_agent.state.itemwise import itemwise
from dvr_agent.state.sequences import common_ends, middles
from dvr_agent.state.sides import NO_SIDES, Sides

_MERGED = ("nat", "mangle")
"""Tables whose old and new rules can stand together: of two translations the first counts, of two marks the last.

Rules of ``filter`` drop what has another mark than theirs: those of both states together would drop everything."""

_TRANSLATING = "nat"
"""The table whose rules translate addresses."""

RuleTest = Callable[[FilterRule], bool]
_Differences = list[tuple[Chain, tuple[FilterRule, ...], tuple[FilterRule, ...]]]
_last_differences: tuple[tuple[Table, Table, _Differences], ...] = ()
"""Of the tables that were compared last."""


class Step(IntEnum):
    """When a table is committed; old rules stand before new ones until they go."""

    BUILD = 0
    """Before anything is built: with the new rules, but no source address that is not there yet."""
    LEAD = 1
    """Before traffic is led to the new path: with all new rules."""
    TURN = 2
    """Before floating IPs leave the snat namespace: without the rules that translate to them there."""
    STOP = 3
    """When no traffic is led to the old path: without the rules that go, but those for what still arrives."""
    END = 4
    """When nothing arrives by the old path: as desired."""


def table_at(
    step: Step,
    change: TableChange,
    own: Collection[str],
    keeps: RuleTest,
    admits: RuleTest,
    sides: Sides = NO_SIDES,
) -> Table | None:
    """Return the table at a step; None: it is not due.

    :param own: addresses that come or go in the namespace
    :param sides: floating IPs that change sides
    :param keeps: tells of a rule that goes whether it must stay
    :param admits: tells of a new rule whether it can be there
    """
    if not change.old.chains:
        return _new_table(step, change, admits)
    if not _merges(change):
        due = Step.BUILD if any(_more(change.new, change.old)) else Step.END
        return change.new if step is due else None
    if step <= Step.LEAD and not any(_more(change.new, change.old)):
        return None

    if step is Step.TURN and not sides.departing:
        return None
    change = _with_stand_ins(step, change, keeps, sides)
    stand_ins = {_stand_in(address) for address in sides.departing} if step <= Step.STOP else set()

    def stays(rule: FilterRule) -> bool:
        if step is Step.TURN or rule in stand_ins:
            return not is_by_own_address(rule, sides.departing) or keeps(rule)
        arrives = step is Step.STOP and isinstance(rule.target, Dnat) and not subjects(rule).isdisjoint(own)
        return step <= Step.LEAD or arrives or keeps(rule)

    def comes(rule: FilterRule) -> bool:
        late = own if step is Step.BUILD else sides.arriving if step <= Step.TURN else ()
        absent = is_by_own_address(rule, late)
        return not absent and admits(rule)

    return _between(change, stays, comes)


def _new_table(step: Step, change: TableChange, admits: RuleTest) -> Table | None:
    """Return a table where there was none: nothing was translated, so that the first step is the only one.

    Rules whose address was refused since then are taken back.
    """
    if step is Step.BUILD:
        return change.new
    return _between(change, lambda _rule: False, admits) if step is Step.LEAD else None


def _with_stand_ins(step: Step, change: TableChange, keeps: RuleTest, sides: Sides) -> TableChange:
    """Return the change with rules that leave answers alone instead of translations to addresses that are not there.

    While a floating IP changes sides, answers to what came in by the fip namespace leave by the snat namespace, with
    the floating IP as source already.
    """

    def is_early(rule: FilterRule) -> bool:
        return step <= Step.TURN and is_by_own_address(rule, sides.arriving)

    def is_late(rule: FilterRule) -> bool:
        return step in (Step.TURN, Step.STOP) and is_by_own_address(rule, sides.departing) and not keeps(rule)

    old = _replaced(change.old, is_late) if sides.departing else change.old
    return TableChange(old, _replaced(change.new, is_early) if sides.arriving else change.new)


def _replaced(table: Table, test: RuleTest) -> Table:
    """Return a table with stand-ins for the rules that meet a test."""
    if not any(test(rule) for chain in table.chains for rule in chain.rules):
        return table
    chains = tuple(
        replace(chain, rules=tuple(_stand_in_for(rule) if test(rule) else rule for rule in chain.rules))
        for chain in table.chains
    )
    return replace(table, chains=chains)


def _stand_in_for(rule: FilterRule) -> FilterRule:
    return _stand_in(rule.target.address) if isinstance(rule.target, Snat) else rule


def _stand_in(address: str) -> FilterRule:
    """Return the rule by which packets keep their source, a floating IP."""
    return FilterRule(Verdict("ACCEPT"), src=f"{address}/32")


def is_by_own_address(rule: FilterRule, own: Collection[str]) -> bool:
    """True if a rule gives packets a source address that comes or goes in the namespace."""
    return isinstance(rule.target, Snat) and rule.target.address in own


def _merges(change: TableChange) -> bool:
    return change.new.name in _MERGED


def _between(change: TableChange, stays: RuleTest, comes: RuleTest) -> Table:
    """Return a table between old and new: each old rule that stays comes after its predecessor, before new rules."""
    old = {chain.name: chain.rules for chain in change.old.chains if chain.name.startswith(CHAIN_PREFIX)}
    new = {chain.name: chain.rules for chain in change.new.chains}
    rules = {name: _merged(old.get(name, ()), new.get(name, ()), stays, comes) for name in sorted({*old, *new})}
    chains = tuple(Chain(name, found) for name, found in rules.items() if found)
    names = {chain.name for chain in chains}
    jumps = sorted(jump for jump in {*change.old.jumps, *change.new.jumps} if jump[1] in names)
    table = Table(change.new.family, change.new.name, chains, tuple(jumps))
    return change.new if table == change.new else table


def gained_subjects(change: TableChange) -> set[str]:
    """Return the addresses that new rules are about."""
    return {address for rule in _more(change.new, change.old) for address in subjects(rule)}


def masqueraded_devices(change: TableChange) -> set[str]:
    """Return the devices by which everything would leave with another source address from now on."""
    rules = (rule for rule in _more(change.new, change.old) if isinstance(rule.target, Snat) and rule.src is None)
    return {rule.oif for rule in rules if isinstance(rule.oif, str)}


def lost_subjects(change: TableChange) -> set[str]:
    """Return the addresses that rules which go are about."""
    return {address for rule in _more(change.old, change.new) for address in subjects(rule)}


def subjects(rule: FilterRule) -> set[str]:
    """Return the addresses that a rule is about: what it matches, and what it translates to."""
    found = {text for text in (rule.src, rule.dst) if isinstance(text, str)}
    if isinstance(rule.target, Dnat | Snat):
        found.add(rule.target.address)
    return {text.removesuffix("/32") for text in found}


def translated_pairs(namespace: str, tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    """Yield (floating IP, fixed IP) of each DNAT rule in tables of a namespace."""
    for table in tables:
        for chain in table.chains if table.name == _TRANSLATING else ():
            yield from filter(None, _translations.each(namespace, chain.rules, chain.name))


@itemwise
def _translations(rules: Sequence[FilterRule], _chain: str) -> list[tuple[str, str] | None]:
    """Return floating IP and fixed IP of each rule; None for one that translates no destination."""
    return [
        (rule.dst.removesuffix("/32"), rule.target.address)
        if isinstance(rule.target, Dnat) and isinstance(rule.dst, str)
        else None
        for rule in rules
    ]


def switched(change: TableChange) -> set[str]:
    """Return the outside addresses that a source is translated to until the last step, and then to another one."""
    if not change.old.chains:
        return set()
    old, new = (dict(_sources(one, other)) for one, other in ((change.old, change.new), (change.new, change.old)))
    return {address for source, address in old.items() if new.get(source, address) != address}


def _sources(table: Table, other: Table) -> Iterator[tuple[str, str]]:
    """Yield (source, address) of the rules that are elsewhere in the other table, or not there."""
    for _chain, rules, _there in _different(table, other):
        for rule in rules:
            if isinstance(rule.target, Snat) and isinstance(rule.src, str):
                yield rule.src, rule.target.address


def _different(one: Table, other: Table) -> _Differences:
    """Return each chain with its rules and those of the other table's, without those that both have at their ends."""
    global _last_differences
    for table, compared, found in _last_differences:
        if table is one and compared is other:  # a job asks several times
            return found
    there = {chain.name: chain.rules for chain in other.chains}
    found = [(chain, *middles(chain.rules, there.get(chain.name, ()))) for chain in one.chains]
    _last_differences = ((one, other, found), *_last_differences[:3])
    return found


def elsewhere(one: Table, other: Table) -> list[FilterRule]:
    """Return the rules of ``one`` that the other table lacks, or may have at another place."""
    return [rule for _chain, rules, _there in _different(one, other) for rule in rules]


def _more(one: Table, other: Table) -> Iterator[FilterRule]:
    """Yield the rules in our chains of ``one`` that the same chain of ``other`` lacks."""
    for chain, rules, there in _different(one, other):
        if chain.name.startswith(CHAIN_PREFIX) and rules:
            had = frozenset(there)
            yield from (rule for rule in rules if rule not in had)


def _merged(
    old: tuple[FilterRule, ...], new: tuple[FilterRule, ...], stays: RuleTest, comes: RuleTest
) -> tuple[FilterRule, ...]:
    """Return the new rules that come, and each old rule that stays behind its predecessor."""
    head, tail = common_ends(old, new)
    going, coming = old[head : len(old) - tail], new[head : len(new) - tail]
    had = frozenset(going)
    found = [rule for rule in coming if rule in had or comes(rule)]
    present = frozenset(found)
    behind: dict[FilterRule | None, list[FilterRule]] = {}
    followers, at = behind.setdefault(None, []), 0
    for rule in going:
        if rule in present:
            followers, at = behind.setdefault(rule, []), 0
        elif stays(rule):
            followers.insert(at, rule)
            at += 1
    merged = [*behind[None]]
    for rule in found:
        merged += [rule, *behind.pop(rule, ())]
    return (*new[:head], *merged, *new[len(new) - tail :])
