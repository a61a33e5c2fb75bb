"""Tracked connections of HA routers: real conntrackd on two hosts, with keepalived or dvr-vrrp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from tests.support import lab
from tests.support.conntrackd_rig import OFF, ON, Connection, Host, short_folder, wires
from tests.support.requirements import require
from tests.support.vrrp_rig import HIGH, LOW, ROUTER, until


@pytest.fixture
def folder(host: lab.Host) -> Iterator[Path]:
    require("conntrackd", "conntrackd")
    require("keepalived", "keepalived")
    with short_folder() as path, wires():
        yield path


@pytest.fixture
def one(folder: Path) -> Iterator[Host]:
    """A host that is the master, alone."""
    made = Host("A", LOW, folder)
    made.apply()
    until(lambda: made.is_master)
    made.apply()
    yield made
    made.close()


@pytest.mark.parametrize("second", [False, True], ids=["to keepalived", "to dvr-vrrp"])
@pytest.mark.parametrize("first", [False, True], ids=["keepalived", "dvr-vrrp"])
def test_a_connection_through_snat_goes_on_after_a_fail_over(folder: Path, first: bool, second: bool) -> None:
    hosts = Host("A", LOW, folder, first), Host("B", HIGH, folder, second)
    master, backup = hosts
    master.apply()
    until(lambda: master.is_master)
    master.apply()
    backup.apply()
    connection = Connection()
    assert connection.works()
    until(lambda: connection.original in backup.ask("-e"))
    assert f"dport={connection.port} " not in conntrack("B")

    if second:  # the agent is away during the fail-over
        backup.end()
    master.vanish()
    until(lambda: backup.is_master)
    if second:
        backup.begin()
        assert "~ state of conntrackd" in backup.conntrackd.plan(backup.place())
        backup.apply()
        assert not backup.conntrackd.plan(backup.place())
    until(lambda: f"dport={connection.port} " in conntrack("B"))
    assert connection.works()
    connection.close()
    for each in hosts:
        each.close()


def conntrack(namespace: str) -> str:
    """Return the kernel's connections of a namespace."""
    return lab.run("ip", "netns", "exec", namespace, "conntrack", "-L")


def test_an_agent_that_starts_anew_adopts_conntrackd(one: Host) -> None:
    pids = one.pids
    assert len(pids) == 1
    assert (one.directory / "conntrackd.pid").read_text() == str(pids[0])
    one.end()
    conf = one.directory / "conntrackd.conf"
    theirs = "\n" + conf.read_text().replace("    ", "\t")
    conf.write_text(theirs)  # neutron-l3-agent's has other white space
    one.begin()
    assert not one.conntrackd.plan(one.place())
    one.apply()
    assert one.conntrackd.routers() == {ROUTER}
    assert one.pids == pids
    assert conf.read_text() == theirs
    assert not one.conntrackd.check()


def test_one_that_dies_is_started_again_and_learns_what_it_knew(folder: Path, one: Host) -> None:
    other = Host("B", HIGH, folder)
    other.apply()
    connection = Connection()
    for host, cache in ((other, "-e"), (one, "-i")):
        until(lambda host=host, cache=cache: connection.original in host.ask(cache))
        (pid,) = host.pids
        os.kill(pid, signal.SIGKILL)
        until(lambda host=host: ROUTER in host.conntrackd.changed())
        assert host.conntrackd.plan(host.place()) == ["+ conntrackd"]
        host.apply()
        assert host.conntrackd.status() == {"routers": 1, "died": 1, "waiting": []}
        assert len(host.pids) == 1
    until(lambda: connection.original in other.ask("-e"))
    connection.close()
    other.close()


def test_another_configuration_restarts_it_and_a_change_of_the_master_does_not(one: Host) -> None:
    (pid,) = one.pids
    one.end()
    one.begin(replace(ON, group=4000))
    assert one.conntrackd.plan(one.place()) == ["~ conntrackd configuration"]
    assert not one.vrrp.plan(one.place())
    one.apply()
    assert one.pids != [pid]
    assert len(one.pids) == 1
    assert "Group 4007" in (one.directory / "conntrackd.conf").read_text()
    assert not one.conntrackd.plan(one.place())


def test_a_second_one_is_ended_and_its_clients_are_not(one: Host) -> None:
    conf = str(one.directory / "conntrackd.conf")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    client = subprocess.Popen(["conntrackd", *sleep[1:], "-C", conf], executable=sleep[0])
    second = subprocess.Popen(["conntrackd", *sleep[1:], "-d", "-C", conf], executable=sleep[0])
    until(lambda: ROUTER in one.conntrackd.check())
    assert one.conntrackd.plan(one.place()) == ["- second conntrackd"]
    one.apply()
    second.wait(30)
    assert not one.conntrackd.check()
    assert client.poll() is None
    client.kill()
    client.wait()


def test_switched_off_it_is_ended_and_keepalived_goes_on(one: Host) -> None:
    text = (one.directory / "keepalived.conf").read_text()
    assert text.count("notify_") == 3
    one.end()
    one.begin(OFF)
    assert one.conntrackd.plan(one.place()) == ["- conntrackd"]
    assert one.vrrp.plan(one.place()) == ["~ keepalived configuration"]
    one.apply()
    assert not one.pids
    assert not list(one.directory.glob("conntrackd.*"))
    assert "notify_" not in (one.directory / "keepalived.conf").read_text()
    assert one.is_master
    one.end()
    one.begin()
    one.apply()
    assert (one.directory / "keepalived.conf").read_text() == text
    assert one.is_master


@pytest.mark.parametrize("first", ["vrrp", "conntrackd"])
def test_a_removed_router_leaves_no_process_and_no_file(one: Host, first: str) -> None:
    services = [one.vrrp, one.conntrackd]
    for service in services if first == "vrrp" else services[::-1]:
        service.remove(ROUTER)
    assert not one.pids
    assert not list(one.confs.iterdir())
    assert not one.conntrackd.plan_remove(ROUTER)
    assert not one.conntrackd.routers()


def test_it_waits_for_the_ha_port_and_names_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Host("A", LOW, folder)
    made.conntrackd.apply(made.place(may_start=False))
    assert not made.conntrackd.plan(made.place(may_start=False))
    assert not made.pids
    place = made.place()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ServiceError, match=r"not synchronised: conntrackd is not installed \(package conntrackd"):
        made.conntrackd.apply(place)
    monkeypatch.undo()
    made.close()
