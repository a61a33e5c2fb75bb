"""Drift of nf_tables is repaired when it happens: these daemons make no audits and no table checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest

from tests.support import lab
from tests.support.daemon_site import EXTERNAL_BRIDGE, FIP, QROUTER, RECORDED, SNAT, Site, neighbour_router
from tests.support.waiting import wait_for


@pytest.fixture
def built(site: Site, host: lab.Host) -> Site:
    """A daemon with nf_tables, with one router in sync."""
    site.daemon.configure(
        dvr_agent={"audit_interval": 0, "packet_filter": "nftables"}, directory={"rescan_interval": 600}
    )
    host.bridge(EXTERNAL_BRIDGE)
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    return site


def nft(namespace: str, text: str) -> str:
    return lab.in_netns(namespace, "nft", text)


def rules(namespace: str) -> str:
    return nft(namespace, "list ruleset")


def jobs(site: Site) -> int:
    return int(site.daemon.status()["counters"]["jobs"])


def heard(site: Site) -> int:
    return int(site.daemon.status()["counters"]["events"])


def repaired(site: Site) -> int:
    return int(site.daemon.status()["counters"]["drift_repaired"])


def settle(site: Site) -> None:
    """Wait until the daemon has heard all that happened up to now: it hears a later change, of none of ours."""
    count = heard(site)
    lab.run("ip", "-n", FIP, "route", "add", "192.0.2.200/32", "dev", "lo", "table", "4242")
    wait_for(lambda: heard(site) > count)
    lab.run("ip", "-n", FIP, "route", "delete", "192.0.2.200/32", "dev", "lo", "table", "4242")
    wait_for(lambda: not site.daemon.status()["queue_depth"])


def flushed(namespace: str) -> None:
    nft(namespace, "flush ruleset")


def floating_ip_deleted() -> None:
    key = re.search(r"elements = \{ (\S+) :", nft(QROUTER, "list map ip dvr fip_in"))
    assert key is not None
    nft(QROUTER, f"delete element ip dvr fip_in {{ {key[1]} }}")


def rule_added() -> None:
    nft(QROUTER, "insert rule ip dvr nat_prerouting accept")


@pytest.mark.parametrize("change", [floating_ip_deleted, rule_added, *(partial(flushed, name) for name in (SNAT, FIP))])
def test_each_change_of_our_tables_is_repaired_without_a_check(built: Site, change: Callable[[], None]) -> None:
    before = {name: rules(name) for name in (QROUTER, SNAT, FIP)}
    change()
    wait_for(lambda: {name: rules(name) for name in before} == before)


def test_who_changed_a_table_is_in_log_and_history_and_the_repair_is_counted(built: Site) -> None:
    before, count = rules(QROUTER), repaired(built)
    assert not count
    flushed(QROUTER)
    wait_for(lambda: repaired(built) > count)
    assert rules(QROUTER) == before
    lines = [line for line in built.daemon.out.splitlines() if f"drift repaired: {QROUTER}: " in line]
    assert [line for line in lines if "fip_in" in line]
    authors = {re.sub(r".*, changed by ", "", line) for line in lines}
    (author,) = authors
    pid = re.fullmatch(r"nft \(process (\d+)\)", author)
    assert pid is not None
    (drift,) = [entry for entry in built.daemon.ask("/history")[1]["entries"] if entry["job"] == "drift"]
    assert {(by["program"], by["pid"]) for by in drift["by"]} == {("nft", int(pid[1]))}
    assert f"{QROUTER}: nft table ip dvr (nat) changed" in {by["text"] for by in drift["by"]}
    settle(built)
    assert jobs(built) == 2, "the repair itself is no drift"


def test_tables_of_others_cause_no_job(built: Site) -> None:
    count, before = jobs(built), heard(built)
    for name in (QROUTER, SNAT, FIP):
        nft(name, "add table inet other; add chain inet other c { type filter hook forward priority 0; }")
    wait_for(lambda: heard(built) >= before + 3)
    settle(built)
    assert jobs(built) == count
    assert "drift" not in built.daemon.out


def test_the_churn_of_another_program_in_its_own_table_causes_no_job(built: Site) -> None:
    count, before = jobs(built), heard(built)
    nft(QROUTER, "add table ip other; add set ip other s { type ipv4_addr; }")
    lines = [f"{verb} element ip other s {{ 192.0.2.1 }}" for _ in range(200) for verb in ("add", "delete")]
    lab.in_netns(QROUTER, "sh", "-c", 'for line in "$@"; do echo "$line"; done | nft -i', "sh", *lines)
    wait_for(lambda: heard(built) > before + len(lines))
    settle(built)
    flushed(QROUTER)
    wait_for(lambda: repaired(built) > 0)
    settle(built)
    assert jobs(built) == count + 1


def test_own_transactions_cause_no_job(built: Site) -> None:
    count = jobs(built)
    for index in range(4):
        built.write(neighbour_router(index), f"neighbour{index}")
    wait_for(lambda: built.daemon.status()["states"] == {"in sync": 5})
    settle(built)
    assert jobs(built) == count + 4
    assert "drift" not in built.daemon.out
