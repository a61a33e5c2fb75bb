"""``dvrctl why`` about HA routers: which host has the addresses, and what keeps it from having them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.cli.why.answer import answer
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.gather.facts import read_facts
from dvr_agent.config import load
from dvr_agent.vrrp.advert import PROTOCOL as VRRP
from tests.support import lab
from tests.support.ha_rig import HA_BRIDGE, HA_DEVICE, PRIMARY, RECORDED, ROUTER, SNAT, HaSite
from tests.support.waiting import wait_for

OTHER = "169.254.250.9"


@pytest.fixture
def site(host: lab.Host, tmp_path: Path) -> Iterator[HaSite]:
    made = HaSite(tmp_path)
    yield made
    made.close()


def test_master_dead_keepalived_two_masters_and_backup_are_named(site: HaSite) -> None:
    site.become_master()
    assert key(facts(site)) is None, answer(facts(site)).sentence
    site.daemon.stop()
    with other_master():
        found = facts(site, probe=True)
    assert key(found) == "vrrp-two-masters", answer(found).sentence
    assert OTHER in answer(found).sentence
    assert not answer(facts(site)).is_wrong
    for pid in site.pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: key(facts(site)) == "vrrp-dead")
    assert "keepalived" in answer(facts(site)).sentence
    lab.run("ip", "-n", SNAT, "addr", "del", PRIMARY, "dev", HA_DEVICE, check=False)  # it may have gone with keepalived
    found = facts(site)
    # As on a backup whose keepalived lives, and of which dvr-agent has heard.
    running = replace(found, plan=replace(found.plan, services=(), changes=()))
    assert key(running) == "vrrp-backup", answer(running).sentence
    assert not answer(running).is_wrong
    heard = facts(site, probe=True)
    silent = replace(heard, plan=running.plan, probe=replace(heard.probe, gateway=None))
    assert key(silent) == "vrrp-no-master", answer(silent).sentence


@contextmanager
def other_master() -> Iterator[None]:
    """Another host that advertises itself as master, with a priority so low that this host stays one, too."""
    lab.run("ip", "netns", "add", "other")
    lab.run("ip", "link", "add", "other0", "type", "veth", "peer", "name", "eth0", "netns", "other")
    lab.run("ip", "link", "set", "other0", "master", HA_BRIDGE, "up")
    lab.run("ip", "-n", "other", "link", "set", "eth0", "up")
    lab.run("ip", "-n", "other", "addr", "add", f"{OTHER}/18", "dev", "eth0")
    with lab.entered("other"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, VRRP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    ended = threading.Event()

    def advertise() -> None:
        while not ended.wait(0.2):
            sock.sendto(bytes((0x21, RECORDED["ha_vr_id"], 1, 1, 0, 1, 0, 0, 0, 0, 0, 0)), ("224.0.0.18", 0))

    thread = threading.Thread(target=advertise)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sock.close()


def facts(site: HaSite, probe: bool = False) -> Facts:
    conf = load(["--config-file", str(site.daemon.config)], prog="dvrctl")
    return read_facts(conf, ROUTER, probe=probe)


def key(found: Facts) -> str | None:
    cause = answer(found).cause
    return cause.key if cause is not None else None
