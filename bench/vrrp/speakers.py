"""The two kinds of speakers, each for all routers of one host."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.vrrp.hosts import DEVICE, FLOATING, GATEWAY, GATEWAY_DEVICE, PRIMARY, SOURCES, Hosts
from dvr_agent.control.connection import AwayError
from dvr_agent.services.vrrp.client import VrrpClient
from dvr_agent.services.vrrp.description import describe
from dvr_agent.services.vrrp.sockets import opened_sockets
from dvr_agent.state.address import Address
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.protocol import dumps
from tests.support.lab import ip_json
from tests.support.waiting import wait_for

BUILTIN, KEEPALIVED = "dvr-vrrp", "keepalived"
PRIORITY, VR_ID = 50, 7
CONF = f"""\
vrrp_instance VR_{VR_ID} {{{{
    state BACKUP
    interface {DEVICE}
    virtual_router_id {VR_ID}
    priority {PRIORITY}
    garp_master_delay 60
    nopreempt
    advert_int {{interval}}
    track_interface {{{{
        {DEVICE}
    }}}}
    virtual_ipaddress {{{{
        {PRIMARY}/24 dev {DEVICE}
    }}}}
    virtual_ipaddress_excluded {{{{
        {GATEWAY} dev {GATEWAY_DEVICE} no_track
        {FLOATING} dev {GATEWAY_DEVICE} no_track
    }}}}
}}}}
"""


class Speakers(ABC):
    """Speakers for all routers of one host."""

    name: ClassVar[str]

    def __init__(self, hosts: Hosts, side: int, interval: int) -> None:
        self._hosts, self._side, self._interval = hosts, side, interval
        self._folder = tempfile.TemporaryDirectory()

    @property
    def folder(self) -> Path:
        """Directory for files of the speakers."""
        return Path(self._folder.name)

    def wait_for_masters(self) -> None:
        """Wait until this host is master of all routers."""
        wait_for(lambda: self._hosts.masters(self._side) == self._hosts.routers, "all are masters", 600, every=2)

    @abstractmethod
    def start(self) -> None:
        """Start, and serve all routers."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Return the process ids."""

    def late(self) -> float | None:
        """Return the largest delay of an advertisement since the last question, where the speaker measures it."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End all processes."""


class Builtin(Speakers):
    """One dvr-vrrp."""

    name = BUILTIN

    def start(self) -> None:
        path = self.folder / "control.sock"
        command = [sys.executable, "-m", "dvr_agent.vrrp.main", "--control-socket", str(path)]
        self._process = subprocess.Popen(command, stderr=(self.folder / "log").open("wb"))
        self._client = VrrpClient(str(path))
        wait_for(self._connects, "dvr-vrrp answers")
        for number in range(self._hosts.routers):
            self._serve(number)

    def _connects(self) -> bool:
        with contextlib.suppress(AwayError):
            self._client.connect()
        return self._client.connected

    def _serve(self, number: int) -> None:
        namespace, source = self._hosts.namespace(self._side, number), SOURCES[self._side]
        links = {link["ifname"]: link for link in ip_json("link", netns=namespace)}
        state = VirtualRouterState(
            VR_ID, PRIORITY, self._interval, DEVICE, source, Address(DEVICE, f"{PRIMARY}/24"),
            (Address(GATEWAY_DEVICE, GATEWAY), Address(GATEWAY_DEVICE, FLOATING)),
        )  # fmt: skip
        described = describe(
            state,
            {name: link["ifindex"] for name, link in links.items()},
            {name: bytes.fromhex(link["address"].replace(":", "")) for name, link in links.items()},
        )
        with opened_sockets(namespace, DEVICE, source) as sockets:
            self._client.serve(f"router-{number}", sockets, dumps(described))

    def pids(self) -> list[int]:
        return [self._process.pid]

    def late(self) -> float | None:
        return float(self._client.status()["late"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Keepalived(Speakers):
    """A keepalived per router, with its child."""

    name = KEEPALIVED

    def start(self) -> None:
        self._processes = []
        conf = self.folder / "keepalived.conf"
        conf.write_text(CONF.format(interval=self._interval))
        for number in range(self._hosts.routers):
            namespace = self._hosts.namespace(self._side, number)
            command = ["ip", "netns", "exec", namespace, "keepalived", "-P", "-n", "-f", str(conf)]
            command += ["-p", str(self.folder / f"{number}.pid"), "-r", str(self._child_file(number))]
            self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def pids(self) -> list[int]:
        children = [int(self._child_file(number).read_text()) for number in range(self._hosts.routers)]
        return [*(process.pid for process in self._processes), *children]

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()

    def _child_file(self, number: int) -> Path:
        return self.folder / f"{number}.vrrp.pid"
