"""Packet filter tables in a real kernel, read back by iptables-legacy-save."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvr_agent.errors import KernelError, NamespaceGoneError, TablesUnavailableError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.iptables import LibiptcManager, libiptc, manager, probe
from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.kernel.iptables.lock import is_free
from dvr_agent.kernel.netns import NamespaceWindow, entered
from dvr_agent.state.filter import (
    Chain,
    CommentMatch,
    Dnat,
    Family,
    FilterRule,
    Foreign,
    Jump,
    Redirect,
    SetMark,
    Snat,
    Table,
    Verdict,
)
from dvr_agent.state.filter_runs import make_table
from tests.support import lab
from tests.support.filter_rules import qrouter_tables, tables

pytestmark = pytest.mark.legacy_tables("their bytes, their programs and their lock")
NS = "qrouter-1"
UNCHECKED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
ACCEPT, DROP = FilterRule(Verdict("ACCEPT")), FilterRule(Verdict("DROP"))


class Namespaces:
    def enter(self, name: str) -> NamespaceWindow:
        return entered(name)


@pytest.fixture
def counters() -> WriteCounters:
    return WriteCounters()


@pytest.fixture
def lock(tmp_path: Path) -> str:
    return str(tmp_path / "xtables.lock")


@pytest.fixture
def iptables(host: lab.Host, counters: WriteCounters, lock: str) -> LibiptcManager:
    lab.run("ip", "netns", "add", NS)
    libiptc.library(4)  # while it is loaded, iptables programs look for their extensions elsewhere (XTABLES_LIBDIR)
    return LibiptcManager(Namespaces(), counters, lock, 0.2)


def put(iptables: LibiptcManager, *wanted: Table, netns: str = NS) -> None:
    with iptables.defer_apply() as pending:
        for table in wanted:
            pending.replace(netns, table)


def read(iptables: LibiptcManager, *wanted: Table, netns: str = NS) -> tuple[Table, ...]:
    return iptables.observe(netns, [table.key for table in wanted])


def tool(family: Family, name: str = "") -> str:
    return f"ip{'6' if family == 6 else ''}tables-legacy{name}"


def saved(family: Family, table: str, netns: str = NS) -> list[str]:
    """Lines of iptables-legacy-save without comments and built-in chains."""
    out = lab.in_netns(netns, tool(family, "-save"), "-t", table).splitlines()
    return [line for line in out if line.startswith("-A") or (line.startswith(":") and line.split()[1] == "-")]


def rule(family: Family, *words: str, netns: str = NS) -> None:
    lab.in_netns(netns, tool(family), "-w", *words)


def existing(netns: str = NS) -> list[str]:
    return [lab.in_netns(netns, "cat", f"/proc/net/ip{six}_tables_names") for six in ("", "6")]


# -- writing and reading ------------------------------------------------------------------------------------------


def test_a_routers_tables_are_written_once_and_read_back_equal(
    iptables: LibiptcManager, counters: WriteCounters
) -> None:
    wanted = qrouter_tables()
    put(iptables, *wanted)
    assert counters.commits == 5
    assert read(iptables, *wanted) == wanted
    for table in wanted:
        lines = saved(table.family, table.name)
        for chain in table.chains:
            assert [f"-A {chain.name} {entry.text}" for entry in chain.rules] == [
                line for line in lines if line.startswith(f"-A {chain.name} ")
            ]
        for builtin, chain_name in table.jumps:
            assert f"-A {builtin} -j {chain_name}" in lines


def test_the_same_tables_again_commit_nothing(iptables: LibiptcManager, counters: WriteCounters) -> None:
    put(iptables, *qrouter_tables())
    put(iptables, *qrouter_tables())
    put(LibiptcManager(Namespaces(), counters), *qrouter_tables())
    assert counters.commits == 5


@given(st.lists(tables(), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=UNCHECKED)
def test_any_table_is_reached_from_any_other(iptables: LibiptcManager, wanted: list[Table]) -> None:
    last: dict[tuple[Family, str], Table] = {}
    for table in wanted:
        put(iptables, table)
        last[table.key] = table
        assert read(iptables, table) == (table,)
    for table in last.values():
        lines = saved(table.family, table.name)
        for chain in table.chains:
            texts = [f"-A {chain.name} {entry.text}" for entry in chain.rules]
            assert texts == [line for line in lines if line.startswith(f"-A {chain.name} ")]


def test_what_iptables_restore_writes_reads_the_same(iptables: LibiptcManager) -> None:
    wanted = qrouter_tables()
    put(iptables, *wanted)
    v4, _, v6 = iptables.save(NS).partition("# IPv6")
    lab.run("ip", "netns", "add", "copy")
    lab.in_netns("copy", "iptables-legacy-restore", "--noflush", text=v4)
    lab.in_netns("copy", "ip6tables-legacy-restore", "--noflush", text="# " + v6)
    assert read(iptables, *wanted, netns="copy") == wanted
    assert iptables.save("copy") == iptables.save(NS)


def test_reading_makes_no_table(iptables: LibiptcManager) -> None:
    keys = [(family, name) for family in (4, 6) for name in BUILTINS]
    assert iptables.observe(NS, keys) == tuple(Table(*key) for key in keys)  # type: ignore[arg-type]
    assert iptables.save(NS) == ""
    put(iptables, Table(4, "nat"))
    assert existing() == ["", ""]
    put(iptables, make_table(4, "raw", {"OUTPUT": (ACCEPT,)}))
    assert existing() == ["raw\n", ""]


def test_a_table_made_by_somebody_else_is_seen(iptables: LibiptcManager) -> None:
    wanted = make_table(4, "filter", {"FORWARD": (ACCEPT,)})
    assert read(iptables, wanted) == (Table(4, "filter"),)
    rule(4, "-N", "dvr-FORWARD")
    rule(4, "-A", "dvr-FORWARD", "-j", "ACCEPT")
    rule(4, "-I", "FORWARD", "-j", "dvr-FORWARD")
    assert read(iptables, wanted) == (wanted,)


def test_a_namespace_of_the_same_name_but_new_is_read_afresh(iptables: LibiptcManager) -> None:
    wanted = qrouter_tables()
    put(iptables, *wanted)
    lab.run("ip", "netns", "del", NS)
    with pytest.raises(NamespaceGoneError):
        read(iptables, *wanted)
    with pytest.raises(NamespaceGoneError):
        put(iptables, *wanted)
    lab.run("ip", "netns", "add", NS)
    assert read(iptables, *wanted) == tuple(Table(*table.key) for table in wanted)
    assert existing() == ["", ""]


def test_saved_text_is_that_of_iptables_save(iptables: LibiptcManager) -> None:
    put(iptables, *qrouter_tables())
    rule(4, "-t", "nat", "-A", "PREROUTING", "-j", "ACCEPT")
    ours = [line for line in iptables.save(NS).splitlines() if line.startswith(("-A", ":"))]
    theirs = [
        line
        for family in (4, 6)
        for name in BUILTINS
        if name in existing()[family == 6]
        for line in saved(family, name)
        if "dvr-" in line
    ]
    assert ours == theirs


# -- drift and neighbours -----------------------------------------------------------------------------------------


def test_foreign_chains_and_rules_are_left_alone(iptables: LibiptcManager) -> None:
    rule(4, "-t", "nat", "-N", "operator")
    rule(4, "-t", "nat", "-A", "operator", "-p", "icmp", "-j", "RETURN")
    rule(4, "-t", "nat", "-A", "PREROUTING", "-j", "operator")
    before = saved(4, "nat")
    nat = qrouter_tables()[0]
    put(iptables, nat)
    assert [line for line in saved(4, "nat") if "dvr-" not in line] == before
    assert saved(4, "nat").index("-A PREROUTING -j dvr-PREROUTING") < saved(4, "nat").index(before[-1])
    put(iptables, Table(4, "nat"))
    assert saved(4, "nat") == before


def test_a_foreign_rule_before_our_jump_is_the_operators_choice(
    iptables: LibiptcManager, counters: WriteCounters
) -> None:
    nat = qrouter_tables()[0]
    put(iptables, nat)
    rule(4, "-t", "nat", "-I", "PREROUTING", "-s", "1.2.3.4", "-j", "ACCEPT")
    assert read(iptables, nat) == (nat,)
    put(iptables, nat)
    assert counters.commits == 1


@pytest.mark.parametrize(
    "words",
    [
        ("-D", "PREROUTING", "-j", "dvr-PREROUTING"),
        ("-A", "PREROUTING", "-j", "dvr-PREROUTING"),
        ("-I", "OUTPUT", "-j", "dvr-PREROUTING"),
        ("-F", "dvr-PREROUTING"),
        ("-D", "dvr-POSTROUTING", "2"),
        ("-I", "dvr-PREROUTING", "-p", "icmp", "-j", "RETURN"),
        ("-A", "dvr-PREROUTING", "-m", "comment", "--comment", "no target"),
        ("-A", "dvr-POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"),
        ("-N", "dvr-OUTPUT"),
        ("-N", "neutron-l3-agent-snat"),
        ("-N", "neutron-postrouting-bottom"),
    ],
)
def test_drift_is_seen_and_repaired_by_one_commit(
    iptables: LibiptcManager, counters: WriteCounters, words: tuple[str, ...]
) -> None:
    nat = qrouter_tables()[0]
    put(iptables, nat)
    before = saved(4, "nat")
    rule(4, "-t", "nat", *words)
    assert read(iptables, nat) != (nat,)
    put(iptables, nat)
    assert counters.commits == 2
    assert saved(4, "nat") == before


def test_a_rule_without_a_word_shows_as_a_comment(iptables: LibiptcManager) -> None:
    put(iptables, make_table(4, "filter", {"FORWARD": (ACCEPT,)}))
    rule(4, "-A", "dvr-FORWARD", "-p", "icmp", "-j", "DROP")
    (found,) = iptables.observe(NS, [(4, "filter")])
    assert isinstance(found.chains[0].rules[1].target, Foreign)
    assert "# -A dvr-FORWARD (not ours" in iptables.save(NS)


def test_the_reference_agents_chains_go_with_our_first_commit(iptables: LibiptcManager) -> None:
    lab.in_netns(
        NS,
        "iptables-legacy-restore",
        text="""*filter
:neutron-filter-top - [0:0]
:neutron-l3-agent-FORWARD - [0:0]
:neutron-l3-agent-local - [0:0]
:neutron-metadata-FORWARD - [0:0]
-A FORWARD -j neutron-filter-top
-A FORWARD -j neutron-l3-agent-FORWARD
-A FORWARD -j neutron-metadata-FORWARD
-A neutron-filter-top -j neutron-l3-agent-local
-A neutron-l3-agent-FORWARD -i qr-1 -p icmp -j DROP
COMMIT
""",
    )
    table = make_table(4, "filter", {"FORWARD": (DROP,)})
    (found,) = read(iptables, table)
    assert [chain.name for chain in found.chains] == [
        "neutron-filter-top",
        "neutron-l3-agent-FORWARD",
        "neutron-l3-agent-local",
    ]
    put(iptables, table)
    assert saved(4, "filter") == [
        ":dvr-FORWARD - [0:0]",
        ":neutron-metadata-FORWARD - [0:0]",
        "-A FORWARD -j dvr-FORWARD",
        "-A FORWARD -j neutron-metadata-FORWARD",
        "-A dvr-FORWARD -j DROP",
    ]


def test_a_foreign_rule_in_a_built_in_chain_does_not_keep_a_chain_alive(iptables: LibiptcManager) -> None:
    put(iptables, make_table(4, "filter", {"FORWARD": (DROP,)}))
    rule(4, "-I", "INPUT", "-p", "tcp", "-j", "dvr-FORWARD")
    put(iptables, Table(4, "filter"))
    assert saved(4, "filter") == []


def test_a_foreign_chain_that_leads_to_ours_is_named_and_left_alone(iptables: LibiptcManager) -> None:
    put(iptables, make_table(4, "filter", {"FORWARD": (DROP,)}))
    rule(4, "-N", "operator")
    rule(4, "-A", "operator", "-j", "dvr-FORWARD")
    before = saved(4, "filter")
    with pytest.raises(KernelError, match=r"-X dvr-FORWARD.*a rule that is not ours leads to this chain"):
        put(iptables, Table(4, "filter"))
    assert saved(4, "filter") == before


def test_counters_of_rules_that_stay_are_kept(iptables: LibiptcManager) -> None:
    def table(*marks: int) -> Table:
        return make_table(4, "mangle", {"OUTPUT": tuple(FilterRule(SetMark(mark)) for mark in marks)})

    def packets() -> list[tuple[int, str]]:
        out = lab.in_netns(NS, "iptables-legacy", "-t", "mangle", "-L", "dvr-OUTPUT", "-v", "-x", "-n").splitlines()
        return [(int(line.split()[0]), line.split()[-1]) for line in out[2:]]

    lab.run("ip", "-n", NS, "link", "set", "lo", "up")
    put(iptables, table(1, 2, 3))
    assert lab.ping(NS, "127.0.0.1", count=3)
    sent = packets()[0][0]
    assert sent >= 3
    put(iptables, table(9, 1, 3, 8))
    assert [number for number, _ in packets()] == [0, sent, sent, 0]
    put(iptables, table(3, 1))
    assert sorted(number for number, _ in packets()) == [0, sent]
    assert read(iptables, table(1)) == (table(3, 1),)


# -- failure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_counts_are_those_that_iptables_save_prints(iptables: LibiptcManager, family: Family) -> None:
    address, route = ("192.0.2.9/32", "192.0.2.0/24") if family == 4 else ("2001:db8::9/128", "2001:db8::/64")
    counting = FilterRule(SetMark(0, 0), dst=address, matches=(CommentMatch("counts"),))
    unused = address.replace("9/", "a/" if family == 6 else "10/")
    other = FilterRule(SetMark(0, 0), dst=unused, matches=(CommentMatch("counts"),))
    put(iptables, make_table(family, "mangle", {"OUTPUT": (counting, other)}))
    lab.run("ip", "-n", NS, "link", "set", "lo", "up")
    lab.run("ip", "-n", NS, "route", "add", "local", route, "dev", "lo")
    for _ in range(3):
        lab.in_netns(NS, "ping", "-q", "-c", "1", "-s", "100", address.partition("/")[0])
    found = iptables.counts(NS, (family, "mangle"))
    assert [one.rule for one in found] == [counting, other]
    printed = [
        line for line in lab.in_netns(NS, tool(family, "-save"), "-c", "-t", "mangle").splitlines() if "counts" in line
    ]
    assert [line.partition(" ")[0] for line in printed] == [f"[{one.packets}:{one.bytes}]" for one in found]
    header = 20 if family == 4 else 40
    assert (found[0].packets % 3, found[0].bytes) == (0, found[0].packets * (108 + header))
    assert (found[1].packets, found[1].bytes) == (0, 0)


def test_an_exception_in_the_block_applies_nothing(iptables: LibiptcManager, counters: WriteCounters) -> None:
    def fail() -> None:
        with iptables.defer_apply() as pending:
            pending.replace(NS, qrouter_tables()[0])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert counters.commits == 0
    assert existing() == ["", ""]


def test_the_last_word_on_a_table_counts(iptables: LibiptcManager, counters: WriteCounters) -> None:
    wanted = make_table(4, "filter", {"FORWARD": (ACCEPT,)})
    put(iptables, make_table(4, "filter", {"FORWARD": (DROP,)}), wanted)
    assert read(iptables, wanted) == (wanted,)
    assert counters.commits == 1


def test_a_rule_that_cannot_be_said_stops_every_table(iptables: LibiptcManager, counters: WriteCounters) -> None:
    bad = make_table(6, "mangle", {"PREROUTING": (FilterRule(SetMark(1), iif="far-too-long-a-name"),)})
    with pytest.raises(KernelError, match=r"qrouter-1: ip6tables table mangle: -A dvr-PREROUTING -i far-too") as caught:
        put(iptables, *qrouter_tables(), bad)
    assert caught.value.code == errno.EINVAL
    assert counters.commits == 0


def test_a_table_the_kernel_refuses_stays_as_it_was(iptables: LibiptcManager, counters: WriteCounters) -> None:
    good = make_table(4, "filter", {"FORWARD": (ACCEPT,)})
    nat = make_table(4, "nat", {"PREROUTING": (FilterRule(Dnat("10.0.0.1"), dst="1.1.1.1/32"),)})
    put(iptables, nat)
    before = saved(4, "nat")
    misplaced = make_table(4, "nat", {"PREROUTING": (FilterRule(Snat("10.0.0.1")),)})
    with pytest.raises(KernelError, match=r"iptables table nat: commit of -A dvr-PREROUTING -j SNAT") as caught:
        put(iptables, good, misplaced)
    assert caught.value.code == errno.EINVAL
    assert caught.value.namespace == NS
    assert saved(4, "nat") == before
    assert read(iptables, good) == (good,)
    assert counters.commits == 2


def test_a_loop_of_jumps_is_refused(iptables: LibiptcManager) -> None:
    chains = (Chain("dvr-A", (FilterRule(Jump("dvr-B")),)), Chain("dvr-B", (FilterRule(Jump("dvr-A")),)))
    with pytest.raises(KernelError) as caught:
        put(iptables, Table(4, "filter", chains, (("INPUT", "dvr-A"),)))
    assert caught.value.code == errno.ELOOP
    assert saved(4, "filter") == []


def test_a_lock_that_is_not_free_in_time_is_busy(iptables: LibiptcManager, lock: str) -> None:
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(KernelError, match=rf"\(process {os.getpid()}\W.* has held it for") as caught:
            put(iptables, *qrouter_tables())
        assert caught.value.code == errno.EBUSY
    put(iptables, *qrouter_tables())
    assert read(iptables, *qrouter_tables()) == qrouter_tables()


def test_a_reserved_lock_is_held_for_all_commits_of_a_job(iptables: LibiptcManager, lock: str) -> None:
    """A rival between two commits would stop a job half way."""
    with iptables.reserve():
        for table in qrouter_tables():
            put(iptables, table)
            assert not is_free(lock)
    assert is_free(lock)
    assert read(iptables, *qrouter_tables()) == qrouter_tables()


class Meddler(libiptc.Handle):
    """Before the first commits, somebody without the lock adds a rule."""

    times = 1

    def commit(self, what: Callable[[], str]) -> None:
        if Meddler.times:
            Meddler.times -= 1
            rule(4, "-A", "dvr-FORWARD", "-p", "icmp", "-j", "DROP")
        super().commit(what)


def test_a_table_that_changes_under_us_is_read_again(
    iptables: LibiptcManager, counters: WriteCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(iptables, make_table(4, "filter", {"FORWARD": (DROP,)}))
    monkeypatch.setattr(manager, "Handle", Meddler)
    monkeypatch.setattr(Meddler, "times", 3)
    wanted = make_table(4, "filter", {"FORWARD": (ACCEPT,)})
    put(iptables, wanted)
    assert counters.commits == 2
    assert saved(4, "filter") == [":dvr-FORWARD - [0:0]", "-A FORWARD -j dvr-FORWARD", "-A dvr-FORWARD -j ACCEPT"]


def test_a_table_that_never_holds_still_is_an_error(iptables: LibiptcManager, monkeypatch: pytest.MonkeyPatch) -> None:
    put(iptables, make_table(4, "filter", {"FORWARD": (DROP,)}))
    monkeypatch.setattr(manager, "Handle", Meddler)
    monkeypatch.setattr(Meddler, "times", 4)
    with pytest.raises(KernelError, match="another program keeps changing this table"):
        put(iptables, make_table(4, "filter", {"FORWARD": (ACCEPT,)}))
    assert saved(4, "filter").count("-A dvr-FORWARD -p icmp -j DROP") == 4


def test_writers_in_several_threads_do_not_lose_each_others_work(iptables: LibiptcManager) -> None:
    iptables = LibiptcManager(Namespaces(), WriteCounters())
    families: list[Family] = [4, 6]
    failed: list[BaseException] = []

    def work(family: Family, name: str) -> None:
        try:
            for number in range(1, 30):
                put(iptables, make_table(family, name, {"PREROUTING": (FilterRule(SetMark(number)),)}))
        except BaseException as exc:  # noqa: BLE001 - shown by the test's own thread
            failed.append(exc)

    def others() -> None:
        for number in range(20):
            rule(4, "-t", "mangle", "-A", "INPUT", "-s", f"10.0.0.{number}", "-j", "ACCEPT")

    threads = [threading.Thread(target=work, args=(family, "mangle")) for family in families]
    threads.append(threading.Thread(target=others))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for family in families:
        assert "-A dvr-PREROUTING -j MARK --set-xmark 0x1d/0xffffffff" in saved(family, "mangle")
    assert sum(line.startswith("-A INPUT") for line in saved(4, "mangle")) == 20


def test_no_file_stays_open(iptables: LibiptcManager, lock: str) -> None:
    def work() -> None:
        put(iptables, *qrouter_tables())
        put(iptables, *(Table(*table.key) for table in qrouter_tables()))
        read(iptables, *qrouter_tables())
        with pytest.raises(KernelError):
            put(iptables, make_table(4, "nat", {"PREROUTING": (FilterRule(Snat("10.0.0.1")),)}))
        with pytest.raises(KernelError):
            put(iptables, make_table(4, "nat", {"PREROUTING": (FilterRule(Redirect(1)),)}))
        with pytest.raises(KernelError):
            read(iptables, *qrouter_tables(), netns="none")

    work()
    gc.collect()  # what tests before this one have left
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        work()
    assert len(os.listdir("/proc/self/fd")) <= len(before)  # others may have closed theirs meanwhile


# -- start-up -----------------------------------------------------------------------------------------------------


def test_the_probe_leaves_no_table_behind(iptables: LibiptcManager) -> None:
    with entered(NS):
        probe()
    assert existing() == ["", ""]


def test_a_kernel_without_tables_is_told_with_advice(iptables: LibiptcManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTINS, "absent", ())
    with pytest.raises(TablesUnavailableError, match="CONFIG_NETFILTER_XTABLES_LEGACY"):
        probe()


def test_the_import_starts_no_process_and_needs_no_ldconfig() -> None:
    code = (
        "import subprocess, os, sys, warnings; warnings.simplefilter('error')\n"
        "def refuse(*words, **more): raise RuntimeError(f'started {words}')\n"
        "subprocess.Popen = os.system = os.popen = refuse\n"
        "from dvr_agent.kernel.iptables.libiptc import library\n"
        "assert 'iptc' not in sys.modules\n"
        "library(4), library(6)\n"
        "assert 'XTABLES_LIBDIR' not in os.environ\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "XTABLES_LIBDIR"} | {"PATH": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_library_is_told_with_advice() -> None:
    code = (
        "import ctypes.util; from dvr_agent.kernel.iptables import libiptc, probe\n"
        "libiptc.SONAMES.clear()\n"
        "try: probe()\n"
        "except libiptc.TablesUnavailableError as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "libip4tc2" in done.stdout, done.stderr
