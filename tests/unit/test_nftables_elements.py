"""Changes that are elements of sets are found without compiling the table; what is not certain is compiled."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dvr_agent.kernel.nftables.element_changes import ElementChange, element_changes, with_elements
from dvr_agent.kernel.nftables.filter_diff import changes, element_requests
from dvr_agent.kernel.nftables.ruleset import Element, Ruleset, tables_of, with_tables
from dvr_agent.state.filter import Dnat, DportMatch, FilterRule, Jump, SetMark, Snat, Table, Verdict
from dvr_agent.state.filter_runs import canonical, is_same, make_table
from tests.support.nft_rules import floating

RULES = [
    *(FilterRule(Dnat(f"10.0.0.{to}"), dst=f"203.0.113.{n}/32", iif="rfp-1") for n in range(3) for to in range(2)),
    *(FilterRule(Dnat(f"10.0.0.{n}"), dst=f"203.0.113.{n}/32", iif="rfp-2") for n in range(2)),
    FilterRule(Verdict("ACCEPT"), dst="203.0.113.1/32"),
    FilterRule(Verdict("ACCEPT"), iif="rfp-3"),
    FilterRule(SetMark(1, 1), iif="qr-1"),
    FilterRule(Dnat("10.0.0.1", (80, 80)), dst="203.0.113.1/32", protocol="tcp", matches=(DportMatch("tcp", 80, 80),)),
]
chains = st.lists(st.sampled_from(RULES), max_size=8).map(tuple)
runs = st.lists(st.sampled_from(RULES[:6]), max_size=6).map(tuple)
SOURCES = tuple(FilterRule(Snat(f"203.0.113.{n}"), src=f"10.0.0.{n}/32") for n in range(3))


def _nat(rules: tuple[FilterRule, ...], out: tuple[FilterRule, ...] = ()) -> Table:
    return make_table(4, "nat", {"PREROUTING": rules, "OUTPUT": out, "POSTROUTING": SOURCES})


def _changed(old: Table, new: Table) -> list[ElementChange] | None:
    return element_changes(with_tables(Ruleset(4), [old]), old, new)


def _many(*left_out: int, moved: int = -1) -> Table:
    """Return a table with a thousand floating IPs."""
    numbers = [n for n in range(1000) if n not in left_out]
    inside = {n: f"10.0.{n // 250}.{n % 250}" if n != moved else "10.9.9.9" for n in numbers}
    return floating(*((f"203.0.{n // 250}.{n % 250}", inside[n]) for n in numbers))


@given(chains, chains)
@settings(deadline=None)
def test_tables_are_the_same_if_their_canonical_forms_are(
    old: tuple[FilterRule, ...], new: tuple[FilterRule, ...]
) -> None:
    one, other = make_table(4, "nat", {"PREROUTING": old}), make_table(4, "nat", {"PREROUTING": new})
    assert is_same(one, other) == (canonical(one) == canonical(other))


@given(chains | runs, chains | runs, st.booleans())
@settings(deadline=None, max_examples=300)
def test_changed_elements_make_the_table_that_is_wanted(
    old: tuple[FilterRule, ...], new: tuple[FilterRule, ...], both: bool
) -> None:
    before, wanted = _nat(old, old if both else ()), _nat(new, new if both else ())
    found = _changed(before, wanted)
    if found is None:
        return
    ruleset = with_tables(Ruleset(4), [before])
    made = with_elements(ruleset, found)
    assert tables_of(made)[4, "nat"] == tables_of(with_tables(Ruleset(4), [wanted]))[4, "nat"]
    # In which order elements go means nothing.
    ordered = [
        one._replace(gone=tuple(key for key in ruleset.sets[one.name].elements if key in one.gone)) for one in found
    ]
    assert {request.body for request in element_requests(ruleset, ordered)} == {
        request.body for request in changes(ruleset, made)
    }


def test_a_floating_ip_that_comes_moves_or_goes_is_one_element_of_each_map() -> None:
    key, fixed = bytes((203, 0, 2, 0)), bytes((10, 0, 2, 0))
    all_of_them, without = _many(), _many(500)
    assert _changed(without, all_of_them) == [
        ElementChange("fip_out", (), {fixed: Element(key)}),
        ElementChange("fip_in", (), {key: Element(fixed)}),
    ]
    assert _changed(all_of_them, without) == [
        ElementChange("fip_out", (fixed,), {}),
        ElementChange("fip_in", (key,), {}),
    ]
    new = bytes((10, 9, 9, 9))
    assert _changed(_many(1), _many(1, moved=500)) == [
        ElementChange("fip_out", (fixed,), {new: Element(key)}),
        ElementChange("fip_in", (key,), {key: Element(new)}),
    ]


def test_a_map_that_two_chains_look_up_is_changed_by_both_or_compiled() -> None:
    two, three = RULES[0:6:4], RULES[0:6:2]
    both = _changed(_nat(tuple(two), tuple(two)), _nat(tuple(three), tuple(three)))
    assert both is not None
    assert [change.name for change in both] == ["fip_in"]
    assert _changed(_nat(tuple(two), tuple(two)), _nat(tuple(three), tuple(two))) is None


def test_what_is_more_than_an_element_is_compiled() -> None:
    one, *others = RULES[0:6:2]
    table = _nat((one, others[0]))
    assert _changed(table, _nat((one, *others))) is not None
    assert _changed(table, _nat((one, others[0], RULES[9]))) is None
    assert _changed(table, _nat(())) is None
    assert _changed(_nat(()), table) is None
    assert _changed(table, make_table(4, "nat", {"PREROUTING": (one, *others)})) is None
    assert _changed(table, _nat((one, others[0], FilterRule(Jump("dvr-OUTPUT"))))) is None
