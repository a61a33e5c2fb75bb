"""The whole daemon on a real kernel: recorded router documents as files in, namespaces and packets out."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.daemon_site import (
    DUAL,
    DUAL_ID,
    EXTERNAL_BRIDGE,
    FIP,
    FLOATING,
    OTHER_VM_IP,
    QROUTER,
    RECORDED,
    ROUTER,
    SNAT,
    Site,
    namespaces,
    neighbour_router,
    snapshot,
    with_vms,
)
from tests.support.filter_tools import rule_lines, saved, uses_nftables
from tests.support.waiting import wait_for


def test_a_router_document_becomes_namespaces_and_its_deletion_removes_them(site: Site) -> None:
    site.daemon.start()
    path = site.write(RECORDED)
    wait_for(lambda: site.state() == "in sync")
    assert namespaces() == {QROUTER, SNAT, FIP}
    changed = copy.deepcopy(RECORDED)
    changed["router"]["_floatingips"] = []
    site.write(changed)
    wait_for(lambda: FLOATING not in saved(QROUTER))
    path.unlink()
    wait_for(lambda: not namespaces())
    assert site.daemon.stop() == 0
    assert site.daemon.err == ""
    assert "Traceback" not in site.daemon.out


def test_bridges_of_removed_networks_are_removed_unless_a_vm_uses_them(site: Site, host: lab.Host) -> None:
    site.write(RECORDED)
    site.daemon.start()
    before = bridges()
    for number in (1, 2):
        path = site.write(neighbour_router(number), "two")
        wait_for(lambda: len(site.daemon.status()["routers"]) == 2 and site.daemon.status()["state"] == "in sync")
        new, left = sorted(bridges() - before), set(before)
        assert new
        if number == 2:
            lab.run("ip", "link", "add", "tapvm", "master", new[0], "type", "veth", "peer", "name", "vm")
            left.add(new[0])
        path.unlink()
        wait_for(lambda left=left: bridges() == left)
    lab.run("ip", "link", "del", "tapvm")
    site.audited()
    wait_for(lambda: bridges() == before)
    assert "bridges removed" in site.daemon.out


def test_a_start_sweeps_what_killed_processes_left(site: Site) -> None:
    (site.daemon.state / "ra").mkdir(parents=True)
    temporary = f".{ROUTER}.radvd.conf.0123456789abcdef.tmp"
    left = [site.daemon.state / ".fip-priorities.4711", site.daemon.state / "ra" / temporary]
    for path in left:
        path.write_text("half")
    Path("/run/netns").mkdir(exist_ok=True)
    stale = Path("/run/netns/snat-00000000-0000-4000-8000-000000000001")
    foreign = Path("/run/netns/foreign")
    for path in (stale, foreign):
        path.touch()
    site.write(RECORDED)
    site.daemon.start()
    assert not [path for path in left if path.exists()]
    wait_for(lambda: not stale.exists())
    assert foreign.exists()


def bridges() -> set[str]:
    return {link["ifname"] for link in lab.ip_json("link", "show", "type", "bridge")}


def test_a_document_that_turns_bad_changes_nothing_until_it_is_good_again(site: Site) -> None:
    path = site.write(RECORDED)
    site.daemon.start()
    before = snapshot()
    path.write_text(json.dumps(RECORDED)[:-20])
    wait_for(lambda: site.state() == "bad document")
    site.audited()
    assert snapshot() == before
    site.write(RECORDED)
    wait_for(lambda: site.state() == "in sync")
    assert snapshot() == before


@pytest.mark.parametrize("restarted", [False, True])
def test_a_router_that_becomes_legacy_on_another_host_leaves_nothing_here(site: Site, restarted: bool) -> None:
    """neutron-server may list it once more for a host of which it is not any more, and announce nothing after that."""
    site.write(RECORDED)
    other = neighbour_router()
    site.write(other, "two")
    site.daemon.start()
    assert {QROUTER, SNAT} <= namespaces()
    if restarted:
        site.daemon.stop()
    legacy = copy.deepcopy(RECORDED)
    legacy["router"].update(distributed=False, gw_port_host="network9", _snat_router_interfaces=[])
    site.write(legacy)
    if restarted:
        site.daemon.start()
    wait_for(lambda: not {QROUTER, SNAT} & namespaces())
    wait_for(lambda: site.state() == "not supported")
    assert f"qrouter-{other['router']['id']}" in namespaces()


def test_kill_and_restart_changes_nothing(site: Site) -> None:
    site.write(RECORDED)
    site.write(neighbour_router(), "two")
    site.daemon.start()
    before = snapshot()
    assert site.daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert snapshot() == before
    site.daemon.start()
    site.audited()
    assert set(site.daemon.status()["counters"]["writes"].values()) == {0}
    assert snapshot() == before


def test_stop_leaves_the_data_plane(site: Site) -> None:
    site.write(RECORDED)
    site.daemon.start()
    before = snapshot()
    assert site.daemon.stop() == 0
    assert snapshot() == before


def _delete_route() -> None:
    lab.run("ip", "-n", QROUTER, "route", "del", "default", "table", "16")


def _flush_rules() -> None:
    for namespace in (QROUTER, FIP, SNAT):
        lab.run("ip", "-n", namespace, "rule", "flush")
        lab.run("ip", "-n", namespace, "-6", "rule", "flush")


def _delete_local_rules() -> None:
    """Which no flush removes: without them no address is the namespace's own."""
    for namespace in (QROUTER, FIP, SNAT):
        for family in ("-4", "-6"):
            lab.run("ip", "-n", namespace, family, "rule", "delete", "pref", 0)


def _flush_table() -> None:
    words = ("nft", "flush", "ruleset") if uses_nftables() else ("iptables-legacy", "-w", "-t", "nat", "-F")
    lab.in_netns(QROUTER, *words)


def _remove_device() -> None:
    lab.run("ip", "-n", QROUTER, "link", "del", f"qr-{RECORDED['router']['_interfaces'][0]['id']}"[:14])


def _remove_pair() -> None:
    lab.run("ip", "-n", QROUTER, "link", "del", f"rfp-{ROUTER}"[:14])


def _delete_namespace(name: str) -> Callable[[], None]:
    def delete() -> None:
        # The daemon may have made it anew between the two steps of ip: then its file cannot be removed.
        lab.run("ip", "netns", "del", name, check=False)

    return delete


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(_delete_route, id="route"),
        pytest.param(_flush_rules, id="rules"),
        pytest.param(_delete_local_rules, id="local"),
        pytest.param(_flush_table, id="table"),
        pytest.param(_remove_device, id="device"),
        pytest.param(_remove_pair, id="pair"),
        pytest.param(_delete_namespace(QROUTER), id="qrouter"),
        pytest.param(_delete_namespace(FIP), id="fip"),
        pytest.param(_delete_namespace(SNAT), id="snat"),
    ],
)
def test_the_audit_repairs_drift_and_calls_it_drift(site: Site, harm: Callable[[], None]) -> None:
    site.write(RECORDED)
    site.daemon.start()
    before = comparable(snapshot())
    harm()
    wait_for(lambda: site.daemon.status()["counters"]["drift_repaired"] >= 1)
    wait_for(lambda: comparable(snapshot()) == before)
    assert "drift repaired: " in site.daemon.out


def comparable(state: dict[str, object]) -> object:
    """Without what a new device necessarily has anew: generated MACs of the pair, link-local addresses made of them."""
    text = json.dumps(state, sort_keys=True)
    text = re.sub(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "<mac>", text)
    return json.loads(re.sub(r"fe80::[0-9a-f:]+", "<link-local>", text))


def test_foreign_objects_in_our_namespaces_survive_audit_change_and_restart(site: Site) -> None:
    site.write(RECORDED)
    site.daemon.start()
    lab.run("ip", "-n", QROUTER, "link", "add", "foreign0", "type", "bridge")
    lab.run("ip", "-n", QROUTER, "link", "set", "foreign0", "up")
    lab.run("ip", "-n", QROUTER, "address", "add", "198.51.100.1/24", "dev", "foreign0")
    lab.run("ip", "-n", QROUTER, "route", "add", "192.0.2.0/24", "dev", "foreign0")
    lab.run("ip", "-n", QROUTER, "rule", "add", "from", "192.0.2.9", "lookup", "78", "priority", "77")
    lab.in_netns(QROUTER, "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.77", "-j", "ACCEPT")
    before = snapshot()
    site.audited()
    assert snapshot() == before
    changed = copy.deepcopy(RECORDED)
    changed["router"]["_floatingips"] = []
    site.write(changed)
    wait_for(lambda: FLOATING not in saved(QROUTER))
    site.write(RECORDED)
    wait_for(lambda: FLOATING in saved(QROUTER))
    site.daemon.stop(signal.SIGKILL)
    site.daemon.start()
    after = snapshot()
    assert "198.51.100.1/24" in str(after)
    assert any("192.0.2.0/24 dev foreign0" in line for line in after[QROUTER]["routes"])  # type: ignore[index]
    assert any("lookup 78" in line for line in after[QROUTER]["rules"])  # type: ignore[index]
    assert any("192.0.2.77" in line for line in after[QROUTER]["tables"])  # type: ignore[index]


def test_a_floating_ip_moves_to_another_vm(site: Site, host: lab.Host) -> None:
    with_vms(site, host)
    site.write(RECORDED)
    site.daemon.start()
    assert wait_for(lambda: lab.ping("internet", FLOATING))
    moved = copy.deepcopy(RECORDED)
    moved["router"]["_floatingips"][0]["fixed_ip_address"] = OTHER_VM_IP
    site.write(moved)
    rule = re.compile(rf"-A \S+ -d {FLOATING}/32 .*--to-destination {OTHER_VM_IP}")
    wait_for(lambda: any(map(rule.search, rule_lines(QROUTER)[0])))
    wait_for(lambda: site.state() == "in sync")
    assert lab.tcp_peer("vm2", "0.0.0.0", "internet", FLOATING) == "203.0.113.1"
    assert lab.tcp_peer("internet", "0.0.0.0", "vm2", "203.0.113.1") == FLOATING


FLUSHES = (
    (QROUTER, "qr-", "dev"),
    (QROUTER, "rfp-", "dev"),
    (FIP, "fpr-", "dev"),
    (FIP, "fg-", "dev"),
    (QROUTER, "rfp-", "table", "all", "dev"),
)


def test_packets_flow_again_after_a_flush_of_any_device(site: Site, host: lab.Host) -> None:
    """The event of its connected route tells of it; there are no audits."""
    with_vms(site, host)
    site.daemon.configure(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 600})
    site.write(RECORDED)
    site.daemon.start()
    assert wait_for(lambda: lab.ping("internet", FLOATING))
    for namespace, prefix, *words in FLUSHES:
        device = next(link["ifname"] for link in lab.ip_json("link", netns=namespace) if prefix in link["ifname"])
        lab.run("ip", "-n", namespace, "route", "flush", *words, device)
        repaired = rf"\+ connected route .* dev {device}"
        wait_for(lambda wanted=repaired: re.search(wanted, site.daemon.out) is not None, device)
        assert wait_for(lambda: lab.ping("internet", FLOATING)), device
        assert wait_for(lambda: lab.ping("vm", "203.0.113.1")), device
        wait_for(lambda: site.state() == "in sync")


def test_removing_a_router_costs_its_neighbour_no_packet(site: Site, host: lab.Host) -> None:
    with_vms(site, host)
    site.write(RECORDED)
    neighbour = neighbour_router()
    site.daemon.start()
    assert wait_for(lambda: lab.ping("internet", FLOATING))
    words = ["ip", "netns", "exec", "vm", "ping", "-n", "-i", "0.05", "-c", "120", "-W", "2", "203.0.113.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as ping:
        assert ping.stdout is not None
        ping.stdout.readline()
        path = site.write(neighbour, "two")
        wait_for(lambda: site.state(neighbour["router"]["id"]) == "in sync")
        path.unlink()
        wait_for(lambda: site.state(neighbour["router"]["id"]) is None)
        assert ping.poll() is None, "the ping lasted longer than both changes"
        out, _ = ping.communicate()
    assert namespaces() == {QROUTER, SNAT, FIP, "vm", "vm2", "internet"}
    assert " 0% packet loss" in out


def test_the_hub_answers_while_a_hundred_routers_are_built(site: Site) -> None:
    for number in range(100):
        site.write(neighbour_router(number), f"{number}")
    site.daemon.start(ready=False)
    wait_for(lambda: site.daemon.alive() and site.daemon.socket.exists() and site.daemon.answering())
    answers = set()
    while (status := site.daemon.status())["state"] == "starting":
        answers.add(status["progress"])
    assert len(answers) > 10, "the status was answered again and again meanwhile"
    assert status["states"] == {"in sync": 100}
    worst = status["counters"]["hub_lateness_worst_ms"]
    print(f"100 routers on a real kernel: a timer of the hub was late by {worst} ms at most")


def test_a_radvd_that_dies_is_started_again_by_itself(site: Site) -> None:
    site.write(DUAL)
    site.daemon.start()
    pid_file = site.daemon.state / "external" / "pids" / f"{DUAL_ID}.pid.radvd"
    first = int(pid_file.read_text())
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: pid_file.exists() and pid_file.read_text().split() not in ([], [str(first)]))
    wait_for(lambda: site.state(DUAL_ID) == "in sync")
    assert site.daemon.status()["services"]["radvd"]["died"] == 1
    assert site.daemon.stop() == 0
    os.kill(int(pid_file.read_text()), 0)  # it outlives the agent


def test_without_radvd_the_router_is_degraded_and_otherwise_built(site: Site, tmp_path: Path) -> None:
    site.write(DUAL)
    site.write(RECORDED, "two")
    site.daemon.start(PATH=str(tmp_path))
    code, record = site.daemon.ask(f"/routers/{DUAL_ID}")
    assert (code, record["state"]) == (200, "degraded")
    assert record["reason"] == "no router advertisements: radvd is not installed"
    assert site.state() == "in sync"
    assert {f"qrouter-{DUAL_ID}", f"snat-{DUAL_ID}", QROUTER, SNAT} <= namespaces()
    assert "-j SNAT" in str(rule_lines(f"snat-{DUAL_ID}"))
    site.daemon.stop()
    site.daemon.start()
    wait_for(lambda: site.state(DUAL_ID) == "in sync")


def test_what_stops_the_traffic_of_many_routers_is_named_once_until_it_is_gone(site: Site) -> None:
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    what = f"by others: namespace {FIP}: nft table ip t: chain c (hook forward): the policy is drop"
    for times in (1, 2):
        chain = "{ type filter hook forward priority 0; policy drop; }"
        lab.in_netns(FIP, "nft", f"add table ip t; add chain ip t c {chain}")
        wait_for(lambda n=times: site.daemon.out.count(f"traffic may be stopped {what}") == n)
        site.audited()
        assert site.daemon.out.count(f"traffic may be stopped {what}") == times
        assert f"traffic may be stopped {what}" in site.daemon.status()["troubles"]
        lab.in_netns(FIP, "nft", "delete", "table", "ip", "t")
        wait_for(lambda n=times: site.daemon.out.count(f"traffic is no longer stopped {what}") == n)
    assert not site.daemon.status()["troubles"]
    assert site.state() == "in sync"


def test_foreign_settings_that_stop_traffic_are_named_once_until_they_are_gone(site: Site, host: lab.Host) -> None:
    host.bridge(EXTERNAL_BRIDGE)
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    assert not site.daemon.status()["troubles"]
    warning, gone = (f"traffic {text} by others: namespace" for text in ("may be stopped", "is no longer stopped"))
    bridge = f"may be stopped by others: bridge {EXTERNAL_BRIDGE} is down"
    for times in (1, 2):
        lab.in_netns(QROUTER, "iptables-legacy", "-P", "FORWARD", "DROP")
        lab.in_netns(SNAT, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        lab.run("ip", "link", "set", EXTERNAL_BRIDGE, "down")
        wait_for(lambda n=times: site.daemon.out.count(warning) == 2 * n)
        wait_for(lambda n=times: site.daemon.out.count(bridge) == n)
        if times == 1:
            site.audited()
        assert site.daemon.out.count(warning) == 2 * times
        assert any("traffic may be stopped by others" in text for text in site.daemon.status()["troubles"])
        lab.in_netns(QROUTER, "iptables-legacy", "-P", "FORWARD", "ACCEPT")
        lab.in_netns(SNAT, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
        lab.run("ip", "link", "set", EXTERNAL_BRIDGE, "up")
        wait_for(lambda n=times: site.daemon.out.count(gone) == 2 * n)
        wait_for(lambda: not site.daemon.status()["troubles"])
    assert f"namespace {QROUTER}: iptables table filter: the policy of FORWARD is DROP" in site.daemon.out
    assert f"namespace {SNAT}: net.ipv4.conf.all.rp_filter is 1 (strict)" in site.daemon.out
