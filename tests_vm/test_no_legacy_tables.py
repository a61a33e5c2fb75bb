"""Debian's kernel without its legacy tables, as kernels from 6.17 on and RHEL 10 are: nf_tables in their place.

The modules may not be loaded (``module_blacklist=``), so that nothing has to be taken from the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.kernel.iptables.libiptc import NO_TABLES
from tests_vm.machine import Machine
from tests_vm.site import FLOATING, INTERNET, NAMESPACES, ROUTER, Site
from tests_vm.suites import CONTRACT, run_tests

LEGACY = "ip_tables,ip6_tables"
"""Modules that all modules of legacy tables need."""
NO_NFT = "/etc/modprobe.d/no-nf_tables.conf"
"""Takes nf_tables away too, for the time being."""
QROUTER = f"qrouter-{ROUTER}"
FILTER = "tests/functional/test_nftables_filter.py"
SLOW = "fake or any_table or thousands or a_ruleset_has"
"""Those that take minutes here, and those of no kernel."""
USUAL = f"{FILTER} tests/contract/test_iptables_contract.py -k 'not ({SLOW})'"
WHOLE = f"{FILTER} {CONTRACT} tests/packets/test_paths.py"


@pytest.fixture(scope="module")
def site(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The agent installed, not started."""
    words = f"module_blacklist={LEGACY}"
    machine = Machine(image, tmp_path_factory.mktemp("no-legacy") / "machine", kernel_words=words)
    machine.start()
    made = Site(machine)
    made.install()
    yield made
    machine.close()


def test_without_nf_tables_too_the_agent_does_not_start_and_says_what_both_need(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("only with --full; tests/unit/test_filter_choice.py has the text")
    since = site.now()
    site.machine.write(NO_NFT, "install nf_tables /bin/false\n")
    site.machine.run("systemctl", "start", "dvr-agent", check=False)
    line = site.wait_said(since, "packet filter: ")[0]
    assert f"legacy tables: {NO_TABLES}: load the modules" in line
    assert "nf_tables: this kernel needs CONFIG_NF_TABLES" in line
    site.wait_said(since, "status=1/FAILURE")
    site.machine.run("systemctl", "stop", "dvr-agent", check=False)
    site.machine.run("rm", NO_NFT)


def test_auto_takes_nf_tables_and_says_why(site: Site) -> None:
    since = site.now()
    site.begin()
    assert site.machine.run("test", "-e", "/proc/net/ip_tables_names", check=False).code, "it has legacy tables"
    assert [one for one in site.messages(since=since) if f"packet filter: nf_tables, since {NO_TABLES}" in one]
    assert site.messages("-p", "warning", since=since) == []
    assert site.namespaces() == NAMESPACES
    site.assert_paths()


def test_a_restart_changes_nothing(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("only with --full")
    site.machine.run("systemctl", "restart", "dvr-agent")
    site.wait_in_sync()
    assert not any(site.status()["counters"]["writes"].values())
    site.assert_nothing_to_do()


def test_dvrctl_speaks_nft(site: Site, full: bool) -> None:
    """And asks no program of legacy tables, which would have nothing to say."""
    if not full:
        pytest.skip("only with --full")
    rules = site.machine.run("dvrctl", "show", "rules", QROUTER).out
    blue = site.vms["blue"].address
    assert f"{FLOATING} : {blue}" in rules
    assert f"element ip dvr fip_in {{ {FLOATING} : {blue} }}" in site.machine.run("dvrctl", "why", FLOATING).out
    traced = site.machine.run("dvrctl", "trace", "--from", blue, "--to", INTERNET, "--live").out
    assert "confirmed  nft ip dvr POSTROUTING" in traced
    site.machine.run("dvrctl", "diag", "--file", "/root/diag.tgz", timeout=600)
    pieces = site.machine.run("tar", "tf", "/root/diag.tgz").out
    assert f"{QROUTER}/nftables.txt" in pieces
    assert "iptables" not in pieces


def test_demo(site: Site) -> None:
    """Beside the agent, whose configuration it does not read."""
    assert "All 9 steps worked" in site.machine.run("dvrctl", "demo", timeout=600).out


def test_suites_pass(site: Site, full: bool) -> None:
    """Tests with legacy tables are skipped, and nothing else is."""
    result = run_tests(site.machine, "no-legacy", f"--packet-filter nftables {WHOLE if full else USUAL}")
    assert not result.failed, "\n\n".join(f"{test}\n{text}" for test, text in result.failed.items())
    assert result.passed, "no test has run"
    others = {test: reason for test, reason in result.skipped.items() if NO_TABLES not in reason}
    assert (others, bool(result.skipped)) == ({}, True)


def test_cleanup_leaves_nothing(site: Site, full: bool) -> None:
    if not full:
        pytest.skip("only with --full")
    site.machine.run("systemctl", "stop", "dvr-agent")
    site.machine.run("dvrctl", "cleanup", "--all", "--yes")
    assert site.namespaces() == set()
