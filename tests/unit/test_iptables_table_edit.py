"""The edit script leads from any table to any other, touches as little as possible and nothing of others."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.kernel.iptables.pending import check_table
from dvr_agent.kernel.iptables.table_decoder import JumpAt, Snapshot
from dvr_agent.kernel.iptables.table_edit import edit_list, edit_script
from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain, stale_chains
from dvr_agent.state.filter import Chain, FilterRule, Jump, Table, Verdict
from dvr_agent.state.filter_runs import make_table

ITEMS = st.lists(st.integers(0, 6), max_size=12)
ACCEPT = FilterRule(Verdict("ACCEPT"))


def lcs(one: list[int], other: list[int]) -> int:
    @cache
    def length(at: int, to: int) -> int:
        if at == len(one) or to == len(other):
            return 0
        if one[at] == other[to]:
            return 1 + length(at + 1, to + 1)
        return max(length(at + 1, to), length(at, to + 1))

    return length(0, 0)


@given(ITEMS, ITEMS)
def test_the_script_makes_the_new_list_and_keeps_a_longest_common_part(old: list[int], new: list[int]) -> None:
    gone, added = edit_list(old, new)
    result = list(old)
    for position in gone:
        del result[position]
    assert len(result) == lcs(old, new)
    for position, item in added:
        assert position <= len(result)
        result.insert(position, item)
    assert result == new


def test_one_rule_more_is_one_insertion() -> None:
    old = list(range(1000))
    assert edit_list(old, [*old[:500], -1, *old[500:]]) == ([], [(500, -1)])


def test_one_rule_moved_is_one_deletion_and_one_insertion() -> None:
    assert edit_list("abcdef", "bcdefa") == ([0], [(5, "a")])


FOREIGN = "operator"
CHAINS = ("dvr-A", "dvr-B", "dvr-C")


@given(
    st.lists(st.tuples(st.sampled_from((*CHAINS, FOREIGN)), st.booleans()), max_size=8),
    st.lists(st.sampled_from(CHAINS), unique=True).map(sorted),
)
def test_every_wanted_jump_is_there_once_in_order_and_foreign_rules_stay(
    before: list[tuple[str, bool]], wanted: list[str]
) -> None:
    jumps = tuple(JumpAt("INPUT", at, chain, plain) for at, (chain, plain) in enumerate(before) if chain != FOREIGN)
    table = Table(4, "filter", tuple(Chain(name) for name in CHAINS))
    now = Snapshot(table, jumps)
    want = Table(4, "filter", tuple(Chain(name) for name in wanted), tuple(("INPUT", name) for name in wanted))
    edit = edit_script(now, want)
    rules = list(before)
    for _chain, position in edit.deletes:
        del rules[position]
    for _chain, position, rule in edit.inserts:
        assert isinstance(rule.target, Jump)
        rules.insert(position, (rule.target.chain, True))
    plain = [chain for chain, is_plain in rules if is_plain and chain != FOREIGN]
    assert sorted(plain) == wanted
    kept = [name for name in dict.fromkeys(chain for chain, is_plain in before if is_plain) if name in wanted]
    if kept == sorted(kept):
        assert plain == wanted
    others = [rule for rule in before if rule[0] == FOREIGN or (not rule[1] and rule[0] in wanted)]
    assert [rule for rule in rules if rule[0] == FOREIGN or not rule[1]] == others
    assert set(edit.drops) == set(CHAINS) - set(wanted)


def test_new_jumps_come_to_the_head() -> None:
    edit = edit_script(Snapshot(Table(4, "nat")), make_table(4, "nat", {"PREROUTING": (ACCEPT,)}))
    assert edit.creates == ("dvr-PREROUTING",)
    assert ("PREROUTING", 0, FilterRule(Jump("dvr-PREROUTING"))) in edit.inserts


def test_a_jump_behind_somebody_elses_rule_stays_there() -> None:
    table = make_table(4, "nat", {"PREROUTING": (ACCEPT,)})
    assert not edit_script(Snapshot(table, (JumpAt("PREROUTING", 3, "dvr-PREROUTING", plain=True),)), table)


def test_only_neutron_l3_agents_chains_are_stale() -> None:
    stale = ("neutron-l3-agent-PREROUTING", "neutron-filter-top", "neutron-postrouting-bottom")
    others = ("neutron-meter-FORWARD", "neutron-filter-top2", "dvr-FORWARD", "PREROUTING")
    assert all(map(is_l3_agent_chain, stale))
    assert not any(map(is_l3_agent_chain, others))
    assert stale_chains((*stale, *others[1:])) == set(stale)
    assert stale_chains((*stale, *others)) == {"neutron-l3-agent-PREROUTING", "neutron-postrouting-bottom"}


@pytest.mark.parametrize(
    "table",
    [
        Table(4, "security"),
        Table(4, "nat", (Chain("mine"),)),
        Table(4, "nat", (Chain("dvr-" + "x" * 25),)),
        Table(4, "nat", (Chain("dvr-A"), Chain("dvr-A"))),
        Table(4, "nat", (Chain("dvr-A", (FilterRule(Jump("dvr-B")),)),)),
        Table(4, "nat", (Chain("dvr-A"),), (("FORWARD", "dvr-A"),)),
        Table(4, "nat", (), (("PREROUTING", "dvr-A"),)),
        Table(4, "nat", (Chain("dvr-A"),), (("PREROUTING", "dvr-A"),) * 2),
    ],
)
def test_a_table_that_cannot_be_ours_is_refused(table: Table) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_table(table)
