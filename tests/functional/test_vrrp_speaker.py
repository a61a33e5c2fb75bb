"""dvr-vrrp beside a real keepalived, configured as Neutron configures it, and beside itself: two hosts, one wire."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from tests.support import lab
from tests.support.requirements import require
from tests.support.vrrp_rig import (
    ARP,
    FLOATING,
    GATEWAY,
    HIGH,
    LOW,
    PRIMARY,
    ROUTER,
    Keepalived,
    Ours,
    Side,
    frames,
    join,
    sent,
    split,
    tap,
    until,
    wire,
)


@pytest.fixture
def sides(host: lab.Host) -> Iterator[list[Side]]:
    made: list[Side] = []
    with wire():
        yield made
        for side in made:
            side.close()


def ours(sides: list[Side], tmp_path: Path, name: str = "A", source: str = LOW) -> Ours:
    (tmp_path / name).mkdir()
    side = Ours(name, source, tmp_path / name)
    sides.append(side)
    return side


def keepalived(sides: list[Side], tmp_path: Path, name: str = "B", source: str = HIGH) -> Keepalived:
    require("keepalived", "keepalived")
    (tmp_path / name).mkdir()
    side = Keepalived(name, source, tmp_path / name)
    sides.append(side)
    return side


def test_alone_it_becomes_master_with_all_addresses_and_routes_and_yields_them(
    sides: list[Side], tmp_path: Path
) -> None:
    side = ours(sides, tmp_path)
    side.start(FLOATING, arguments=("--yield-at-end",))
    assert not side.addresses
    until(lambda: side.addresses == {PRIMARY, GATEWAY, FLOATING})
    until(lambda: side.routes == ["198.51.100.0/24"])
    assert side.client.served()[ROUTER].state == "master"
    side.serve()  # a floating IP less, at once and without a change of the state
    until(lambda: side.addresses == {PRIMARY, GATEWAY})
    side.serve(FLOATING)
    until(lambda: side.addresses == {PRIMARY, GATEWAY, FLOATING})
    side.client.stop(ROUTER)
    assert not side.addresses
    assert not side.routes
    assert not side.client.served()


def test_beside_keepalived_it_is_backup_and_takes_over_when_that_yields_and_the_other_way_round(
    sides: list[Side], tmp_path: Path
) -> None:
    side, other = ours(sides, tmp_path), keepalived(sides, tmp_path)
    other.start()
    until(lambda: other.is_master)
    side.start(FLOATING)
    until(lambda: side.client.served()[ROUTER].state == "backup")
    other.signal(signal.SIGTERM)
    until(lambda: side.is_master)
    assert not other.addresses
    other.start()  # nopreempt: it stays backup, although its address is higher
    until(lambda: "Entering BACKUP STATE" in (other.folder / "log").read_text())
    before = side.client.served()[ROUTER]
    side.client.stop(ROUTER)
    until(lambda: other.is_master)
    assert before.state == "master"
    assert not side.addresses
    assert other.addresses == {PRIMARY, GATEWAY, FLOATING}


def test_crash_of_the_master_is_no_fail_over_if_it_comes_back_in_time(sides: list[Side], tmp_path: Path) -> None:
    side, other = ours(sides, tmp_path), keepalived(sides, tmp_path)
    side.interval = other.interval = 10  # others wait for half a minute: a busy machine starts a process in less
    lab.run("ip", "-n", side.name, "address", "add", PRIMARY, "dev", "ha")
    side.start(FLOATING)
    assert side.addresses == {PRIMARY, GATEWAY, FLOATING}
    other.start()
    until(lambda: "Entering BACKUP STATE" in (other.folder / "log").read_text())
    side.signal(signal.SIGKILL)
    assert side.addresses == {PRIMARY, GATEWAY, FLOATING}
    with tap(side.name, "ha") as heard:
        side.start(FLOATING)
        assert sent(heard) == 1, "others must not wait for the next interval"
    assert side.client.served()[ROUTER].state == "master"
    assert not other.addresses


def test_the_master_that_stays_after_a_split_announces_its_addresses_again(sides: list[Side], tmp_path: Path) -> None:
    """It hears of the other master when that one yields at the latest."""
    low, high = ours(sides, tmp_path), ours(sides, tmp_path, "B", HIGH)
    for side in (low, high):
        side.start(FLOATING)
    split("wire")
    until(lambda: low.is_master and high.is_master)
    join_and_hear_announcements_of("B")
    until(lambda: not low.is_master)
    until(lambda: high.addresses == {PRIMARY, GATEWAY, FLOATING})


def test_keepalived_that_stays_after_a_split_is_told_and_announces_its_addresses_again(
    sides: list[Side], tmp_path: Path
) -> None:
    side, other = ours(sides, tmp_path), keepalived(sides, tmp_path)
    split("wire")
    side.start(FLOATING)
    other.start()
    until(lambda: side.is_master and other.is_master)
    join_and_hear_announcements_of("B")
    until(lambda: not side.is_master)
    assert other.addresses == {PRIMARY, GATEWAY, FLOATING}


def join_and_hear_announcements_of(name: str) -> None:
    """End the split when that master's first announcements are over; returns when it announces addresses again."""
    with tap(name, "far") as heard:
        until(lambda: not any(True for _ in frames(heard)))
        join("wire")
        until(lambda: any(frame[12:14] == ARP for frame, _ in frames(heard)))


def test_two_of_ours_have_one_master_and_a_frozen_one_yields_when_it_comes_back(
    sides: list[Side], tmp_path: Path
) -> None:
    low, high = ours(sides, tmp_path), ours(sides, tmp_path, "B", HIGH)
    low.start(FLOATING)
    until(lambda: low.is_master)
    high.start(FLOATING)
    low.signal(signal.SIGSTOP)
    until(lambda: high.is_master)
    low.signal(signal.SIGCONT)
    until(lambda: not low.addresses)
    assert high.addresses == {PRIMARY, GATEWAY, FLOATING}


def test_interface_that_is_down_releases_the_addresses_and_the_other_host_takes_over(
    sides: list[Side], tmp_path: Path
) -> None:
    low, high = ours(sides, tmp_path), ours(sides, tmp_path, "B", HIGH)
    low.start(FLOATING)
    until(lambda: low.is_master)
    high.start(FLOATING)
    lab.run("ip", "link", "set", "outA", "down")
    until(lambda: not low.addresses and high.is_master)
    assert low.client.served()[ROUTER].state == "fault"
    lab.run("ip", "link", "set", "outA", "up")
    until(lambda: low.client.served()[ROUTER].state == "backup")
    assert high.is_master


def test_password_is_agreed_with_keepalived_and_in_no_log(sides: list[Side], tmp_path: Path) -> None:
    side, other = ours(sides, tmp_path), keepalived(sides, tmp_path)
    other.start("authentication {\n auth_type PASS\n auth_pass sesame99\n }")
    until(lambda: other.is_master)
    side.start(FLOATING, password="sesame99-and-more")
    until(lambda: side.client.served()[ROUTER].state == "backup")
    with tap(side.name, "ha") as heard:
        time.sleep(5)  # longer than it would wait for advertisements
        assert sent(heard) == 0
    assert not side.addresses
    assert "sesame" not in side.log


def test_questions_that_make_no_sense_are_refused_and_change_nothing(sides: list[Side], tmp_path: Path) -> None:
    side = ours(sides, tmp_path)
    side.start()
    client = side.client
    for question in ({"do": "fly"}, {"do": "serve", "router": "../x"}, {"do": "serve", "router": ROUTER}, {}):
        with pytest.raises(ServiceError, match=r"dvr-vrrp at .*: "):
            client.ask({"do": None, **question})
    assert list(client.served()) == [ROUTER]
