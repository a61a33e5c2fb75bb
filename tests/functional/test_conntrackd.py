"""Tracked connections of HA routers: real conntrackd on two hosts, with keepalived or dvr-vrrp."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.services.keepalived.files import RouterFiles
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.processes import newest
from tests.support import lab
from tests.support.conntrackd_rig import OFF, ON, Connection, Host, pids_below, short_folder, wires
from tests.support.ha_rig import HA_DEVICE, RECORDED, SNAT, HaSite, ha_document
from tests.support.requirements import require
from tests.support.vrrp_rig import HIGH, LOW, ROUTER, until
from tests.support.waiting import wait_for


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
    if not second:  # a keepalived that runs already, as at a takeover: it begins to call conntrackd
        backup.end()
        backup.begin(OFF)
        backup.apply()
        backup.end()
        backup.begin(ON)
    backup.apply()
    connection = Connection()
    assert connection.works()
    until(partial(knows, backup, "-e", connection))
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


def knows(host: Host, cache: str, connection: Connection) -> bool:
    """Return True if a cache of a host's conntrackd has a connection: ``-i``, its own; ``-e``, those of other hosts."""
    return connection.original in host.ask(cache)


def is_seen_dead(host: Host) -> bool:
    return ROUTER in host.conntrackd.changed()


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
        until(partial(knows, host, cache, connection))
        (pid,) = host.pids
        os.kill(pid, signal.SIGKILL)
        until(partial(is_seen_dead, host))
        assert host.conntrackd.plan(host.place()) == ["+ conntrackd"]
        host.apply()
        assert host.conntrackd.status() == {"routers": 1, "died": 1, "waiting": []}
        assert len(host.pids) == 1
    until(partial(knows, other, "-e", connection))
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


def test_the_newest_process_is_no_child_of_a_daemon(tmp_path: Path) -> None:
    """Both have one command line."""
    code = "import os, time; os.fork(); time.sleep(600)"
    words = ("-c", code, str(tmp_path))
    with subprocess.Popen([sys.executable, *words]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: bool(children.read_text()))
        child = int(children.read_text())
        assert newest(Path(sys.executable).name, words) == process.pid
        assert newest("other", words) is None
        process.kill()
        os.kill(child, 9)


def test_keepalived_without_the_right_to_set_groups_cannot_tell(tmp_path: Path) -> None:
    keepalived = KeepalivedService(tmp_path, tmp_path, "respawn", tells_conntrackd=True)
    command = ["setpriv", "--bounding-set=-setgid", "--inh-caps=-all", "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        RouterFiles(tmp_path, ROUTER).child_pid.write_text(str(process.pid))
        assert not keepalived.can_tell(ROUTER)
        process.kill()
    keepalived.close()


@pytest.fixture
def site(host: lab.Host) -> Iterator[HaSite]:
    """A host with a daemon whose HA router has a conntrackd."""
    require("conntrackd", "conntrackd")
    require("keepalived", "keepalived")
    with short_folder() as path:
        made = HaSite(path)
        made.daemon.configure(DEFAULT={"ha_conntrackd_enabled": True})
        yield made
        made.close()
        for pid in pids_below(path):
            os.kill(pid, signal.SIGKILL)


def test_a_daemon_starts_it_and_adopts_it_and_ends_it_with_its_router(site: HaSite) -> None:
    path = site.write(ha_document())
    site.daemon.start()
    wait_for(lambda: site.state_file == "primary")
    pids = pids_below(site.confs)
    assert len(pids) == 1
    assert lab.run("ip", "netns", "identify", str(pids[0])).strip() == SNAT
    assert site.daemon.status()["services"]["conntrackd"] == {"routers": 1, "died": 0, "waiting": []}
    conf = (site.confs / RECORDED["id"] / "conntrackd.conf").read_text()
    assert f"Interface {HA_DEVICE}\n" in conf
    assert f"Group {3780 + RECORDED['ha_vr_id']}\n" in conf
    for number in (signal.SIGTERM, signal.SIGKILL):
        site.daemon.stop(number)
        site.daemon.start()
        wait_for(lambda: site.state() == "in sync")
        assert set(site.writes.values()) == {0}
        assert pids_below(site.confs) == pids
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: site.daemon.status()["services"]["conntrackd"] == {"routers": 1, "died": 1, "waiting": []})
    path.unlink()
    wait_for(lambda: site.state() is None)
    assert not pids_below(site.confs)
    assert not list(site.confs.iterdir())


def test_without_the_program_the_router_is_degraded_and_the_rest_goes_on(site: HaSite) -> None:
    folder = site.daemon.base / "bin"
    folder.mkdir()
    for program in ("keepalived", "sh"):
        (folder / program).symlink_to(shutil.which(program) or program)
    site.write(ha_document())
    site.daemon.start(PATH=str(folder))
    wait_for(lambda: site.is_master)
    wait_for(lambda: site.state() == "degraded")
    (router,) = site.daemon.status()["routers"]
    assert "tracked connections are not synchronised: conntrackd is not installed" in router["reason"]


def test_the_agent_tells_it_where_keepalived_lacks_the_right(site: HaSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """As started by the unit without a drop-in."""
    wrapper = site.daemon.base / "python"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --no-new-privs --bounding-set=-setgid {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    site.write(ha_document())
    monkeypatch.setattr(sys, "executable", str(wrapper))
    site.daemon.start()
    wait_for(lambda: read(site.confs / RECORDED["id"] / "conntrackd.told") == "primary")
    assert "CAP_SETGID is missing" in site.daemon.err + site.daemon.out
    assert "conntrackd was told: this host is the master" in site.daemon.err + site.daemon.out


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
