"""HA routers of a daemon, with a real keepalived, beside another host of the router: a keepalived as Neutron has it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.vrrp.advert import LOWEST
from tests.support import lab
from tests.support.ha_rig import (
    HA_BRIDGE,
    HA_DEVICE,
    PRIMARY,
    RECORDED,
    ROUTER,
    SNAT,
    VIRTUAL,
    HaSite,
    Peer,
    ha_document,
)
from tests.support.requirements import require
from tests.support.vrrp_rig import VRRP, frames, join, split, tap
from tests.support.waiting import wait_for


@pytest.fixture
def site(host: lab.Host, tmp_path: Path) -> Iterator[HaSite]:
    require("keepalived", "keepalived")
    made = HaSite(tmp_path)
    yield made
    made.close()


def test_one_host_becomes_the_master_and_a_second_run_writes_nothing(site: HaSite) -> None:
    site.write(ha_document(status="DOWN"))
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    assert not site.pids, "VRRP has begun before the HA port was wired"
    assert site.addresses == set()
    assert site.routes == set()

    site.write(ha_document())
    wait_for(lambda: site.addresses == VIRTUAL)  # keepalived adds one after the other
    wait_for(lambda: site.state_file == "primary")
    assert site.conf.stat().st_mode & 0o777 == 0o600
    before = site.writes
    site.audited()
    assert site.writes == before
    command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", site.daemon.config, "plan"]
    assert f"held by VRRP (this host is the master): {len(VIRTUAL)} addresses, " in lab.run(*command)


def test_it_is_backup_beside_a_master_and_takes_over_when_that_yields(site: HaSite, tmp_path: Path) -> None:
    site.write(ha_document(status="DOWN"))
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    with peer(tmp_path) as other:
        wait_for(lambda: other.is_master)
        site.write(ha_document())
        wait_for(lambda: len(site.pids) == 2)
        site.audited()
        assert not site.addresses
        assert site.state_file == "backup"
    wait_for(lambda: site.is_master)
    wait_for(lambda: site.state_file == "primary")


def test_the_end_of_the_agent_is_no_fail_over(site: HaSite, tmp_path: Path) -> None:
    site.become_master()
    with peer(tmp_path) as other:
        pids = site.pids
        for number in (signal.SIGTERM, signal.SIGKILL):
            site.daemon.stop(number)
            site.daemon.start()
            wait_for(lambda: site.state() == "in sync")
            assert set(site.writes.values()) == {0}
            assert site.pids == pids
            assert site.addresses == VIRTUAL
            assert not other.is_master


@pytest.mark.parametrize("both", [False, True], ids=["keepalived", "with its child"])
def test_a_keepalived_that_is_killed_is_started_again_and_one_master_is_left(
    site: HaSite, tmp_path: Path, both: bool
) -> None:
    site.write(ha_document())
    site.daemon.start()
    wait_for(lambda: site.is_master)
    with peer(tmp_path) as other:
        pids = site.pids
        for pid in pids if both else pids[:1]:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(site.pids) == 2 and not set(site.pids) & set(pids))
        wait_for(lambda: other.is_master != site.is_master)
        wait_for(lambda: site.state() == "in sync")
        site.audited()
        wait_for(lambda: site.addresses == (VIRTUAL if site.is_master else set()))


def test_after_a_split_the_one_that_yields_tells_the_other_and_only_then(site: HaSite, tmp_path: Path) -> None:
    """The master that stays announces its addresses then, which the switches have learned to be here meanwhile."""
    site.become_master()
    with peer(tmp_path) as other, tap("peer", "ha") as heard:
        split(HA_BRIDGE)
        wait_for(lambda: other.is_master)
        join(HA_BRIDGE)
        wait_for(lambda: not site.is_master)  # its address is the lower one
        wait_for(lambda: (False, LOWEST) in adverts(heard))
        wait_for(lambda: "with lower priority 1" in (tmp_path / "peer.log").read_text())
        assert other.is_master
        assert not site.addresses
        split(HA_BRIDGE)
        wait_for(lambda: site.is_master)
        wait_for(lambda: site.state_file == "primary")
        join(HA_BRIDGE)
        wait_for(lambda: not site.is_master)


def test_nobody_is_told_of_a_master_before_there_is_one(site: HaSite, tmp_path: Path) -> None:
    """When keepalived ends: the other host would wait for advertisements in place of taking over."""
    site.become_master()
    with peer(tmp_path) as other, tap("peer", "ha") as heard:
        wait_for(lambda: other.is_listening)
        os.kill(site.pids[0], signal.SIGTERM)
        wait_for(lambda: other.is_master)
        wait_for(lambda: site.state_file == "backup")
        site.audited()
        found = adverts(heard)
        ours = [priority for is_peers, priority in found[: found.index((True, 50))] if not is_peers]
        assert LOWEST not in ours
        assert 0 in ours


def adverts(heard: socket.socket) -> list[tuple[bool, int]]:
    """Advertisements since the last call: (this namespace has sent it, its priority)."""
    return [(address[2] == socket.PACKET_OUTGOING, frame[36]) for frame, address in frames(heard) if frame[23] == VRRP]


def test_a_change_of_the_document_reaches_the_master_without_a_switch(site: HaSite, tmp_path: Path) -> None:
    document = ha_document()
    site.write(document)
    site.daemon.start()
    wait_for(lambda: site.is_master)
    pids, (floating,) = site.pids, [one for one in document["router"]["_floatingips"] if one.get("dvr_snat_bound")]
    site.write(ha_document(_floatingips=[], routes=[]))
    gone = f"{floating['floating_ip_address']}/32"
    wait_for(lambda: site.addresses == {one for one in VIRTUAL if gone not in one})
    wait_for(lambda: site.routes == {"default"})
    site.write(document)
    wait_for(lambda: site.addresses == VIRTUAL)
    wait_for(lambda: len(site.routes) == 3)
    assert site.pids == pids

    closed = ha_document(gw_port=None, gw_port_host=None, external_gateway_info=None, _floatingips=[])
    closed["router"] |= {"_snat_router_interfaces": [], "_floatingip_agent_interfaces": []}
    site.write(closed)
    wait_for(lambda: site.addresses == {f"{HA_DEVICE} {PRIMARY}"})
    assert site.routes == set()
    site.write(document)
    wait_for(lambda: site.addresses == VIRTUAL)
    wait_for(lambda: len(site.routes) == 3)
    assert site.pids == pids


def test_addresses_that_go_with_a_device_come_back_with_it(site: HaSite) -> None:
    site.become_master()
    pids, routes = site.pids, site.routes
    gateway = next(link["ifname"] for link in lab.ip_json("link", netns=SNAT) if link["ifname"].startswith("qg-"))
    lab.run("ip", "-n", SNAT, "link", "delete", gateway)
    wait_for(lambda: site.addresses != VIRTUAL)
    wait_for(lambda: site.addresses == VIRTUAL and site.routes == routes)
    assert site.pids == pids
    wait_for(lambda: site.state() == "in sync")
    site.audited()
    before = site.writes
    site.audited()
    assert site.writes == before


@pytest.mark.parametrize("prefix", ["qg-", "sg-", "ha-"])
def test_what_a_flush_of_a_masters_device_takes_comes_back(site: HaSite, prefix: str) -> None:
    """The connected route by the agent, the routes by it through keepalived."""

    def connected() -> list[str]:
        return sorted(lab.run("ip", "-n", SNAT, "-4", "route", "show", "proto", "kernel").splitlines())

    site.become_master()
    pids, routes, before = site.pids, site.routes, connected()
    device = next(link["ifname"] for link in lab.ip_json("link", netns=SNAT) if link["ifname"].startswith(prefix))
    lab.run("ip", "-n", SNAT, "route", "flush", "dev", device)
    wait_for(lambda: connected() == before and site.routes == routes)
    wait_for(lambda: site.state() == "in sync")
    assert site.pids == pids
    assert site.is_master


def test_removing_the_router_yields_and_leaves_nothing(site: HaSite, tmp_path: Path) -> None:
    site.write(ha_document())
    site.daemon.start()
    wait_for(lambda: site.is_master)
    with peer(tmp_path) as other:
        wait_for(lambda: other.is_listening)
        (site.daemon.routers / "one.json").unlink()
        wait_for(lambda: site.state() is None)
        wait_for(lambda: other.is_master)
        assert list(site.confs.iterdir()) == []


def test_a_host_that_is_removed_from_vrrp_yields_and_keeps_the_distributed_part(site: HaSite, tmp_path: Path) -> None:
    site.become_master()
    with peer(tmp_path) as other:
        wait_for(lambda: other.is_listening)
        removed = ha_document(gw_port_host="network2")
        del removed["router"]["_ha_interface"]
        site.write(removed)
        wait_for(lambda: other.is_master)
        wait_for(lambda: site.state() == "in sync" and namespaces_of(ROUTER) == {f"qrouter-{ROUTER}"})
        assert not site.confs.exists() or list(site.confs.iterdir()) == []


def namespaces_of(router_id: str) -> set[str]:
    return {path.name for path in lab.NETNS.iterdir() if path.name.endswith(router_id)}


def test_a_router_that_becomes_an_ordinary_one_keeps_its_addresses(site: HaSite) -> None:
    site.write(ha_document())
    site.daemon.start()
    wait_for(lambda: site.is_master)
    ordinary = ha_document(ha=False, gw_port_host="compute1")
    del ordinary["router"]["_ha_interface"]
    site.write(ordinary)
    wait_for(lambda: not site.pids and site.state() == "in sync")
    assert {one for one in site.addresses if "fe80" not in one} == {
        one for one in VIRTUAL if "fe80" not in one and not one.startswith("ha-")
    }
    assert len(site.routes) == 3
    site.write(ha_document())
    wait_for(lambda: site.is_master)
    wait_for(lambda: site.addresses == VIRTUAL)


def test_a_legacy_ha_router_that_becomes_distributed_gets_its_link_local_addresses(site: HaSite) -> None:
    legacy = ha_document(distributed=False)
    for key in ("_snat_router_interfaces", "_floatingip_agent_interfaces"):
        del legacy["router"][key]
    site.write(legacy)
    site.daemon.start()
    wait_for(lambda: f"{HA_DEVICE} {PRIMARY}" in addresses_of(f"qrouter-{ROUTER}"))
    site.write(ha_document())
    wait_for(lambda: site.state() == "in sync" and (lab.NETNS / SNAT).exists())
    wait_for(lambda: devices_without_link_local(f"qrouter-{ROUTER}") == set())
    wait_for(lambda: site.is_master)  # it gets a keepalived in the snat namespace, and a parameter when that is master
    site.audited()
    before = site.writes
    site.audited()
    assert site.writes == before


def addresses_of(namespace: str) -> set[str]:
    if not (lab.NETNS / namespace).exists():
        return set()
    return {
        f"{link['ifname']} {one['local']}/{one['prefixlen']}"
        for link in lab.ip_json("address", netns=namespace)
        for one in link["addr_info"]
    }


def devices_without_link_local(namespace: str) -> set[str]:
    there = {one.split()[0] for one in addresses_of(namespace) if " fe80:" in one}
    return {link["ifname"] for link in lab.ip_json("link", netns=namespace)} - {"lo"} - there


def test_a_backup_that_becomes_an_ordinary_router_gets_its_link_local_addresses(site: HaSite, tmp_path: Path) -> None:
    site.write(ha_document(status="DOWN"))
    site.daemon.start()
    with peer(tmp_path) as other:
        wait_for(lambda: other.is_master)
        site.write(ha_document())
        wait_for(lambda: len(site.pids) == 2 and site.state() == "in sync")
        assert not site.addresses
        ordinary = ha_document(ha=False, gw_port_host="compute1")
        del ordinary["router"]["_ha_interface"]
        site.write(ordinary)
        wait_for(lambda: not site.pids and site.state() == "in sync")
    own = {one for one in VIRTUAL if not one.startswith("ha-")}
    wait_for(lambda: site.addresses == own)


def test_gateways_are_checked_once_that_is_configured_and_a_silent_one_is_shown(site: HaSite, tmp_path: Path) -> None:
    site.become_master()
    assert "script" not in site.conf.read_text()
    gateway = "203.0.113.1/24", "dev", f"brq{RECORDED['gw_port']['network_id'][:11]}"
    lab.run("ip", "address", "add", *gateway)
    with peer(tmp_path) as other:
        wait_for(lambda: other.is_listening)
        site.daemon.stop()
        site.daemon.configure(DEFAULT={"ha_vrrp_health_check_interval": 1}, AGENT={"check_child_processes_interval": 1})
        pids = site.pids
        site.daemon.start()
        wait_for(lambda: "track_script" in site.conf.read_text() and site.state() == "in sync")
        wait_for(lambda: not (site.conf.parent / "keepalived.conf.unread").exists())
        site.audited()
        assert (site.pids, site.is_master, other.is_master) == (pids, True, False)
        lab.run("ip", "address", "delete", *gateway)
        wait_for(lambda: other.is_master)
        line = f"router {ROUTER}: no answer from gateway 203.0.113.1"
        wait_for(lambda: line in site.daemon.log)
        command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", site.daemon.config, "status"]
        assert f"gateway 203.0.113.1 of router {ROUTER} did not answer" in lab.run(*command, check=False)
        lab.run("ip", "address", "add", *gateway)
    wait_for(lambda: site.is_master)
    wait_for(lambda: f"router {ROUTER}: gateway 203.0.113.1 answers again" in site.daemon.log)
    site.audited()
    assert site.daemon.log.count(line) == 1
    wait_for(lambda: site.addresses == VIRTUAL)


@contextlib.contextmanager
def peer(base: Path) -> Iterator[Peer]:
    made = Peer(base)
    try:
        yield made
    finally:
        made.close()


def test_a_keepalived_of_neutron_l3_agent_is_adopted_as_it_runs(site: HaSite, tmp_path: Path) -> None:
    site.write(ha_document())
    site.daemon.start()
    wait_for(lambda: site.is_master)
    wait_for(lambda: site.state_file == "primary")  # the job that follows the master's state is over
    site.daemon.kill()
    # As neutron-l3-agent leaves it: another order, readable by all, no state file that is up to date, and a monitor.
    lines = site.conf.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if "203.0.113." in line)
    site.conf.write_text("".join((*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :])))
    site.conf.chmod(0o644)
    (site.conf.parent / "state").write_text("master")
    inode, pids = site.conf.stat().st_ino, site.pids
    with neutron_monitor(site, tmp_path) as monitor, peer(tmp_path) as other:
        wait_for(lambda: other.is_listening)
        site.daemon.start()
        wait_for(lambda: site.state() == "in sync")
        assert monitor.wait(30) == -signal.SIGKILL
        assert set(site.writes.values()) == {0}
        assert (site.pids, site.addresses, site.state_file) == (pids, VIRTUAL, "primary")
        assert site.conf.stat().st_mode & 0o777 == 0o600
        assert site.conf.stat().st_ino != inode
        assert not (site.conf.parent / "keepalived.conf.unread").exists()
        assert not other.is_master


@contextlib.contextmanager
def neutron_monitor(site: HaSite, base: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that looks as the monitor of neutron-l3-agent does."""
    script = base / "neutron-keepalived-state-change"
    script.write_text("while :; do sleep 1; done\n")
    process = subprocess.Popen(["/bin/sh", str(script), "--router_id", ROUTER])
    pids = site.daemon.state / "external" / "pids"
    pids.mkdir(parents=True, exist_ok=True)
    name = f"{ROUTER}.monitor.pid.neutron-keepalived-state-change-monitor"
    (pids / name).write_text(str(process.pid))
    yield process
    process.kill()
    process.wait()
