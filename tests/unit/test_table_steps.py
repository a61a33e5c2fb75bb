"""Steps of packet filter tables: old and new rules merged, and sequences that share their ends."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.state.diff import TableChange
from dvr_agent.state.filter import Chain, Dnat, FilterRule, Snat, Table
from dvr_agent.state.sequences import common_ends, middles
from dvr_agent.state.table_steps import Step, switched, table_at

RULES = [FilterRule(Dnat(f"10.0.0.{number}"), dst=f"203.0.113.{number}/32") for number in range(1, 9)]
SOURCES = [FilterRule(Snat(f"203.0.113.{number}"), src=f"10.0.0.{number}/32") for number in range(1, 9)]
orders = st.lists(st.sampled_from(RULES), unique=True).map(tuple)


class Counted:
    """An item that counts how often it is compared."""

    count = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        Counted.count += 1
        return isinstance(other, Counted) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


def _nat(rules: tuple[FilterRule, ...]) -> Table:
    chain = "dvr-PREROUTING"
    return Table(4, "nat", (Chain(chain, rules),), (("PREROUTING", chain),)) if rules else Table(4, "nat")


def _at(step: Step, old: tuple[FilterRule, ...], new: tuple[FilterRule, ...]) -> tuple[FilterRule, ...] | None:
    table = table_at(step, TableChange(_nat(old), _nat(new)), (), lambda _rule: False, lambda _rule: True)
    return None if table is None else tuple(rule for chain in table.chains for rule in chain.rules)


@given(orders, orders)
def test_an_old_rule_stays_behind_its_predecessor_until_traffic_has_turned(
    old: tuple[FilterRule, ...], new: tuple[FilterRule, ...]
) -> None:
    both = _at(Step.BUILD, old, new) if old else None
    if both is None:
        return
    assert set(both) == {*old, *new}
    assert [rule for rule in both if rule in new] == list(new)
    for before, rule in pairwise(old):
        if rule not in new:  # right behind it, or behind others that came to it
            between = both[both.index(before) + 1 : both.index(rule)]
            assert both.index(before) < both.index(rule)
            assert all(one not in new for one in between)


@given(orders, orders)
def test_the_last_step_is_the_desired_table_itself(old: tuple[FilterRule, ...], new: tuple[FilterRule, ...]) -> None:
    if old:
        change = TableChange(_nat(old), _nat(new))
        assert table_at(Step.END, change, (), lambda _rule: False, lambda _rule: True) is change.new


def test_an_address_that_gets_another_translation_is_switched() -> None:
    old = _nat(tuple(SOURCES))
    moved = FilterRule(Snat("203.0.113.99"), src=SOURCES[3].src)
    assert switched(TableChange(old, _nat((*SOURCES[:3], moved, *SOURCES[4:])))) == {"203.0.113.4"}
    assert switched(TableChange(old, _nat(tuple(SOURCES[1:])))) == set()


@given(st.lists(st.integers(0, 3)).map(tuple), st.lists(st.integers(0, 3)).map(tuple), st.integers(0, 200))
def test_sequences_are_the_same_up_to_where_they_differ(
    old: tuple[int, ...], new: tuple[int, ...], shared: int
) -> None:
    old, new = (*range(shared), *old, *range(shared)), (*range(shared), *new, *range(shared))
    head, tail = common_ends(old, new)
    assert head + tail <= min(len(old), len(new))
    assert old[:head] == new[:head]
    assert old[len(old) - tail :] == new[len(new) - tail :]
    first, second = middles(old, new)
    assert (*old[:head], *second, *old[len(old) - tail :]) == new
    assert not first or not second or (first[0] != second[0] and first[-1] != second[-1])


def test_a_shared_item_is_not_looked_into() -> None:
    items = tuple(map(Counted, range(1000)))
    Counted.count = 0
    assert middles(items, (*items[:500], Counted(-1), *items[500:])) == ((), (Counted(-1),))
    assert Counted.count < 10
