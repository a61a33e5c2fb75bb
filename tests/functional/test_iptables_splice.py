"""A legacy table in which rules change is written in its bytes: as libiptc would write it, with what was counted."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.iptables import LibiptcManager, libiptc, manager
from dvr_agent.kernel.iptables.reader import NamespaceTables, TableReader
from dvr_agent.kernel.netns import NamespaceWindow, entered
from dvr_agent.state.filter import Chain, Dnat, FilterRule, Jump, SetMark, Snat, Table, TableKey, Verdict
from dvr_agent.state.filter_runs import make_table
from tests.support import lab
from tests.support.filter_rules import rules

pytestmark = pytest.mark.legacy_tables("their bytes")
NAT: TableKey = (4, "nat")
ACCEPT, RETURN = FilterRule(Verdict("ACCEPT")), FilterRule(Verdict("RETURN"))
UNCHECKED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
FOREIGN = (
    "-N before",
    "-A before -s 10.9.0.0/16 -j RETURN",
    "-A before -p icmp",  # without target: on to the next entry
    "-N zzz-after",
    "-A zzz-after -d 10.8.0.0/16 -g before",
    "-I PREROUTING -j before",
    "-A PREROUTING -p tcp",
    "-A PREROUTING -j zzz-after",
    "-A POSTROUTING -s 10.7.0.0/16 -j ACCEPT",
)
_numbers = count()


class Namespaces:
    def enter(self, name: str) -> NamespaceWindow:
        return entered(name)


class NoHandle(libiptc.Handle):
    """libiptc, which nobody needs here."""

    def __init__(self, namespace: str, key: TableKey) -> None:
        raise AssertionError(f"libiptc was asked for {key} in {namespace}")


@pytest.fixture
def counters() -> WriteCounters:
    return WriteCounters()


@pytest.fixture
def iptables(host: lab.Host, tmp_path: Path, counters: WriteCounters) -> LibiptcManager:
    libiptc.library(4)
    return LibiptcManager(Namespaces(), counters, str(tmp_path / "xtables.lock"), 0.2)


@pytest.fixture
def namespace(host: lab.Host) -> str:
    return _namespace()


def _namespace() -> str:
    name = f"ns-{next(_numbers)}"
    lab.run("ip", "netns", "add", name)
    return name


def _put(iptables: LibiptcManager, namespace: str, *wanted: Table) -> None:
    with iptables.defer_apply() as pending:
        for table in wanted:
            pending.replace(namespace, table)


def _put_spliced(iptables: LibiptcManager, namespace: str, *wanted: Table) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "Handle", NoHandle)
        _put(iptables, namespace, *wanted)


def _put_by_libiptc(iptables: LibiptcManager, namespace: str, *wanted: Table) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "splice", lambda *_: None)
        _put(iptables, namespace, *wanted)


def _bytes(namespace: str, key: TableKey) -> tuple[bytes, bytes]:
    with TableReader(Namespaces()).open(namespace, [key]) as opened:
        return opened.read_bytes(key)


def _iptables(namespace: str, family: int, *lines: str) -> None:
    program = "iptables-legacy" if family == 4 else "ip6tables-legacy"
    for line in lines:
        lab.in_netns(namespace, program, *line.split())


def _nat(*addresses: int, end: tuple[FilterRule, ...] = ()) -> Table:
    inward = tuple(FilterRule(Dnat(f"10.0.0.{n}"), dst=f"203.0.113.{n}/32") for n in addresses)
    outward = tuple(FilterRule(Snat(f"203.0.113.{n}"), src=f"10.0.0.{n}/32") for n in addresses)
    return make_table(4, "nat", {"PREROUTING": inward, "POSTROUTING": (*outward, *end)})


@st.composite
def _changed_chains(draw: st.DrawFn) -> tuple[Table, Table]:
    """Two tables with the same chains and jumps, and other rules."""
    keys: list[TableKey] = [(4, "nat"), (6, "nat"), (4, "mangle"), (4, "filter")]
    family, name = draw(st.sampled_from(keys))
    pool = st.lists(rules(family, name, "POSTROUTING" if name == "nat" else "FORWARD"), max_size=5)
    lists = [draw(pool) for _ in range(3)]
    last = draw(st.permutations(lists[0]))
    chain = "POSTROUTING" if name == "nat" else "FORWARD"
    one = (*lists[0], *lists[1])
    other = (*last[: draw(st.integers(0, len(last)))], *lists[2])
    tables = [
        Table(
            family,
            name,
            (
                Chain(f"dvr-{chain}", (*part, FilterRule(Jump("dvr-inner")))),
                Chain("dvr-inner", (ACCEPT,)),
            ),
            ((chain, f"dvr-{chain}"),),
        )
        for part in (one, other)
    ]
    return tables[0], tables[1]


@given(_changed_chains())
@settings(max_examples=30, deadline=None, suppress_health_check=UNCHECKED)
def test_any_change_of_rules_has_the_bytes_that_libiptc_writes(
    iptables: LibiptcManager, changed: tuple[Table, Table]
) -> None:
    before, wanted = changed
    key, chain = before.key, before.jumps[0][0]
    one, other = _namespace(), _namespace()
    for name in (one, other):
        _put(iptables, name, before)
        _iptables(name, key[0], f"-t {key[1]} -N zzz", f"-t {key[1]} -A {chain} -j zzz", f"-t {key[1]} -A zzz -p tcp")
    _put_spliced(iptables, one, wanted)
    _put_by_libiptc(iptables, other, wanted)
    assert _bytes(one, key) == _bytes(other, key)
    assert iptables.observe(one, [key]) == Newcomer().observe(one, [key]) == (wanted,)
    for name in (one, other):
        lab.run("ip", "netns", "del", name)


class Newcomer(LibiptcManager):
    """One that has written nothing."""

    def __init__(self) -> None:
        super().__init__(Namespaces(), WriteCounters())


def test_what_others_have_in_the_table_stays(iptables: LibiptcManager) -> None:
    names = [_namespace(), _namespace()]
    for name in names:
        _iptables(name, 4, *(f"-t nat {line}" for line in FOREIGN))
        _put(iptables, name, _nat(1, 2, 3, end=(ACCEPT,)))
    for wanted in (_nat(1, 2, 3, 4, end=(ACCEPT,)), _nat(4, 2, end=(ACCEPT,)), _nat(9)):
        _put_spliced(iptables, names[0], wanted)
        _put_by_libiptc(iptables, names[1], wanted)
        assert _bytes(names[0], NAT) == _bytes(names[1], NAT)
        assert iptables.observe(names[0], [NAT]) == Newcomer().observe(names[0], [NAT]) == (wanted,)
    saved = lab.in_netns(names[0], "iptables-legacy-save", "-t", "nat").splitlines()
    assert [line for line in saved if "dvr-" not in line and line.startswith("-A")] == [
        "-A PREROUTING -j before",
        "-A PREROUTING -p tcp",
        "-A PREROUTING -j zzz-after",
        "-A POSTROUTING -s 10.7.0.0/16 -j ACCEPT",
        "-A before -s 10.9.0.0/16 -j RETURN",
        "-A before -p icmp",
        "-A zzz-after -d 10.8.0.0/16 -g before",
    ]


def _marking(*marks: int) -> Table:
    return make_table(4, "mangle", {"OUTPUT": tuple(FilterRule(SetMark(mark)) for mark in marks)})


def _counted(iptables: LibiptcManager, namespace: str) -> dict[object, int]:
    return {one.rule.target: one.packets for one in iptables.counts(namespace, (4, "mangle"))}


def test_rules_that_stay_go_on_counting(iptables: LibiptcManager, namespace: str) -> None:
    _put(iptables, namespace, _marking(1, 2, 3))
    _iptables(namespace, 4, "-t mangle -I OUTPUT -p icmp")
    lab.run("ip", "-n", namespace, "link", "set", "lo", "up")
    lab.in_netns(namespace, "ping", "-c", "2", "-i", "0.2", "127.0.0.1")
    before = _counted(iptables, namespace)
    assert set(before.values()) == {4}
    _put_spliced(iptables, namespace, _marking(7, 1, 3, 9))
    assert _counted(iptables, namespace) == {SetMark(7): 0, SetMark(1): 4, SetMark(3): 4, SetMark(9): 0}
    (line,) = lab.in_netns(namespace, "iptables-legacy", "-t", "mangle", "-vnxL", "OUTPUT", "1").splitlines()
    assert line.split()[0] == "4"


def test_a_changed_table_is_known_before_it_is_read(
    iptables: LibiptcManager, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(iptables, namespace, _nat(1))
    _iptables(namespace, 4, "-t nat -A PREROUTING -p icmp -j ACCEPT")
    _put(iptables, namespace, _nat(1, 2))
    monkeypatch.setattr(NamespaceTables, "_decode", None)
    for wanted in (_nat(2), _nat(2, 4)):
        _put_spliced(iptables, namespace, wanted)
        (found,) = iptables.observe(namespace, [NAT])
        assert found is wanted


def test_a_table_that_is_as_desired_by_then_is_not_written(
    iptables: LibiptcManager, namespace: str, counters: WriteCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(iptables, namespace, _nat(1))
    read = NamespaceTables.read_bytes

    def meddle(tables: NamespaceTables, key: TableKey) -> tuple[bytes, bytes]:
        monkeypatch.setattr(NamespaceTables, "read_bytes", read)
        _iptables(
            namespace,
            4,
            "-t nat -A dvr-PREROUTING -d 203.0.113.2 -j DNAT --to-destination 10.0.0.2",
            "-t nat -A dvr-POSTROUTING -s 10.0.0.2 -j SNAT --to-source 203.0.113.2",
        )
        return read(tables, key)

    monkeypatch.setattr(NamespaceTables, "read_bytes", meddle)
    before = counters.commits
    _put_spliced(iptables, namespace, _nat(1, 2))
    assert counters.commits == before
    assert iptables.observe(namespace, [NAT]) == (_nat(1, 2),)
