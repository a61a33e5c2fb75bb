"""Print the difference between two versions of a table as nft would be told it: elements and rules.  Pure.

Used by ``reconcile/plan_lines.py`` for plans, logs and the history of a host that uses nf_tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from dvr_agent.kernel.nftables.ruleset import TABLE, NftSet, Ruleset, family_text, with_tables
from dvr_agent.kernel.nftables.ruleset_text import element_text, rule_text
from dvr_agent.state.filter import Table


def difference_text(old: Table, new: Table) -> Iterator[tuple[str, str]]:
    """Yield (sign, text), for example ``+``, ``element ip dvr fip_in { 203.0.113.5 : 10.0.0.5 }``."""
    empty = Ruleset(new.family)
    before, after = with_tables(empty, [old]), with_tables(empty, [new])
    table = f"{family_text(new.family)} {TABLE}"
    for name in sorted({*before.sets, *after.sets}):
        yield from _elements(table, name, before.sets.get(name), after.sets.get(name))
    for name in sorted({*before.chains, *after.chains}):
        yield from _rules(f"rule {table} {name}", _lines(before, name), _lines(after, name))


def _lines(ruleset: Ruleset, chain: str) -> list[str]:
    return [rule_text(ruleset.family, one) for one in ruleset.chains.get(chain, ())]


def _elements(table: str, name: str, old: NftSet | None, new: NftSet | None) -> Iterator[tuple[str, str]]:
    for sign, one, other in (("-", old, new), ("+", new, old)):
        if one is None:
            continue
        there = other.elements if other is not None and other.has_form_of(one) else {}
        for key, element in one.elements.items():
            if there.get(key) != element:
                text = element_text(one, key, element).replace(" counter packets 0 bytes 0", "")
                yield sign, f"element {table} {name} {{ {text} }}"


def _rules(place: str, before: list[str], after: list[str]) -> Iterator[tuple[str, str]]:
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from (("-", f"{place} {text}") for text in before[i1:i2])
            yield from (("+", f"{place} {text}") for text in after[j1:j2])
