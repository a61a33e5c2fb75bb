"""dvr-vrrp after a crash without an agent: it goes on with what systemd has kept for it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.vrrp.builtin import BuiltinVrrpService
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.vrrp.protocol import Descriptors, VirtualRouter
from dvr_agent.vrrp.speaker import Sockets, Speaker
from tests.support import lab
from tests.support.service_manager import ServiceManager
from tests.support.vrrp_rig import (
    FLOATING,
    GATEWAY,
    HIGH,
    LOW,
    PRIMARY,
    ROUTER,
    External,
    Ours,
    checking,
    echo_requests,
    frames,
    sent,
    state,
    tap,
    until,
    wire,
)
from tests.support.waiting import wait_for

EVERYTHING = {PRIMARY, GATEWAY, FLOATING}
VIRTUAL = PRIMARY.partition("/")[0]
LONG = 10
"""Seconds between advertisements: others wait for half a minute, and a busy machine starts a process in less."""


@pytest.fixture
def side(host: lab.Host, tmp_path: Path) -> Iterator[Ours]:
    (tmp_path / "A").mkdir()
    with wire():
        made = Ours("A", LOW, tmp_path / "A")
        made.manage()
        yield made
        made.close()


@pytest.fixture
def other(side: Ours, tmp_path: Path) -> Iterator[Ours]:
    """Another host, which would take over."""
    (tmp_path / "B").mkdir()
    made = Ours("B", HIGH, tmp_path / "B")
    yield made
    made.close()


def manager(side: Ours) -> ServiceManager:
    assert side.manager is not None
    return side.manager


def crash(side: Ours) -> None:
    """Kill the process, when what it said has arrived, and start another; no agent does anything."""
    side.client.close()
    side.signal(signal.SIGKILL)
    side.begin()


def own_state(side: Ours) -> str:
    return side.client.served()[ROUTER].state if ROUTER in side.client.served() else ""


def test_crash_of_the_master_without_an_agent_is_no_fail_over(side: Ours, other: Ours) -> None:
    side.interval = other.interval = LONG
    lab.run("ip", "-n", side.name, "address", "add", PRIMARY, "dev", "ha")
    side.start(FLOATING, password="sesame99")
    manager(side).wait_for_stored(1)
    other.start(FLOATING, password="sesame99")
    lab.run("ip", "-n", other.name, "route", "add", VIRTUAL, "dev", "ha")
    ping = ["ip", "netns", "exec", other.name, "ping", "-n", "-i", "0.02", VIRTUAL]
    with tap(side.name, "ha") as heard, subprocess.Popen(ping, stdout=subprocess.PIPE, text=True) as pinging:
        until(lambda: any(frame[23] == socket.IPPROTO_ICMP for frame, _ in frames(heard)))
        for _ in range(2):  # what systemd has stays there
            crash(side)
            assert own_state(side) == "master"
            assert sent(heard) == 1, "others must not wait for the next interval"
        pinging.send_signal(signal.SIGINT)
        said, _ = pinging.communicate()
    asked, answered = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", said)[0])
    assert asked == answered > 3
    assert side.addresses == EVERYTHING
    assert side.routes == ["198.51.100.0/24"]
    assert own_state(other) == "backup"
    assert ": master" not in other.log
    assert "sesame" not in side.log + str(manager(side).heard)
    side.serve()  # the agent is back, with a floating IP less
    until(lambda: side.addresses == {PRIMARY, GATEWAY})
    crash(side)
    assert own_state(side) == "master"
    manager(side).wait_for_stored(1)
    assert side.addresses == {PRIMARY, GATEWAY}


def test_crash_of_a_backup_without_an_agent_leaves_a_backup_that_takes_over(side: Ours, other: Ours) -> None:
    other.start(FLOATING)
    until(lambda: other.is_master)
    side.start(FLOATING)
    manager(side).wait_for_stored(1)
    crash(side)
    assert own_state(side) == "backup"
    assert not side.addresses
    other.signal(signal.SIGKILL)
    until(lambda: side.addresses == EVERYTHING)


@pytest.mark.parametrize("how", ["stop", "forget"])
def test_a_virtual_router_that_ends_is_stored_no_longer(side: Ours, how: str) -> None:
    side.start(FLOATING)
    manager(side).wait_for_stored(1)
    getattr(side.client, how)(ROUTER)
    manager(side).wait_for_stored(0)
    crash(side)
    assert side.client.served() == {}


def test_what_waited_in_the_sockets_is_not_taken_for_news(side: Ours) -> None:
    """The interface was down for a moment while no process ran: a master that is no master any more was one before."""
    side.start(FLOATING)
    until(lambda: side.is_master)
    manager(side).wait_for_stored(1)
    side.client.close()
    side.signal(signal.SIGKILL)
    lab.run("ip", "link", "set", "outA", "down")
    lab.run("ip", "link", "set", "outA", "up")
    until(lambda: "LOWER_UP" in lab.ip_json("link", "show", "ha", netns="A")[0]["flags"])
    side.begin()
    assert own_state(side) == "master"
    assert "backup" not in side.log
    assert "fault" not in side.log


def test_devices_and_namespaces_that_are_gone_end_nothing(side: Ours) -> None:
    side.start(FLOATING)
    until(lambda: side.is_master)
    manager(side).wait_for_stored(1)
    manager(side).stored["x"] = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].detach()]
    side.client.close()
    side.signal(signal.SIGKILL)
    lab.run("ip", "link", "delete", "outA")
    lab.run("ip", "netns", "delete", "A")
    lab.run("ip", "netns", "add", "A")  # the rig deletes it
    side.begin()
    assert own_state(side) == "fault"
    assert "a stored virtual router is dropped: it cannot be read" in side.log
    side.client.stop(ROUTER)
    manager(side).wait_for_stored(0)
    assert side.process is not None
    assert side.process.poll() is None


def test_an_error_of_the_kernel_at_reading_advertisements_is_logged_once(
    host: lab.Host, caplog: pytest.LogCaptureFixture
) -> None:
    failing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    failing.connect(("127.0.0.1", 9))
    router = VirtualRouter(7, 50, 1, 1, LOW, VIRTUAL, b"")
    with failing:
        speaker = Speaker(ROUTER, 1, router, "", Sockets(Descriptors(*[failing.fileno()] * 5), []))
        for _ in range(2):
            failing.send(b"x")  # nobody listens there
            speaker.read_adverts()
        speaker.sockets.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"router {ROUTER}: advertisements cannot be received: Connection refused"
    ]


def test_the_check_of_gateways_goes_on_after_a_crash_without_an_agent(side: Ours) -> None:
    outside = External()
    side.begin()
    one = service(side)
    one.apply(VrrpPlace(ROUTER, "A", checking(replace(state(LOW, 1, FLOATING), may_start=True))))
    until(lambda: side.is_master)
    one.close()
    manager(side).wait_for_stored(1)
    crash(side)
    assert own_state(side) == "master"
    with outside.hear("A") as heard:
        until(lambda: echo_requests(heard) > 0)
    outside.cut_off("A")
    until(lambda: own_state(side) == "fault")
    outside.connect("A")
    until(lambda: side.is_master)


def service(side: Ours) -> BuiltinVrrpService:
    keepalived = KeepalivedService(side.folder / "ha_confs", side.folder / "pids", "respawn")
    return BuiltinVrrpService(side.path, keepalived)


def place(*floating: str) -> VrrpPlace:
    return VrrpPlace(ROUTER, "A", replace(state(LOW, 1, *floating), may_start=True))


def reconnect(one: BuiltinVrrpService, side: Ours) -> None:
    """Start the process, and have the agent notice it."""
    side.begin()
    wait_for(lambda: not one.changed() and not one.status()["trouble"])


def test_what_the_agent_wanted_while_the_process_was_away_replaces_what_is_stale(side: Ours) -> None:
    side.begin()
    one = service(side)
    one.apply(place(FLOATING))
    until(lambda: side.addresses == EVERYTHING)
    manager(side).wait_for_stored(1)
    side.signal(signal.SIGKILL)
    wait_for(lambda: one.changed() or one.status()["trouble"])
    with pytest.raises(ServiceError, match="no VRRP"):
        one.apply(place())
    reconnect(one, side)
    until(lambda: side.addresses == {PRIMARY, GATEWAY})
    manager(side).wait_for_stored(1)
    side.signal(signal.SIGKILL)
    wait_for(lambda: one.changed() or one.status()["trouble"])
    one.remove(ROUTER)
    reconnect(one, side)
    assert side.client.served() == {}
    manager(side).wait_for_stored(0)
    one.close()
