"""A master that does not reach the router's gateways yields (``ha_vrrp_health_check_interval``), by either program."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.services.keepalived.conf import keepalived_text
from dvr_agent.services.keepalived.health import script_text
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.vrrp.builtin import BuiltinVrrpService
from dvr_agent.services.vrrp.place import VrrpPlace, VrrpService
from tests.support import lab
from tests.support.requirements import require
from tests.support.vrrp_rig import (
    FLOATING,
    GATEWAY,
    HIGH,
    LOW,
    PRIMARY,
    ROUTER,
    VRRP,
    External,
    Keepalived,
    Ours,
    checking,
    echo_requests,
    frames,
    state,
    tap,
    until,
    wire,
)

PROGRAMS = ["keepalived", "builtin"]
ROOT = Path(__file__).resolve().parent.parent.parent


class Host:
    """Host A with the agent's service, whose dvr-vrrp or keepalived runs in its namespace."""

    def __init__(self, folder: Path, program: str) -> None:
        require("keepalived", "keepalived")
        self.side = Ours("A", LOW, folder)
        self.folder, self.program = folder, program
        if program == "builtin":
            self.side.begin()
        self.service = self.open()

    def open(self) -> VrrpService:
        """Start the service, as an agent does."""
        keepalived = KeepalivedService(self.folder / "ha_confs", self.folder / "pids", "respawn")
        return BuiltinVrrpService(self.side.path, keepalived) if self.program == "builtin" else keepalived

    def place(self, checks: bool = True) -> VrrpPlace:
        wanted = state(LOW, 1, FLOATING)
        return VrrpPlace(ROUTER, "A", checking(wanted) if checks else wanted, self.side.is_master)

    def apply(self, checks: bool = True) -> None:
        self.service.apply(self.place(checks))

    def become_master(self, checks: bool = True) -> None:
        self.apply(checks)
        until(lambda: self.side.is_master)
        self.apply(checks)

    @property
    def script(self) -> Path:
        return self.folder / "ha_confs" / ROUTER / "ha_check_script_7.sh"

    @property
    def conf(self) -> Path:
        return self.script.parent / "keepalived.conf"

    @property
    def pid(self) -> int:
        """Of keepalived."""
        return int((self.folder / "ha_confs" / f"{ROUTER}.pid.keepalived").read_text())

    def close(self) -> None:
        with contextlib.suppress(ServiceError):
            self.service.remove(ROUTER)
        self.service.close()
        self.side.close()


@pytest.fixture
def outside(host: lab.Host) -> Iterator[External]:
    with wire():
        yield External()


@pytest.fixture
def other(outside: External, tmp_path: Path) -> Iterator[Keepalived]:
    """Host B: a keepalived as Neutron configures it, which checks nothing; it is not started yet."""
    (tmp_path / "B").mkdir()
    made = Keepalived("B", HIGH, tmp_path / "B")
    yield made
    made.close()


@pytest.fixture
def make_host(outside: External, tmp_path: Path) -> Iterator[Callable[[str], Host]]:
    made: list[Host] = []

    def make(program: str) -> Host:
        (tmp_path / "A").mkdir()
        made.append(Host(tmp_path / "A", program))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_master_that_reaches_no_gateway_yields_after_two_checks_and_takes_part_again(
    program: str,
    make_host: Callable[[str], Host],
    other: Keepalived,
    outside: External,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = make_host(program)
    one.become_master()
    other.start()
    until(lambda: "Entering BACKUP STATE" in (other.folder / "log").read_text())
    with outside.hear("A") as heard:
        hear_requests(heard, 3)
        assert one.side.is_master
        one.service.close()  # all that follows needs no agent
        outside.cut_off("A")
        echo_requests(heard)
        until(lambda: other.is_master)
        assert echo_requests(heard) <= 3  # two checks; one may have begun before
        until(lambda: not one.side.addresses)
        echo_requests(heard)
        with tap("A", "ha") as adverts:
            hear_adverts(adverts, 5)
        assert not echo_requests(heard), "a backup has the master's MAC address, and asks nobody"
        one.service = one.open()
        with caplog.at_level(logging.INFO):
            one.apply()
            outside.connect("A")
            other.signal(signal.SIGTERM)
            until(lambda: one.side.is_master)
            hear_requests(heard, 4)
            one.service.check()
    until(lambda: one.side.addresses == {PRIMARY, GATEWAY, FLOATING})
    text = caplog.text if program == "keepalived" else one.side.log
    assert text.count("203.0.113.1") == 2
    assert f"router {ROUTER}: no answer from gateway 203.0.113.1" in text.partition("answers again")[0]


def hear_requests(heard: socket.socket, number: int) -> None:
    """Wait until so many echo requests were sent from now on."""
    echo_requests(heard)
    found = 0

    def enough() -> bool:
        nonlocal found
        found += echo_requests(heard)
        return found >= number

    until(enough)


def hear_adverts(heard: socket.socket, number: int) -> None:
    """Wait until so many advertisements of another host have come."""
    found = 0

    def enough() -> bool:
        nonlocal found
        found += sum(not is_own for is_own, _ in adverts(heard))
        return found >= number

    until(enough)


def adverts(heard: socket.socket) -> list[tuple[bool, int]]:
    """Advertisements since the last call: (this host has sent it, its priority)."""
    return [(address[2] == socket.PACKET_OUTGOING, frame[36]) for frame, address in frames(heard) if frame[23] == VRRP]


def settle(one: Host, checks: bool = True) -> None:
    """Apply until there is nothing to do; a reload of keepalived may have to wait for the last one."""

    def is_settled() -> bool:
        one.service.changed()
        one.apply(checks)
        return not one.service.plan(one.place(checks))

    until(is_settled)


@pytest.mark.parametrize("program", PROGRAMS)
def test_turning_the_check_on_and_off_is_no_switch(
    program: str, make_host: Callable[[str], Host], other: Keepalived, outside: External
) -> None:
    one = make_host(program)
    one.become_master(checks=False)
    assert one.service.plan(one.place(checks=False)) == []
    other.start()
    until(lambda: "Entering BACKUP STATE" in (other.folder / "log").read_text())
    with tap("A", "ha") as heard, outside.hear("A") as requests:
        assert one.service.plan(one.place())
        settle(one)
        hear_requests(requests, 3)
        settle(one, checks=False)
        one.apply(checks=False)
        assert not one.script.exists()
        found: list[tuple[bool, int]] = []

        def enough() -> bool:
            found.extend(adverts(heard))
            return len(found) >= 12

        until(enough)
        assert set(found) == {(True, 50)}
    assert not other.addresses


def test_a_check_that_is_turned_off_ends_the_fault(make_host: Callable[[str], Host], outside: External) -> None:
    one = make_host("builtin")
    one.become_master()
    outside.cut_off("A")
    until(lambda: one.side.client.served()[ROUTER].state == "fault")
    one.apply(checks=False)
    assert one.side.client.served()[ROUTER].state == "backup"
    until(lambda: one.side.is_master)


def test_a_host_alone_tries_again_and_again(make_host: Callable[[str], Host], outside: External) -> None:
    one = make_host("builtin")
    one.become_master()
    outside.cut_off("A")
    for _ in range(2):
        until(lambda: not one.side.is_master)
        until(lambda: one.side.is_master)
    outside.connect("A")
    until(lambda: "answers again" in one.side.log)
    assert one.side.is_master


NEUTRON_SCRIPT = """\
#!/bin/bash -eu
ip address | grep 203.0.113.4 || exit 0
ping -c 1 -w 1 203.0.113.1 >/dev/null || exit 1
"""


def test_a_keepalived_of_neutron_l3_agent_with_its_script_is_adopted_without_a_switch(
    make_host: Callable[[str], Host], other: Keepalived, outside: External
) -> None:
    one = make_host("keepalived")
    one.become_master()
    one.conf.write_text("\n" + one.conf.read_text().replace("    user root\n", "\n"))
    one.script.write_text(NEUTRON_SCRIPT)
    one.script.chmod(0o520)
    one.service.close()
    os.kill(one.pid, signal.SIGHUP)
    other.start()
    until(lambda: "Entering BACKUP STATE" in (other.folder / "log").read_text())
    with tap("A", "ha") as heard, outside.hear("A") as requests:
        hear_requests(requests, 2)
        pid, one.service = one.pid, one.open()
        lines = one.service.plan(one.place())
        assert lines == ["~ keepalived configuration", "~ check of gateways by keepalived"]
        settle(one)
        hear_requests(requests, 3)
        assert {priority for is_own, priority in adverts(heard) if is_own} == {50}
    assert one.pid == pid
    assert one.side.is_master
    assert not other.addresses
    assert one.script.stat().st_mode & 0o777 == 0o700
    one.service.remove(ROUTER)
    assert not one.script.parent.exists()


def test_a_script_that_was_changed_is_planned_and_written_again_without_a_reload(
    make_host: Callable[[str], Host],
) -> None:
    one = make_host("keepalived")
    one.become_master()
    conf = one.conf.stat().st_ino
    one.script.write_text("#!/bin/sh\n")
    assert one.service.plan(one.place()) == ["~ check of gateways by keepalived"]
    one.apply()
    assert one.service.plan(one.place()) == []
    assert one.conf.stat().st_ino == conf


def test_without_ping_vrrp_is_spoken_without_a_check_and_that_is_said(
    make_host: Callable[[str], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_host("keepalived")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ping" else which(name))
    with pytest.raises(ServiceError, match="ping is not installed: gateways are not checked"):
        one.apply()
    until(lambda: one.side.is_master)
    assert not one.script.exists()


def test_an_earlier_dvr_vrrp_speaks_vrrp_without_a_check_and_that_is_said(
    make_host: Callable[[str], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_host("builtin")
    monkeypatch.setattr("dvr_agent.services.vrrp.builtin.CHECKS_GATEWAYS", "what it does not have")
    with pytest.raises(ServiceError, match="of an earlier version: gateways are not checked"):
        one.apply()
    until(lambda: one.side.is_master)
    assert one.service.plan(one.place()) == []
    monkeypatch.undo()
    assert one.service.plan(one.place()) == ["~ virtual router"]


DROP_IN = "CAP_SETGID"


def test_what_keepalived_lacks_in_the_unit_is_documented() -> None:
    assert f"CapabilityBoundingSet={DROP_IN}\n" in (ROOT / "docs" / "dataplane.md").read_text()


@pytest.mark.parametrize("more", ["", DROP_IN])
def test_keepalived_runs_its_script_with_the_rights_of_the_unit_and_complains_without_the_drop_in(
    outside: External, tmp_path: Path, more: str
) -> None:
    require("keepalived", "keepalived")
    wanted, script, conf, log = checking(state(LOW, 1)), *(tmp_path / name for name in ("script", "conf", "log"))
    script.write_text(script_text(wanted, tmp_path / "silent"))
    script.chmod(0o700)
    conf.write_text(keepalived_text(wanted, script))
    unit = (ROOT / "etc" / "dvr-agent.service").read_text()
    (allowed,) = re.findall("^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    bounding = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in f"{allowed} {more}".split())])
    words = ["ip", "netns", "exec", "A", "setpriv", "--no-new-privs", f"--bounding-set={bounding}"]
    words += [
        "keepalived",
        "-P",
        "-n",
        "-l",
        "-f",
        str(conf),
        "-p",
        str(tmp_path / "pid"),
        "-r",
        str(tmp_path / "child"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(words, stderr=output)
    until(lambda: "VRRP_Script(ha_health_check_7) succeeded" in log.read_text())
    process.terminate()
    process.wait(30)
    assert ("setgroups" in log.read_text()) == (not more)
