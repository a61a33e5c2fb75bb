"""Two hosts of an HA router with a conntrackd each, between a client and a server on the other side of its SNAT."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dvr_agent.services.conntrackd.service import ConntrackdService
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.processes import parent_of, running
from dvr_agent.services.vrrp.builtin import BuiltinVrrpService
from dvr_agent.services.vrrp.place import VrrpPlace, VrrpService
from dvr_agent.settings import ConntrackdSettings
from dvr_agent.state.address import Address
from dvr_agent.state.virtual_router import VirtualRouterState
from tests.support import lab
from tests.support.vrrp_rig import HIGH, LOW, PATIENCE, PRIMARY, ROUTER, Ours

INSIDE, OUTSIDE = "10.0.0.1/24", "203.0.113.4/24"
SERVER = ("203.0.113.1", 7777)
ON = ConntrackdSettings(enabled=True)
OFF = ConntrackdSettings(enabled=False)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A directory whose path is short enough for conntrackd's control socket, which pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="ct") as path:
        yield Path(path)


@contextlib.contextmanager
def wires() -> Iterator[None]:
    """Namespaces A and B, whose devices ``ha``, ``qr`` and ``qg`` are on one wire each; ``client`` and ``server``."""
    for wire in ("ha", "qr", "qg"):
        lab.run("ip", "link", "add", f"wire{wire}", "type", "bridge", "mcast_snooping", "0")
        lab.run("ip", "link", "set", f"wire{wire}", "up")
    for name, source in (("A", LOW), ("B", HIGH)):
        lab.run("ip", "netns", "add", name)
        lab.run("ip", "-n", name, "link", "set", "lo", "up")
        for device in ("ha", "qr", "qg"):
            _plug(name, device, device)
        lab.run("ip", "-n", name, "address", "add", f"{source}/18", "dev", "ha")
        with lab.entered(name):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        snat = ("-t", "nat", "-A", "POSTROUTING", "-o", "qg", "-j", "SNAT", "--random-fully")
        lab.run("ip", "netns", "exec", name, "iptables-legacy", *snat, "--to-source", OUTSIDE.partition("/")[0])
    for name, wire, address in (("client", "qr", "10.0.0.2/24"), ("server", "qg", f"{SERVER[0]}/24")):
        lab.run("ip", "netns", "add", name)
        _plug(name, "eth", wire)
        lab.run("ip", "-n", name, "address", "add", address, "dev", "eth")
    lab.run("ip", "-n", "client", "route", "add", "default", "via", INSIDE.partition("/")[0])
    yield
    for name in ("A", "B", "client", "server"):
        lab.run("ip", "netns", "delete", name)


def _plug(namespace: str, device: str, wire: str) -> None:
    outer = f"{wire}{namespace}"
    lab.run("ip", "link", "add", outer, "type", "veth", "peer", "name", device, "netns", namespace)
    lab.run("ip", "link", "set", outer, "master", f"wire{wire}", "up")
    lab.run("ip", "-n", namespace, "link", "set", device, "up")


def virtual_router(source: str, may_start: bool = True) -> VirtualRouterState:
    addresses = (Address("qr", INSIDE), Address("qg", OUTSIDE))
    return VirtualRouterState(7, 50, 1, "ha", source, Address("ha", PRIMARY), addresses, may_start=may_start)


class Host:
    """One host of the router: the services of an agent, and the files of the programs that these run."""

    def __init__(self, name: str, source: str, folder: Path, builtin: bool = False) -> None:
        self.name, self.source, self.folder = name, source, folder / name
        self.confs, self.directory = self.folder / "h", self.folder / "h" / ROUTER
        self.folder.mkdir()
        self.speaker = Ours(name, source, self.folder) if builtin else None
        if self.speaker is not None:
            self.speaker.begin()
        self.begin()

    def begin(self, settings: ConntrackdSettings = ON) -> None:
        """Begin as an agent that has just started."""
        self.conntrackd = ConntrackdService(settings, self.confs, "respawn", lambda _: self.speaker is not None)
        tells = settings.enabled and self.speaker is None
        keepalived = KeepalivedService(self.confs, self.folder / "pids", "respawn", tells)
        self.vrrp: VrrpService = keepalived
        if self.speaker is not None:
            self.vrrp = BuiltinVrrpService(self.speaker.path, keepalived)

    def end(self) -> None:
        """End as an agent does: the programs go on."""
        self.conntrackd.close()
        self.vrrp.close()

    def place(self, may_start: bool = True) -> VrrpPlace:
        return VrrpPlace(ROUTER, self.name, virtual_router(self.source, may_start), self.is_master)

    def apply(self) -> None:
        """Do what the agent does when the kernel tells of a change of the master."""
        place = self.place()
        self.conntrackd.apply(place)
        self.vrrp.apply(place)

    def vanish(self) -> None:
        """Unplug all cables."""
        for wire in ("ha", "qr", "qg"):
            lab.run("ip", "link", "set", f"{wire}{self.name}", "down")

    def ask(self, *arguments: str) -> str:
        """Return what the router's conntrackd answers."""
        return lab.run("conntrackd", "-C", self.directory / "conntrackd.conf", *arguments)

    @property
    def is_master(self) -> bool:
        links = lab.ip_json("address", netns=self.name)
        return any(f"{one['local']}/{one['prefixlen']}" == PRIMARY for link in links for one in link["addr_info"])

    @property
    def pids(self) -> list[int]:
        """Process ids of all conntrackd of this host."""
        return pids_below(self.confs)

    def close(self) -> None:
        self.vrrp.remove(ROUTER)
        self.conntrackd.remove(ROUTER)
        self.end()
        if self.speaker is not None:
            self.speaker.close()


def pids_below(confs: Path) -> list[int]:
    """Process ids of all daemons, less their children and their clients, whose configuration is below a directory."""
    daemons = [(pid, words) for pid, words in running("conntrackd") if "-d" in words]
    found = [pid for pid, words in daemons if any(word.startswith(f"{confs}/") for word in words)]
    return [pid for pid in found if parent_of(pid) not in found]


class Connection:
    """A TCP connection of the client to the server, whose answer is what it gets."""

    def __init__(self) -> None:
        with lab.entered("server"):
            listener = socket.create_server(SERVER)
        with lab.entered("client"):
            self._near = socket.socket()
        self._near.settimeout(PATIENCE)
        self._near.connect(SERVER)
        listener.settimeout(PATIENCE)
        self._far, (_, self.port) = listener.accept()
        """Port of the connection as the server sees it: SNAT has chosen it."""
        self.original = f"sport={self._near.getsockname()[1]} dport={SERVER[1]} "
        """Ports of the connection as conntrackd prints them."""
        self._far.settimeout(PATIENCE)
        listener.close()

    def works(self) -> bool:
        """Send and receive in both directions."""
        for one, other in ((self._near, self._far), (self._far, self._near)):
            one.sendall(b"ping")
            if other.recv(4) != b"ping":
                return False
        return True

    def close(self) -> None:
        self._near.close()
        self._far.close()
