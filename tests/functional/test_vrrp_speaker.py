"""dvr-vrrp beside a real keepalived, configured as Neutron configures it, and beside itself: two hosts, one wire."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.services.vrrp.client import SpeakerAwayError, VrrpClient
from dvr_agent.services.vrrp.description import describe
from dvr_agent.services.vrrp.sockets import opened_sockets
from dvr_agent.state.address import Address
from dvr_agent.state.route import MAIN_TABLE, Hop, make_route
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.protocol import dumps
from tests.support import lab
from tests.support.requirements import require
from tests.support.waiting import wait_for

PRIMARY = "169.254.0.7/24"
LOW, HIGH = "169.254.192.10", "169.254.192.20"
FLOATING, GATEWAY = "203.0.113.5/32", "203.0.113.4/24"
ROUTER = "7c1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d10"
PATIENCE = 40.0
KEEPALIVED = """\
vrrp_instance VR_7 {{
    state BACKUP
    interface ha
    virtual_router_id 7
    priority 50
    garp_master_delay 60
    nopreempt
    advert_int {interval}
    {auth}
    track_interface {{
        ha
    }}
    virtual_ipaddress {{
        169.254.0.7/24 dev ha
    }}
    virtual_ipaddress_excluded {{
        203.0.113.4/24 dev qg no_track
        203.0.113.5/32 dev qg no_track
    }}
    virtual_routes {{
        198.51.100.0/24 via 203.0.113.1 dev qg no_track protocol static
    }}
}}
"""


def state(source: str, interval: int, *floating: str, password: str = "") -> VirtualRouterState:
    return VirtualRouterState(
        7, 50, interval, "ha", source, Address("ha", PRIMARY),
        (Address("qg", GATEWAY), *(Address("qg", one) for one in floating)),
        (make_route("198.51.100.0/24", MAIN_TABLE, Hop("203.0.113.1", "qg")),),
        password,
    )  # fmt: skip


def until(condition: Callable[[], bool]) -> None:
    """Wait for a change of a virtual router: some intervals, and the start of a process."""
    wait_for(condition, "the virtual router is in the expected state", PATIENCE)


class Side:
    """One host of the virtual router: a namespace, and a process that speaks VRRP in it."""

    def __init__(self, name: str, source: str, folder: Path) -> None:
        self.name, self.source, self.folder = name, source, folder
        self.process: subprocess.Popen[bytes] | None = None
        self.interval = 1

    @property
    def addresses(self) -> set[str]:
        """All IPv4 addresses of the virtual router that are there."""
        links = lab.ip_json("address", netns=self.name)
        found = {f"{one['local']}/{one['prefixlen']}" for link in links for one in link.get("addr_info", ())}
        return found & {PRIMARY, GATEWAY, FLOATING}

    @property
    def is_master(self) -> bool:
        return PRIMARY in self.addresses

    @property
    def routes(self) -> list[str]:
        return [one["dst"] for one in lab.ip_json("route", netns=self.name) if one.get("protocol") == "static"]

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(30)
            self.process = None

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)


class Ours(Side):
    """dvr-vrrp."""

    def start(self, *floating: str, password: str = "", arguments: tuple[str, ...] = ()) -> None:
        path = self.folder / "control.sock"
        command = [sys.executable, "-m", "dvr_agent.vrrp.main", "--control-socket", str(path), *arguments]
        self.process = subprocess.Popen(command, stderr=(self.folder / "log").open("ab"))
        self.client = VrrpClient(str(path))
        until(self._connects)
        self.serve(*floating, password=password)

    def _connects(self) -> bool:
        with contextlib.suppress(SpeakerAwayError):
            self.client.connect()
        return self.client.connected

    def serve(self, *floating: str, password: str = "") -> None:
        wanted = state(self.source, self.interval, *floating, password=password)
        links = {link["ifname"]: link for link in lab.ip_json("link", netns=self.name)}
        indexes = {name: link["ifindex"] for name, link in links.items()}
        macs = {name: bytes.fromhex(link["address"].replace(":", "")) for name, link in links.items()}
        with opened_sockets(self.name, "ha", self.source) as sockets:
            self.client.serve(ROUTER, sockets, dumps(describe(wanted, indexes, macs)))

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


class Keepalived(Side):
    """keepalived; a process group of its own, since it has a child that must not outlive it."""

    def start(self, auth: str = "") -> None:
        conf = self.folder / "keepalived.conf"
        conf.write_text(KEEPALIVED.format(auth=auth, interval=self.interval))
        command = ["ip", "netns", "exec", self.name, "keepalived", "-P", "-n", "-l", "-D", "-f", str(conf)]
        command += ["-p", str(self.folder / "pid"), "-r", str(self.folder / "vrrp.pid")]
        self.process = subprocess.Popen(command, stderr=(self.folder / "log").open("ab"))

    def signal(self, number: int) -> None:
        child = int((self.folder / "vrrp.pid").read_text())
        super().signal(number)
        if number == signal.SIGKILL:
            lab.run("kill", "-KILL", child, check=False)


@pytest.fixture
def wire(host: lab.Host) -> Iterator[None]:
    """Two namespaces, A and B, whose ``ha`` devices are on one wire; each has a ``qg`` of its own."""
    lab.run("ip", "link", "add", "wire", "type", "bridge")
    lab.run("ip", "link", "set", "wire", "up")
    for name, source in (("A", LOW), ("B", HIGH)):
        lab.run("ip", "netns", "add", name)
        lab.run("ip", "link", "add", f"out{name}", "type", "veth", "peer", "name", "ha", "netns", name)
        lab.run("ip", "link", "set", f"out{name}", "master", "wire", "up")
        lab.run("ip", "-n", name, "link", "add", "qg", "type", "veth", "peer", "name", "far")
        for device in ("lo", "ha", "qg", "far"):
            lab.run("ip", "-n", name, "link", "set", device, "up")
        lab.run("ip", "-n", name, "address", "add", f"{source}/18", "dev", "ha")
    yield
    for name in "AB":
        lab.run("ip", "netns", "delete", name)


@pytest.fixture
def sides(wire: None, tmp_path: Path) -> Iterator[list[Side]]:
    made: list[Side] = []
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
    until(lambda: side.is_master)
    assert side.addresses == {PRIMARY, GATEWAY, FLOATING}
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
    with lab.entered(side.name), tap() as heard:
        side.start(FLOATING)
        assert sent(heard) == 1, "others must not wait for the next interval"
    assert side.client.served()[ROUTER].state == "master"
    assert not other.addresses


def tap() -> socket.socket:
    """Hears what this namespace sends and receives on ``ha``."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind(("ha", 3))
    made.setblocking(False)
    return made


def sent(heard: socket.socket) -> int:
    """The number of advertisements sent so far."""
    found = 0
    while True:
        try:
            frame, address = heard.recvfrom(2048)
        except BlockingIOError:
            return found
        found += address[2] == socket.PACKET_OUTGOING and frame[23] == 112


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
    with lab.entered(side.name), tap() as heard:
        time.sleep(5)  # longer than it would wait for advertisements
        assert sent(heard) == 0
    assert not side.addresses
    assert "sesame" not in side.log


def test_questions_that_make_no_sense_are_refused_and_change_nothing(sides: list[Side], tmp_path: Path) -> None:
    side = ours(sides, tmp_path)
    side.start()
    client = side.client
    for question in ({"do": "fly"}, {"do": "serve", "router": "../x"}, {"do": "serve", "router": ROUTER}, {}):
        with pytest.raises(ServiceError, match="dvr-vrrp: "):
            client.ask({"do": None, **question})
    assert list(client.served()) == [ROUTER]
