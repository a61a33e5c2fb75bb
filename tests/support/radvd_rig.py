"""A router's namespace with an instance in it, and the radvd service over it."""

from __future__ import annotations

import select
from ipaddress import IPv6Address, ip_network
from pathlib import Path

from dvr_agent.model.router import FixedIp, RaMode, Router, RouterPort, Subnet
from dvr_agent.services.processes import running
from dvr_agent.services.radvd import RadvdService
from tests.support import lab

ID = "7c1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d10"
OTHER = "8d1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d11"
PORT = "11111111-2222-3333-4444-555555555555"
DEVICE = "qr-11111111-22"
SPACE = f"qrouter-{ID}"
PREFIX = "2001:db8:77::/64"
PATIENCE = 30.0


def router(mode: RaMode | None = RaMode.SLAAC, mtu: int = 1400, resolvers: tuple[str, ...] = ()) -> Router:
    subnet = Subnet(
        PORT, ip_network(PREFIX), IPv6Address("2001:db8:77::1"), mode, tuple(IPv6Address(one) for one in resolvers)
    )
    fixed = FixedIp(IPv6Address("2001:db8:77::1"), 64, PORT)
    port = RouterPort(PORT, PORT, "02:00:00:00:00:01", mtu, (fixed,), (subnet,))
    return Router(ID, interfaces=(port,))


class Rig:
    """A router's namespace with one instance, and the service."""

    def __init__(self, folder: Path) -> None:
        self.confs, self.pids = folder / "ra", folder / "external" / "pids"
        self.conf, self.pid_file = self.confs / f"{ID}.radvd.conf", self.pids / f"{ID}.pid.radvd"
        self.service = self.new_service()
        self.make_namespace()

    def new_service(self, action: str = "respawn", user: str = "") -> RadvdService:
        return RadvdService(self.confs, self.pids, user, 3, 4, action)

    def restart(self, action: str = "respawn") -> None:
        """As the agent does."""
        self.service.close()
        self.service = self.new_service(action)

    def make_namespace(self) -> None:
        lab.run("ip", "netns", "add", SPACE)
        lab.run("ip", "netns", "add", "vm")
        lab.in_netns(SPACE, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
        lab.in_netns("vm", "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        peer = ["peer", "name", "eth0", "netns", "vm"]
        lab.run("ip", "-n", SPACE, "link", "add", DEVICE, "type", "veth", *peer)
        lab.run("ip", "-n", SPACE, "addr", "add", "2001:db8:77::1/64", "dev", DEVICE, "nodad")
        lab.run("ip", "-n", SPACE, "link", "set", DEVICE, "up")
        lab.run("ip", "-n", "vm", "link", "set", "eth0", "up")

    def remove_namespace(self) -> None:
        for name in (SPACE, "vm"):
            lab.run("ip", "netns", "del", name)

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def mains(self) -> list[int]:
        """Ids of those that are not another's helper."""
        pids = {pid for pid, words in running("radvd") if str(self.conf) in words}
        return sorted(pid for pid in pids if _parent(pid) not in pids)

    def learned(self) -> bool:
        """The instance has an address of the prefix and a default route."""
        links = lab.ip_json("-6", "addr", "show", "dev", "eth0", "scope", "global", netns="vm")
        has = [one.get("local", "") for link in links for one in link.get("addr_info", [])]
        routes = lab.ip_json("-6", "route", "show", "default", netns="vm")
        return any(address.startswith("2001:db8:77:") for address in has) and bool(routes)

    def forget(self) -> None:
        """The instance forgets what it has learned."""
        lab.run("ip", "-n", "vm", "link", "set", "eth0", "down")
        lab.run("ip", "-n", "vm", "link", "set", "eth0", "up")

    def told(self) -> list[str]:
        """Ids of routers that the service is woken for."""
        assert select.select([self.service.fileno()], [], [], PATIENCE)[0], "nobody told"
        return list(self.service.changed())


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
