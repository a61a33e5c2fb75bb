"""One wire with two hosts of a virtual router: dvr-vrrp, or keepalived as Neutron configures it, on either side."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvr_agent.control.connection import AwayError
from dvr_agent.services.vrrp.client import VrrpClient
from dvr_agent.services.vrrp.description import describe
from dvr_agent.services.vrrp.sockets import opened_sockets
from dvr_agent.state.address import Address
from dvr_agent.state.route import MAIN_TABLE, Hop, make_route
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.protocol import dumps
from tests.support import lab
from tests.support.waiting import wait_for

PRIMARY = "169.254.0.7/24"
LOW, HIGH = "169.254.192.10", "169.254.192.20"
FLOATING, GATEWAY = "203.0.113.5/32", "203.0.113.4/24"
ROUTER = "7c1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d10"
PATIENCE = 40.0
ARP = b"\x08\x06"
VRRP = 112
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


GATEWAYS = (Hop("203.0.113.1", "qg"), Hop("fe80::1", "qg"))


def checking(one: VirtualRouterState) -> VirtualRouterState:
    """Have the master check its gateways each second."""
    return replace(one, gateways=GATEWAYS, check_interval=1)


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


def tap(namespace: str, device: str) -> socket.socket:
    """Hear what a namespace sends and receives on a device."""
    with lab.entered(namespace):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind((device, 3))
    made.setblocking(False)
    return made


def frames(heard: socket.socket) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    """Yield the frames heard since the last call, and their addresses as the kernel gives them."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield heard.recvfrom(2048)


def split(bridge: str, on: bool = True) -> None:
    """Keep the ports of a bridge from each other; their devices stay up."""
    for link in lab.ip_json("link", "show", "master", bridge):
        lab.run("bridge", "link", "set", "dev", link["ifname"], "isolated", "on" if on else "off")


def join(bridge: str) -> None:
    """End a :func:`split`."""
    split(bridge, on=False)


class External:
    """The external network of both hosts, with both gateways; it takes the other ends of their ``qg`` devices."""

    def __init__(self) -> None:
        lab.run("ip", "link", "add", "ext", "type", "bridge")
        lab.run("ip", "link", "set", "ext", "up")
        lab.run("ip", "address", "add", "203.0.113.1/24", "dev", "ext")
        lab.run("ip", "address", "add", "fe80::1/64", "dev", "ext", "nodad")
        for name in "AB":
            lab.run("ip", "-n", name, "link", "set", "qg", "address", "02:00:00:00:00:99")
            lab.run("ip", "-n", name, "link", "set", "far", "netns", os.getpid(), "name", f"far{name}")
            self.connect(name)

    @staticmethod
    def connect(name: str) -> None:
        """Let a host reach the gateways."""
        lab.run("ip", "link", "set", f"far{name}", "master", "ext", "up")

    @staticmethod
    def cut_off(name: str) -> None:
        """Leave a host's packets without an answer; its devices stay up."""
        lab.run("ip", "link", "set", f"far{name}", "nomaster")

    @staticmethod
    def hear(name: str) -> socket.socket:
        """Hear what a host sends and receives on the external network."""
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
            made.bind((f"far{name}", 3))
            made.setblocking(False)
            stack.pop_all()
        return made


def echo_requests(heard: socket.socket) -> int:
    """The number of echo requests (IPv4) that a host has sent since the last call; see :meth:`External.hear`."""
    return sum(
        frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_ICMP and frame[34] == 8
        for frame, address in frames(heard)
        if address[2] != socket.PACKET_OUTGOING
    )


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

    @property
    def path(self) -> str:
        """Of the control socket."""
        return str(self.folder / "control.sock")

    def start(self, *floating: str, password: str = "", arguments: tuple[str, ...] = ()) -> None:
        self.begin(*arguments)
        self.serve(*floating, password=password)

    def begin(self, *arguments: str) -> None:
        """Start the process; it serves nothing."""
        command = [sys.executable, "-m", "dvr_agent.vrrp.main", "--control-socket", self.path, *arguments]
        self.process = subprocess.Popen(command, stderr=(self.folder / "log").open("ab"))
        self.client = VrrpClient(self.path)
        until(self._connects)

    def _connects(self) -> bool:
        with contextlib.suppress(AwayError):
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


@contextlib.contextmanager
def wire() -> Iterator[None]:
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
