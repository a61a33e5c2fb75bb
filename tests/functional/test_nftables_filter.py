"""Packet filter tables in a real kernel's nf_tables, read back by nft."""

from __future__ import annotations

import errno
import operator
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.closer import close_aside
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables import filter_manager, transaction
from dvr_agent.kernel.nftables.filter_manager import NftablesFilter
from dvr_agent.kernel.nftables.filter_probe import probe
from dvr_agent.state.filter import (
    CommentMatch,
    CtStateMatch,
    FilterRule,
    SetMark,
    Table,
    Verdict,
)
from dvr_agent.state.filter_runs import make_table
from tests.support import lab
from tests.support.filter_rules import qrouter_tables, tables
from tests.support.nft_rules import expressible, floating, of_every_kind
from tests.support.waiting import wait_for

NS = "qrouter-1"
DROP = FilterRule(Verdict("DROP"))
UNCHECKED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@pytest.fixture
def counters() -> WriteCounters:
    return WriteCounters()


@pytest.fixture
def packet_filter(host: lab.Host, counters: WriteCounters) -> NftablesFilter:
    lab.run("ip", "netns", "add", NS)
    return NftablesFilter(counters)


def put(packet_filter: NftablesFilter, *wanted: Table) -> None:
    with packet_filter.defer_apply() as pending:
        for table in wanted:
            pending.replace(NS, table)


def read(*wanted: Table, packet_filter: NftablesFilter | None = None) -> tuple[Table, ...]:
    """As a program reads that remembers nothing, unless one is given."""
    return (packet_filter or NftablesFilter(WriteCounters())).observe(NS, [table.key for table in wanted])


def nft(*words: str) -> str:
    return lab.in_netns(NS, "nft", *words)


def many(number: int) -> Table:
    return floating(*((f"203.0.{n // 250}.{n % 250}", f"10.0.{n // 250}.{n % 250}") for n in range(number)))


# -- writing and reading ------------------------------------------------------------------------------------------


def test_everything_that_routers_have_is_read_back_equal_and_written_once(
    packet_filter: NftablesFilter, counters: WriteCounters
) -> None:
    for table in of_every_kind():
        put(packet_filter, table)
        assert read(table) == (table,) == read(table, packet_filter=packet_filter)
        before = counters.total()
        put(packet_filter, table)
        put(NftablesFilter(counters), table)
        assert counters.total() == before


@given(st.lists(tables().map(expressible), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=UNCHECKED)
def test_any_table_is_reached_from_any_other(packet_filter: NftablesFilter, wanted: list[Table]) -> None:
    last = {}
    for table in wanted:
        put(packet_filter, table)
        last[table.key] = table
        assert read(table) == (table,)
    assert read(*last.values()) == tuple(last.values())


def test_what_is_printed_is_what_nft_lists_and_nft_reads_both_again(packet_filter: NftablesFilter) -> None:
    for table in of_every_kind():
        put(packet_filter, table)
    before = read(*of_every_kind())
    listed, printed = nft("list", "ruleset"), packet_filter.save(NS)
    assert words(printed) == words(listed)
    for text in (listed, printed):
        nft("flush", "ruleset")
        lab.in_netns(NS, "nft", "-f", "-", text=text)
        assert read(*of_every_kind()) == before


def words(text: str) -> list[str]:
    """Without blanks, and without the places where lines are broken; blocks in any order."""
    flat = re.sub(r"\s+", " ", re.sub(r",\s+", ", ", text))
    return sorted(flat.replace("table", "} table").split("} "))


def test_rules_say_what_they_are_for(packet_filter: NftablesFilter) -> None:
    put(packet_filter, make_table(4, "filter", {"INPUT": (replace(DROP, note="nothing gets in"),)}))
    assert 'drop comment "nothing gets in"' in nft("list", "ruleset")


def test_a_rule_that_cannot_be_expressed_is_refused_and_changes_nothing(packet_filter: NftablesFilter) -> None:
    put(packet_filter, *qrouter_tables())
    mixed = FilterRule(Verdict("DROP"), matches=(CtStateMatch(frozenset({"NEW", "DNAT"})),))
    with pytest.raises(KernelError, match=r"states and translations in one match: .*NEW,DNAT") as caught:
        put(packet_filter, floating(), make_table(4, "filter", {"INPUT": (mixed,)}))
    assert caught.value.code == errno.EINVAL
    assert read(*qrouter_tables()) == qrouter_tables()


def test_the_kernels_probe_passes_here(host: lab.Host) -> None:
    probe()
    assert lab.run("nft", "list", "ruleset") == ""


# -- a floating IP is an element ----------------------------------------------------------------------------------


def handles() -> list[str]:
    """Lines of the rules with their handles, which a rule keeps while it is not written anew."""
    return [line for line in nft("-a", "list", "ruleset").splitlines() if "map @" in line]


def test_floating_ips_come_move_and_go_without_a_rule_being_touched(packet_filter: NftablesFilter) -> None:
    put(packet_filter, floating(("203.0.113.1", "10.0.0.1")))
    before = handles()
    assert len(before) == 2
    for pairs in (
        [("203.0.113.1", "10.0.0.1"), ("203.0.113.2", "10.0.0.2")],
        [("203.0.113.1", "10.0.0.3"), ("203.0.113.2", "10.0.0.2")],
        [("203.0.113.2", "10.0.0.2")],
        [("203.0.113.2", "10.0.0.2"), ("203.0.113.9", "10.0.0.1")],
    ):
        put(packet_filter, floating(*pairs))
        assert read(floating(*pairs)) == (floating(*pairs),)
        assert handles() == before
        for fip, fixed in pairs:
            assert f"{fip} : {fixed}" in nft("list", "map", "ip", "dvr", "fip_in")


def test_a_socket_is_closed_aside_where_the_kernel_would_wait(
    packet_filter: NftablesFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[NetlinkSocket] = []
    monkeypatch.setattr(job_sockets, "_deleted", {})  # of another test's namespace
    monkeypatch.setattr(job_sockets, "close_aside", closed.append)
    monkeypatch.setattr(job_sockets, "GRACE", 3600.0)
    put(packet_filter, many(3))
    assert read(many(3), packet_filter=packet_filter) == (many(3),)
    assert not closed
    put(packet_filter, many(2))
    assert read(many(2), packet_filter=packet_filter) == (many(2),)
    assert len(closed) == 2
    monkeypatch.setattr(job_sockets, "GRACE", 0.0)
    read(many(2), packet_filter=packet_filter)
    for one in closed:
        close_aside(one)
    wait_for(lambda: all(one._raw.fileno() < 0 for one in closed), "the sockets are closed")
    assert len(closed) == 2


def test_thousands_of_elements_are_written_and_read(packet_filter: NftablesFilter) -> None:
    put(packet_filter, many(5000))
    assert read(many(5000)) == (many(5000),)
    put(packet_filter, many(2500))
    assert read(many(2500)) == (many(2500),)


def test_counters_of_elements_that_stay_go_on(packet_filter: NftablesFilter) -> None:
    def counting(*last: int) -> Table:
        rules = tuple(
            FilterRule(SetMark(0, 0), dst=f"127.0.0.{n}/32", iif="lo", matches=(CommentMatch(f"bytes to {n}"),))
            for n in last
        )
        return make_table(4, "mangle", {"PREROUTING": rules})

    lab.in_netns(NS, "ip", "link", "set", "lo", "up")
    put(packet_filter, counting(1, 2))
    lab.in_netns(NS, "ping", "-c", "2", "-i", "0.1", "127.0.0.1")
    put(packet_filter, counting(1, 3))
    found = {one.rule.dst: one.packets for one in packet_filter.counts(NS, (4, "mangle"))}
    assert found == {"127.0.0.1/32": 4, "127.0.0.3/32": 0}


# -- others -------------------------------------------------------------------------------------------------------

HOOKED = "{ type filter hook forward priority 0 ; }"
MEDDLING = {
    "a rule of theirs in our chain": ("add", "rule", "ip", "dvr", "nat_prerouting", "counter", "accept"),
    "an element gone": ("delete", "element", "ip", "dvr", "fip_in", "{ 203.0.113.1 }"),
    "an element more": ("add", "element", "ip", "dvr", "fip_out", "{ 10.9.9.9 : 203.0.113.9 }"),
    "a chain flushed": ("flush", "chain", "ip", "dvr", "nat_postrouting"),
    "the table gone": ("delete", "table", "ip", "dvr"),
    "everything gone": ("flush", "ruleset"),
    "a policy": ("add", "chain", "ip", "dvr", "nat_prerouting", "{ policy drop ; }"),
    "a chain of theirs in our table": ("add", "chain", "ip", "dvr", "theirs", HOOKED),
}


@pytest.mark.parametrize("words", MEDDLING.values(), ids=MEDDLING.keys())
def test_whatever_others_change_in_our_tables_is_seen_and_repaired(
    packet_filter: NftablesFilter, counters: WriteCounters, words: tuple[str, ...]
) -> None:
    wanted = floating(("203.0.113.1", "10.0.0.1"))
    put(packet_filter, wanted)
    nft(*words)
    assert read(wanted, packet_filter=packet_filter) != (wanted,)
    put(packet_filter, wanted)
    assert read(wanted) == (wanted,)
    before = counters.total()
    put(packet_filter, wanted)
    assert counters.total() == before


def test_what_has_not_changed_is_the_same_object_again(packet_filter: NftablesFilter) -> None:
    """The table check compares nothing then."""
    wanted = [*qrouter_tables(), Table(6, "raw")]
    put(packet_filter, *wanted)
    first, second = (read(*wanted, packet_filter=packet_filter) for _ in range(2))
    assert all(map(operator.is_, first, second))
    assert first[-1] == Table(6, "raw")
    nft("add table ip other")
    read(*wanted, packet_filter=packet_filter)  # decoded once, since it was not read before
    first = read(*wanted, packet_filter=packet_filter)
    nft("add chain ip other c")
    assert all(map(operator.is_, first, read(*wanted, packet_filter=packet_filter)))
    nft("flush chain ip dvr nat_prerouting")
    assert read(*wanted, packet_filter=packet_filter) == read(*wanted) != first


def test_tables_of_others_stay(packet_filter: NftablesFilter) -> None:
    nft("add", "table", "inet", "theirs")
    nft("add", "chain", "inet", "theirs", "c", HOOKED)
    put(packet_filter, *qrouter_tables())
    put(packet_filter, *(Table(*table.key) for table in qrouter_tables()))
    assert nft("list", "tables").split() == ["table", "inet", "theirs"]
    assert packet_filter.save(NS) == ""


def test_a_change_of_others_between_reading_and_writing_is_read_again(
    packet_filter: NftablesFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = floating(("203.0.113.1", "10.0.0.1"))
    put(packet_filter, wanted)
    tries = iter(range(3))

    def meddled(*args: object, **more: object) -> bool:
        if next(tries) == 0:
            nft("flush", "chain", "ip", "dvr", "nat_prerouting")
        return transaction.commit(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(filter_manager, "commit", meddled)
    more = floating(("203.0.113.1", "10.0.0.1"), ("203.0.113.2", "10.0.0.2"))
    put(packet_filter, more)
    assert read(more) == (more,)
    assert next(tries) == 2


def test_a_namespace_made_anew_under_its_name_is_not_taken_for_the_old_one(packet_filter: NftablesFilter) -> None:
    wanted = floating(("203.0.113.1", "10.0.0.1"))
    put(packet_filter, wanted)
    lab.run("ip", "netns", "del", NS)
    with pytest.raises(NamespaceGoneError):
        read(wanted, packet_filter=packet_filter)
    lab.run("ip", "netns", "add", NS)
    nft("add", "table", "ip", "other")  # the same number of transactions
    assert read(wanted, packet_filter=packet_filter) == (Table(4, "nat"),)
    put(packet_filter, wanted)
    assert read(wanted) == (wanted,)
