"""Find changes of a table that are elements of its sets only: floating IPs that come, go or move.  Pure.

What stays is neither compiled nor compared again, so that the cost does not grow with the floating IPs that are there.
Used by :mod:`.filter_manager`; whatever is not certain here is left to :func:`.ruleset.with_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dvr_agent.kernel.nftables.ruleset import Element, NftRule, Ruleset, chain_of, elements_of
from dvr_agent.state.filter import Chain, Table
from dvr_agent.state.filter_runs import Shape, shape_of
from dvr_agent.state.sequences import common_ends

_LOOKED_UP_ALONE = ("src", "dst")
"""Fields of which a rule is one element."""


class ElementChange(NamedTuple):
    """A change of a set.

    :ivar gone: keys to delete
    :ivar added: elements to add then
    """

    name: str
    gone: tuple[bytes, ...]
    added: dict[bytes, Element]


def element_changes(ruleset: Ruleset, old: Table, new: Table) -> list[ElementChange] | None:
    """Return the changes of sets that make a ruleset's table another one; None: it takes more, or it is not certain.

    :param old: the table that the ruleset has
    """
    if ruleset.strange or old.jumps != new.jumps or len(old.chains) != len(new.chains):
        return None
    found: dict[str, ElementChange] = {}
    users: dict[str, int] = {}
    for one, other in zip(old.chains, new.chains, strict=True):
        if one.name != other.name:
            return None
        if one.rules is other.rules or one.rules == other.rules:
            continue
        change = _change(ruleset, old.name, one, other)
        if change is None or found.setdefault(change.name, change) != change:
            return None
        users[change.name] = users.get(change.name, 0) + 1
    for name in found:
        if sum(rule.set == name for rules in ruleset.chains.values() for rule in rules) != users[name]:
            return None  # another chain looks it up, and has not changed
    return list(found.values())


def _change(ruleset: Ruleset, table: str, old: Chain, new: Chain) -> ElementChange | None:
    head, tail = common_ends(old.rules, new.rules)
    going, coming = old.rules[head : len(old.rules) - tail], new.rules[head : len(new.rules) - tail]
    shapes = {shape_of(rule) for rule in (*going, *coming)}
    shape = next(iter(shapes))
    if len(shapes) != 1 or shape is None or shape.field not in _LOOKED_UP_ALONE:
        return None
    beside = (*new.rules[:head][-1:], *new.rules[len(new.rules) - tail :][:1])
    lookup = _only_lookup(ruleset, ruleset.chains.get(chain_of(table, old.name), ()), shape, len(old.rules))
    if lookup is None or shape not in map(shape_of, beside):
        return None
    there = ruleset.sets[lookup.set].elements
    gone, added = dict(elements_of(shape, going)), dict(elements_of(shape, coming))
    is_certain = len(gone) == len(going) and len(added) == len(coming) and gone.items() <= there.items()
    if not is_certain or any(key in there and key not in gone for key in added):
        return None  # two rules are about one address: their order decides
    same = gone.items() & added.items()
    kept = {key for key, _ in same}
    return ElementChange(
        lookup.set,
        tuple(key for key in gone if key not in kept),
        {key: element for key, element in added.items() if key not in kept},
    )


def _only_lookup(ruleset: Ruleset, rules: Sequence[NftRule], shape: Shape, number: int) -> NftRule | None:
    """Return the one lookup of a shape in a chain; None: there is none, or rules beside it could change places with it.

    :param number: rules of the chain in the table, of which each must be an element or a rule
    """
    places = [at for at, one in enumerate(rules) if (one.field, one.rule) == (shape.field, shape.rule)]
    if len(places) != 1 or any(one.field == "dport" for one in rules):
        return None
    at = places[0]
    if any(one.field == shape.field for one in (*rules[max(at - 1, 0) : at], *rules[at + 1 : at + 2])):
        return None
    size = sum(1 if one.field is None else len(ruleset.sets[one.set].elements) for one in rules)
    return rules[at] if size == number else None


def with_elements(ruleset: Ruleset, changes: Sequence[ElementChange]) -> Ruleset:
    """Return a ruleset with changed sets."""
    sets = dict(ruleset.sets)
    for change in changes:
        elements = {**sets[change.name].elements}
        for key in change.gone:
            del elements[key]
        sets[change.name] = replace(sets[change.name], elements={**elements, **change.added})
    return replace(ruleset, sets=sets)
