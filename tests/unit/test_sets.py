"""Sets that take little memory."""

from __future__ import annotations

import sys

import pytest

from dvr_agent.state.filter import FilterRule, Verdict
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.sets import compact

ACCEPT = FilterRule(Verdict("ACCEPT"))


@pytest.mark.parametrize("number", [*range(16), 100, 1000])
def test_a_compact_set_is_the_same_set_and_not_larger(number: int) -> None:
    items = [*range(number), *range(number)]
    assert compact(items) == frozenset(items)
    assert sys.getsizeof(compact(items)) <= sys.getsizeof(frozenset(items))


def test_empty_sets_are_one_object() -> None:
    assert compact([]) is compact(())


def test_short_tables_that_are_equal_are_one_object() -> None:
    """A host has them once, and not once for each router."""
    rules = {"FORWARD": (ACCEPT,), "INPUT": ()}
    assert make_table(4, "filter", rules) is make_table(4, "filter", {"FORWARD": (FilterRule(Verdict("ACCEPT")),)})
    assert make_table(6, "filter", rules) is not make_table(4, "filter", rules)
    assert make_table(4, "filter", {"FORWARD": (ACCEPT,) * 9}).chains[0].rules == (ACCEPT,) * 9
