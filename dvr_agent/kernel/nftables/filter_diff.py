"""Compute the requests that turn one ruleset of a family into another.  Pure.

What stays is not touched: a floating IP is an element more or less.  A chain of which a rule differs is emptied and
filled again in the same transaction, so that no packet meets it empty.  The order is that in which nothing is deleted
that something else still uses.  Used by :mod:`.filter_manager`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.nftables.element_changes import ElementChange
from dvr_agent.kernel.nftables.filter_messages import FilterMessages
from dvr_agent.kernel.nftables.ruleset import NftRule, NftSet, Ruleset

MESSAGES = {4: FilterMessages(4), 6: FilterMessages(6)}


def changes(old: Ruleset, new: Ruleset) -> Iterator[Request]:
    """Yield the requests; none if there is no difference.

    :raises ValueError: a new rule cannot be expressed
    """
    messages = MESSAGES[new.family]
    if not new:
        if old:
            yield messages.delete_table()
        return
    if old.strange:
        yield messages.delete_table()
        old = Ruleset(new.family)
    if not old:
        yield messages.new_table()
    yield from _edits(messages, old, new)


def element_requests(old: Ruleset, found: Iterable[ElementChange]) -> Iterator[Request]:
    """Yield the requests that change elements of sets, and nothing else."""
    messages = MESSAGES[old.family]
    for change in found:
        yield from messages.delete_elements(old.sets[change.name], change.gone)
        yield from messages.new_elements(old.sets[change.name], change.added)


def _edits(messages: FilterMessages, old: Ruleset, new: Ruleset) -> Iterator[Request]:
    """Yield what goes, and then what comes: chains use sets and helpers."""
    renewed = {name for name, one in new.sets.items() if name in old.sets and not one.has_form_of(old.sets[name])}
    edited = [name for name, rules in old.chains.items() if new.chains.get(name) != rules or _uses(rules, renewed)]
    yield from _removals(messages, old, new, edited, renewed)
    yield from (messages.new_helper(*helper) for helper in sorted(new.helpers - old.helpers))
    for name, one in new.sets.items():
        yield from _elements(messages, None if name in renewed else old.sets.get(name), one)
    for name, rules in new.chains.items():
        if name not in old.chains:
            yield messages.new_chain(name)
        if name not in old.chains or name in edited:
            yield from (messages.new_rule(name, rule) for rule in rules)


def _removals(
    messages: FilterMessages, old: Ruleset, new: Ruleset, edited: Iterable[str], renewed: Collection[str]
) -> Iterator[Request]:
    for name in edited:
        yield messages.flush_chain(name) if name in new.chains else messages.delete_chain(name)
    for name in old.sets:
        if name not in new.sets or name in renewed:
            yield messages.delete_set(name)
    yield from (messages.delete_helper(*helper) for helper in sorted(old.helpers - new.helpers))


def _uses(rules: Iterable[NftRule], sets: Collection[str]) -> bool:
    return any(rule.set in sets for rule in rules)


def _elements(messages: FilterMessages, old: NftSet | None, new: NftSet) -> Iterator[Request]:
    """Yield the requests that give a set its elements; one with another value is deleted and added."""
    if old is None:
        yield messages.new_set(new)
        yield from messages.new_elements(new, new.elements)
        return
    if old.elements == new.elements:
        return
    gone = [key for key, element in old.elements.items() if new.elements.get(key) != element]
    added = {key: element for key, element in new.elements.items() if old.elements.get(key) != element}
    yield from messages.delete_elements(new, gone)
    yield from messages.new_elements(new, added)
