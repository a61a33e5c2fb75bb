"""Rules survive the way into an entry and back, and what cannot be said is refused before it is written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvr_agent.kernel.iptables import rule_codec
from dvr_agent.kernel.iptables.layout import LAYOUTS, OFFSETS
from dvr_agent.kernel.iptables.rule_codec import come_from, decode, encode, encode_reached
from dvr_agent.state.filter import (
    CommentMatch,
    CtHelper,
    CtStateMatch,
    Dnat,
    DportMatch,
    Family,
    FilterRule,
    Foreign,
    Jump,
    MarkMatch,
    Not,
    Redirect,
    SetMark,
    Snat,
    Verdict,
)
from tests.support.filter_rules import any_rule
from tests.support.wire_values import ipv4_addresses

ACCEPT = Verdict("ACCEPT")


@given(any_rule())
@settings(max_examples=200, deadline=None)
def test_what_is_encoded_reads_back_as_the_same_rule(found: tuple[Family, FilterRule]) -> None:
    family, rule = found
    layout, raw = LAYOUTS[family], encode(rule, family)
    target, size = OFFSETS.unpack_from(raw, layout.offsets_at)
    aim = rule.target if isinstance(rule.target, Verdict | Jump) else raw[target:size]
    assert size == len(raw)
    assert size % 8 == 0
    assert decode(family, raw[: layout.ip_size], raw[layout.header_size : target], aim) == rule


names = st.none() | st.from_regex(r"[a-z-]{1,14}[a-z+]", fullmatch=True)
translations = st.builds(
    lambda address, other, by_source, iif, oif, random: FilterRule(
        Snat(other, random) if by_source else Dnat(other),
        src=f"{address}/32" if by_source else None,
        dst=None if by_source else f"{address}/32",
        iif=iif,
        oif=Not(oif) if oif else None,
    ),
    ipv4_addresses,
    ipv4_addresses,
    st.booleans(),
    names,
    names,
    st.booleans(),
)


@given(any_rule() | translations.map(lambda rule: (4, rule)), st.integers(0, 31))
@settings(max_examples=300, deadline=None)
def test_a_rule_that_is_encoded_by_one_like_it_has_the_bytes_of_its_own(
    found: tuple[Family, FilterRule], hooks: int
) -> None:
    family, rule = found
    own = come_from(LAYOUTS[family], rule_codec._encode_checked.__wrapped__(rule, family), hooks)
    assert encode_reached(rule, family, hooks) == own


@pytest.mark.parametrize("address", ["10.0.0.01", "10.0.1", "0xa.0.0.1", " 10.0.0.1", "\0", ""])
def test_an_address_in_another_spelling_is_refused(address: str) -> None:
    for rule in (
        FilterRule(Snat("192.0.2.1"), src=f"{address}/32"),
        FilterRule(Dnat("192.0.2.1"), dst=f"{address}/32"),
        FilterRule(Snat(address), src="192.0.2.1/32"),
        FilterRule(Dnat(address), dst="192.0.2.1/32"),
    ):
        with pytest.raises(ValueError, match=r"no IPv4 address|null"):
            encode(rule, 4)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (FilterRule(ACCEPT, iif="a-name-of-16-byt"), "interface names"),
        (FilterRule(ACCEPT, oif=Not("")), "interface names"),
        (FilterRule(ACCEPT, iif="two words"), r"interface names.*two words"),
        (FilterRule(ACCEPT, src="10.0.0.5", iif="qr-1"), r"write it as: -s 10\.0\.0\.5/32 -i qr-1 -j ACCEPT"),
        (FilterRule(ACCEPT, iif="+"), "write it as"),
        (FilterRule(ACCEPT, src="10.0.0.5/24"), "host bits"),
        (FilterRule(ACCEPT, src="10.0.0.5"), "write it as: -s 10.0.0.5/32 -j ACCEPT"),
        (FilterRule(ACCEPT, dst="0.0.0.0/0"), "write it as: -j ACCEPT"),
        (FilterRule(ACCEPT, dst="fd00::/64"), "no IPv4 address"),
        (FilterRule(Dnat("fd00::1")), "no IPv4 address"),
        (FilterRule(Snat("no address")), "no IPv4 address"),
        (FilterRule(Dnat("10.0.0.1", (80, 80))), "needs -p"),
        (FilterRule(Dnat("10.0.0.1", (81, 80)), protocol="tcp"), "first before last"),
        (FilterRule(Dnat("10.0.0.1", (0, 80)), protocol="tcp"), r"1\.\.65535"),
        (FilterRule(Redirect(65536), protocol="tcp"), r"1\.\.65535"),
        (FilterRule(Redirect(9697)), "needs -p"),
        (FilterRule(ACCEPT, protocol="tcp", matches=(DportMatch("tcp", 0, 65536),)), r"0\.\.65535"),
        (FilterRule(ACCEPT, protocol="udp", matches=(DportMatch("tcp", 80, 80),)), "needs -p tcp"),
        (FilterRule(CtHelper("ftp")), "needs -p"),
        (FilterRule(CtHelper("a-name-of-16-byt"), protocol="tcp"), "names of helpers"),
        (FilterRule(CtHelper("f tp"), protocol="tcp"), "names of helpers"),
        (FilterRule(SetMark(1 << 32)), "32 bits"),
        (FilterRule(SetMark(1, -1)), "32 bits"),
        (FilterRule(ACCEPT, matches=(MarkMatch(-1),)), "32 bits"),
        (FilterRule(ACCEPT, matches=(CtStateMatch(frozenset()),)), "connection states"),
        (FilterRule(ACCEPT, matches=(CtStateMatch(frozenset({"OLD"})),)), "connection states"),
        (FilterRule(ACCEPT, matches=(CommentMatch("é" * 128),)), "255 bytes"),
        (FilterRule(ACCEPT, matches=(CommentMatch("two\nlines"),)), "printable"),
        (FilterRule(Jump("dvr-" + "x" * 25)), "28"),
        (FilterRule(Foreign(b"")), "not ours"),
        (FilterRule(ACCEPT, matches=(Foreign(b""),)), "not ours"),
    ],
)
def test_what_cannot_be_said_is_refused(rule: FilterRule, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode(rule, 4)


def test_a_comment_may_have_255_bytes() -> None:
    assert encode(FilterRule(ACCEPT, matches=(CommentMatch("x" * 255),)), 4)


def test_an_extension_without_a_word_is_foreign_and_equals_nothing_of_ours() -> None:
    layout = LAYOUTS[4]
    raw = bytearray(encode(FilterRule(SetMark(1)), 4))
    raw[layout.header_size + 31] = 1  # another revision of MARK
    rule = decode(4, bytes(raw[: layout.ip_size]), b"", bytes(raw[layout.header_size :]))
    assert isinstance(rule.target, Foreign)
    assert "not ours" in rule.text


def test_an_ip_part_without_a_word_makes_the_whole_rule_foreign() -> None:
    layout = LAYOUTS[4]
    raw = bytearray(encode(FilterRule(ACCEPT), 4))
    raw[80] = 1  # -p icmp
    assert isinstance(decode(4, bytes(raw[: layout.ip_size]), b"", ACCEPT).target, Foreign)
    raw[80], raw[82] = 0, 2  # goto
    assert isinstance(decode(4, bytes(raw[: layout.ip_size]), b"", ACCEPT).target, Foreign)
