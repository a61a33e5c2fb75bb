"""The way from tables to rules, sets and messages of nf_tables and back, without a kernel."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dvr_agent.kernel.nftables import rule_codec
from dvr_agent.kernel.nftables.difference_text import difference_text
from dvr_agent.kernel.nftables.expressions import nest
from dvr_agent.kernel.nftables.filter_diff import changes
from dvr_agent.kernel.nftables.rule_codec import decode, encode
from dvr_agent.kernel.nftables.ruleset import NftRule, Ruleset, tables_of, with_tables
from dvr_agent.kernel.nftables.ruleset_text import ruleset_text
from dvr_agent.state.filter import Dnat, Family, FilterRule, Foreign, Not, Snat, Table, Verdict
from dvr_agent.state.filter_runs import in_order, make_table
from tests.support.filter_rules import tables
from tests.support.nft_rules import expressible, floating, of_every_kind


def compiled(*wanted: Table) -> Ruleset:
    return with_tables(Ruleset(wanted[0].family), list(wanted))


def assert_read_as_written(table: Table) -> None:
    for rules in compiled(table).chains.values():
        for one in rules:
            expressions = b"".join(nest(1, part) for part in encode(table.family, one))
            assert decode(table.family, expressions) == one


@given(tables().map(expressible))
@settings(deadline=None)
def test_a_rule_is_read_as_it_was_written(table: Table) -> None:
    assert_read_as_written(table)


def test_every_rule_of_a_router_is_read_as_it_was_written() -> None:
    for table in of_every_kind():
        assert_read_as_written(table)


def test_a_rule_that_is_not_exactly_as_ours_are_is_foreign() -> None:
    (one,) = compiled(make_table(4, "filter", {"INPUT": (FilterRule(Verdict("DROP"), iif="qr-1"),)})).chains[
        "filter_input"
    ]
    parts = encode(4, one)
    for changed in (parts[::-1], parts[:-1], [*parts, parts[-1]], parts[1:]):
        found = decode(4, b"".join(nest(1, part) for part in changed))
        assert isinstance(found.rule.target, Foreign)


def test_a_rule_that_differs_by_its_device_from_a_known_one_is_decoded_as_any_other() -> None:
    """Each byte in turn is another one: what is found is what is found without known rules."""
    cases: list[tuple[Family, FilterRule]] = [
        (4, FilterRule(Verdict("DROP"), iif="qr-11111111-11")),
        (4, FilterRule(Snat("203.0.113.1"), src="10.0.0.0/24", oif="qg-11111111-11")),
        (6, FilterRule(Verdict("ACCEPT"), iif="rfp-11111111-1", oif=Not("qr-11111111-11"))),
        (4, FilterRule(Verdict("ACCEPT"), iif="qr-11111111-11", oif="qr-11111111-11")),
    ]
    for family, rule in cases:
        expressions = b"".join(nest(1, part) for part in encode(family, NftRule(rule)))
        for at in range(len(expressions)):
            other = bytearray(expressions)
            other[at] ^= 0x11
            rule_codec._known = rule_codec._KnownRules()
            alone = decode.__wrapped__(family, bytes(other))
            rule_codec._known = rule_codec._KnownRules()
            assert decode.__wrapped__(family, expressions) == NftRule(rule)
            assert decode.__wrapped__(family, bytes(other)) == alone
        another = replace(rule, iif="qr-2") if rule.iif else replace(rule, oif="qg-2")
        encoded = b"".join(nest(1, part) for part in encode(family, NftRule(another)))
        assert decode.__wrapped__(family, encoded) == NftRule(another)


@given(tables().map(expressible))
@settings(deadline=None)
def test_a_ruleset_has_the_tables_that_it_was_made_of(table: Table) -> None:
    assume(table.chains)
    assert tables_of(with_tables(Ruleset(table.family), [table]))[table.key] == table


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_order_keeps_the_rule_that_counts_for_each_address(found: list[tuple[int, bool]]) -> None:
    rules = [FilterRule(Dnat(f"10.0.{int(other)}.{n}"), dst=f"203.0.113.{n}/32") for n, other in found]
    ordered = in_order(rules)
    first = {rule.dst: rule for rule in reversed(rules)}
    assert {rule.dst: rule for rule in ordered} == first
    assert len(ordered) == len(first)
    assert list(in_order(ordered)) == list(ordered)


# -- differences --------------------------------------------------------------------------------------------------


def test_a_floating_ip_more_is_two_elements_in_plans() -> None:
    one, two = floating(("203.0.113.1", "10.0.0.1")), floating(("203.0.113.1", "10.0.0.1"), ("203.0.113.2", "10.0.0.2"))
    assert list(difference_text(one, two)) == [
        ("+", "element ip dvr fip_in { 203.0.113.2 : 10.0.0.2 }"),
        ("+", "element ip dvr fip_out { 10.0.0.2 : 203.0.113.2 }"),
    ]
    assert list(difference_text(two, two)) == []


def test_a_moved_floating_ip_is_taken_out_and_put_in() -> None:
    one, two = floating(("203.0.113.1", "10.0.0.1")), floating(("203.0.113.1", "10.0.0.2"))
    assert list(difference_text(one, two))[:2] == [
        ("-", "element ip dvr fip_in { 203.0.113.1 : 10.0.0.1 }"),
        ("+", "element ip dvr fip_in { 203.0.113.1 : 10.0.0.2 }"),
    ]


def test_requests_touch_what_differs_only() -> None:
    one = floating(("203.0.113.1", "10.0.0.1"))
    rule = FilterRule(Verdict("DROP"), iif="qr-1")
    first, second = compiled(one), compiled(one, make_table(4, "filter", {"INPUT": (rule,)}))
    assert [one.text for one in changes(first, second)] == [
        "nft table ip dvr: chain filter_input",
        f"nft table ip dvr: chain filter_input: {rule.text}",
    ]
    assert [one.text for one in changes(second, first)] == ["nft table ip dvr: chain filter_input"]
    assert list(changes(first, first)) == []
    assert [one.text for one in changes(first, Ruleset(4))] == ["nft table ip dvr"]


def test_a_strange_table_is_made_anew() -> None:
    wanted = compiled(floating(("203.0.113.1", "10.0.0.1")))
    texts = [one.text for one in changes(replace(wanted, strange=("theirs",)), wanted)]
    assert texts[:2] == ["nft table ip dvr", "nft table ip dvr"]
    assert len(texts) == 2 + len(list(changes(Ruleset(4), wanted))) - 1


def test_what_is_printed_has_a_line_for_each_element_and_rule() -> None:
    text = ruleset_text(compiled(floating(("203.0.113.2", "10.0.0.2"), ("203.0.113.1", "10.0.0.1"))))
    assert "\t\telements = { 203.0.113.1 : 10.0.0.1,\n\t\t\t     203.0.113.2 : 10.0.0.2 }\n" in text
    assert '\t\tiifname "rfp-1" dnat to ip daddr map @fip_in\n' in text
    assert "\t\tsnat to ip saddr map @fip_out fully-random\n" in text
