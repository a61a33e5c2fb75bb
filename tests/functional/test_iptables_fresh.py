"""A legacy table that nobody has written to is written whole, with the bytes that libiptc would write."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.iptables import LibiptcManager, libiptc, manager
from dvr_agent.kernel.iptables.fresh_table import InitialTable, encode_table, initial_table
from dvr_agent.kernel.iptables.layout import BUILTINS, INFO
from dvr_agent.kernel.iptables.reader import NamespaceTables, TableReader
from dvr_agent.kernel.netns import NamespaceWindow, entered
from dvr_agent.state.filter import Chain, Dnat, FilterRule, Jump, SetMark, Table, TableKey, Verdict
from dvr_agent.state.filter_runs import make_table
from tests.support import lab
from tests.support.filter_rules import qrouter_tables, tables

pytestmark = pytest.mark.legacy_tables("their bytes")
ACCEPT, DROP = FilterRule(Verdict("ACCEPT")), FilterRule(Verdict("DROP"))
UNCHECKED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
NESTED = Table(
    4,
    "mangle",
    (
        Chain("dvr-FORWARD", (FilterRule(SetMark(1)), FilterRule(Jump("dvr-inner"), src="10.0.0.0/8"))),
        Chain("dvr-inner", (FilterRule(Verdict("RETURN")), DROP)),
        Chain("dvr-nobody"),
    ),
    (("FORWARD", "dvr-FORWARD"), ("OUTPUT", "dvr-FORWARD"), ("OUTPUT", "dvr-inner")),
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
def iptables(host: lab.Host, tmp_path: Path) -> LibiptcManager:
    libiptc.library(4)
    return LibiptcManager(Namespaces(), WriteCounters(), str(tmp_path / "xtables.lock"), 0.2)


def _namespace() -> str:
    name = f"ns-{next(_numbers)}"
    lab.run("ip", "netns", "add", name)
    return name


def _touched(*wanted: Table) -> str:
    """Make a namespace in which these tables exist: libiptc writes them then."""
    name = _namespace()
    for table in wanted:
        lab.in_netns(name, f"ip{'6' if table.family == 6 else ''}tables-legacy", "-t", table.name, "-n", "-L")
    return name


def _put(iptables: LibiptcManager, namespace: str, *wanted: Table) -> None:
    with iptables.defer_apply() as pending:
        for table in wanted:
            pending.replace(namespace, table)


def _bytes(namespace: str, key: TableKey) -> tuple[bytes, bytes]:
    with TableReader(Namespaces()).open(namespace, [key]) as opened:
        return opened.read_bytes(key)


def _assert_same(iptables: LibiptcManager, *wanted: Table) -> None:
    fresh, touched = _namespace(), _touched(*wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "Handle", NoHandle)
        _put(iptables, fresh, *wanted)
    _put(iptables, touched, *wanted)
    keys = [table.key for table in wanted]
    assert iptables.observe(fresh, keys) == iptables.observe(touched, keys) == wanted
    assert all(_bytes(fresh, key) == _bytes(touched, key) for key in keys if iptables.observe(fresh, [key])[0].chains)
    for name in (fresh, touched):
        lab.run("ip", "netns", "del", name)


def test_a_routers_tables_have_the_bytes_that_libiptc_writes(iptables: LibiptcManager) -> None:
    _assert_same(iptables, *qrouter_tables())


def test_chains_that_lead_to_others_have_the_bytes_that_libiptc_writes(iptables: LibiptcManager) -> None:
    _assert_same(iptables, NESTED)


@given(tables())
@settings(max_examples=40, deadline=None, suppress_health_check=UNCHECKED)
def test_any_table_has_the_bytes_that_libiptc_writes(iptables: LibiptcManager, wanted: Table) -> None:
    _assert_same(iptables, wanted)


@pytest.mark.parametrize("wanted", [*qrouter_tables(), NESTED], ids=lambda table: f"{table.family}-{table.name}")
def test_a_written_table_is_known_before_it_is_read(
    iptables: LibiptcManager, monkeypatch: pytest.MonkeyPatch, wanted: Table
) -> None:
    namespace = _namespace()
    _put(iptables, namespace, wanted)
    monkeypatch.setattr(NamespaceTables, "_decode", None)
    (found,) = iptables.observe(namespace, [wanted.key])
    assert found is wanted


def _long(number: int) -> Table:
    found = [FilterRule(Dnat(f"10.0.0.{n}"), dst=f"203.0.113.{n}/32") for n in range(1, number + 1)]
    return make_table(4, "nat", {"PREROUTING": tuple(found), "POSTROUTING": (ACCEPT, *NESTED.chains[1].rules)})


def test_a_long_table_that_was_changed_is_known_before_it_is_read(
    iptables: LibiptcManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace, wanted = _namespace(), _long(41)
    _put(iptables, namespace, _long(40))
    _put(iptables, namespace, wanted)
    monkeypatch.setattr(NamespaceTables, "_decode", None)
    (found,) = iptables.observe(namespace, [wanted.key])
    assert found is wanted


@pytest.mark.parametrize("arguments", ["-A PREROUTING -p icmp -j ACCEPT", "-I PREROUTING -j ACCEPT"])
def test_a_long_table_in_which_others_have_something_is_read_as_it_is(iptables: LibiptcManager, arguments: str) -> None:
    namespace = _namespace()
    _put(iptables, namespace, _long(40))
    lab.in_netns(namespace, "iptables-legacy", "-t", "nat", *arguments.split())
    before = lab.in_netns(namespace, "iptables-legacy-save", "-t", "nat").count("ACCEPT")
    _put(iptables, namespace, _long(41))
    (found,) = iptables.observe(namespace, [(4, "nat")])
    assert found == _long(41)
    assert lab.in_netns(namespace, "iptables-legacy-save", "-t", "nat").count("ACCEPT") == before


def test_a_table_that_another_program_writes_to_meanwhile_keeps_its_rules(
    iptables: LibiptcManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace, wanted = _namespace(), make_table(4, "filter", {"FORWARD": (ACCEPT,)})
    _put(iptables, _namespace(), wanted)  # the initial table is known
    write = NamespaceTables.write_fresh

    def meddle(*arguments: object) -> bool:
        lab.in_netns(namespace, "iptables-legacy", "-A", "FORWARD", "-p", "icmp", "-j", "DROP")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NamespaceTables, "write_fresh", meddle)
    _put(iptables, namespace, wanted)
    lines = lab.in_netns(namespace, "iptables-legacy-save", "-t", "filter").splitlines()
    assert [line for line in lines if line.startswith("-A")] == [
        "-A FORWARD -j dvr-FORWARD",
        "-A FORWARD -p icmp -j DROP",
        "-A dvr-FORWARD -j ACCEPT",
    ]


def test_what_the_kernel_refuses_is_said_by_libiptc_and_what_comes_after_is_left_alone(
    iptables: LibiptcManager,
) -> None:
    namespace = _namespace()
    good = make_table(4, "filter", {"FORWARD": (DROP,)})
    loop = Table(
        4,
        "mangle",
        (
            Chain("dvr-FORWARD", (FilterRule(Jump("dvr-b")),)),
            Chain("dvr-b", (FilterRule(Jump("dvr-FORWARD")),)),
        ),
        (("FORWARD", "dvr-FORWARD"),),
    )
    after = make_table(6, "filter", {"FORWARD": (DROP,)})
    with pytest.raises(KernelError, match="ELOOP"):
        _put(iptables, namespace, good, loop, after)
    assert iptables.observe(namespace, [good.key, loop.key, after.key]) == (good, Table(*loop.key), Table(*after.key))


def test_a_policy_with_which_this_kernel_makes_tables_stays() -> None:
    """The parameter ``forward`` of the module iptable_filter."""
    made, key = InitialTable((-2, -1, -2)), (4, "filter")
    fresh = encode_table(made, Table(4, "filter"))
    head, entries = fresh.replacement[:96], fresh.replacement[96:]
    name, valid, number, size = head[:32], head[32:36], head[36:40], head[40:44]
    info = name + valid + head[44:84] + number + size
    assert len(info) == INFO.size
    assert initial_table(key, info, entries) == made  # type: ignore[arg-type]
    wanted = make_table(4, "filter", {"FORWARD": (ACCEPT,)})
    assert encode_table(made, wanted).snapshot.table.dropping == ("FORWARD",)
    assert BUILTINS["filter"][1] == "FORWARD"


@pytest.mark.parametrize("policy", ["ACCEPT", "DROP"])
def test_a_table_that_is_found_as_desired_is_remembered_as_the_desired_one(
    iptables: LibiptcManager, policy: str
) -> None:
    """After a restart a host has one object for each rule, not a decoded one too."""
    wanted, other = make_table(4, "filter", {"FORWARD": (ACCEPT,)}), make_table(4, "filter", {"FORWARD": (DROP,)})
    namespace = _touched(wanted)
    _put(iptables, namespace, wanted)
    lab.in_netns(namespace, "iptables-legacy", "-P", "FORWARD", policy)
    started = LibiptcManager(Namespaces(), WriteCounters(), "/nonexistent", 0.2)
    (found,) = started.observe(namespace, [wanted.key], [replace(wanted)])
    assert found == wanted
    desired = replace(wanted)
    started = LibiptcManager(Namespaces(), WriteCounters(), "/nonexistent", 0.2)
    (found,) = started.observe(namespace, [wanted.key], [desired])
    assert (found is desired) == (policy == "ACCEPT"), "what drops packets is in the table that was read only"
    assert started.observe(namespace, [wanted.key], [other]) == (found,)
    assert started.observe(namespace, [wanted.key])[0] is found
    assert found.dropping == (("FORWARD",) if policy == "DROP" else ())
