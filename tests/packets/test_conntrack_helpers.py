"""FTP through address translation: a helper rewrites the addresses in commands and lets the data connection in."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from tests.support import lab
from tests.support.extension_documents import ExtendedRouter
from tests.support.filter_tools import rule_lines
from tests.support.packet_documents import Network
from tests.support.packet_world import INTERNET, PUBLIC, World

RED = Network("red", ("10.1.0.0/24",))
PLAIN, CENTRAL, LOCAL = "10.1.0.11", "10.1.0.12", "10.1.0.13"
GATEWAY, CENTRAL_FIP, LOCAL_FIP = "203.0.113.10", "203.0.113.60", "203.0.113.51"
CONTROL, DATA = 21, 50000
PATIENCE = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab.fresh_host() as host:
        world = World(host, tmp_path_factory.mktemp("world"), AgentMode.DVR_SNAT, Extension.CONNTRACK_HELPER)
        vms = [
            world.cloud.vm("plain", RED, PLAIN),
            world.cloud.vm("central", RED, CENTRAL, host=""),
            world.cloud.vm("local", RED, LOCAL),
        ]
        world.apply(router_of(world))
        world.boot(*vms)
        world.settle()
        yield world


def router_of(world: World, *more: tuple[str, str, int]) -> ExtendedRouter:
    router = ExtendedRouter(world.cloud, "main", [RED], helpers=[("ftp", "tcp", CONTROL), ("pptp", "tcp", 1723), *more])
    router.gateway(PUBLIC, GATEWAY)
    router.floating_ip(CENTRAL_FIP, world.cloud.vms["central"], central=True)
    router.floating_ip(LOCAL_FIP, world.cloud.vms["local"])
    return router


def test_second_run_writes_nothing(world: World) -> None:
    before = world.reconciler.kernel.counters.total()
    world.apply(router_of(world))
    assert world.reconciler.kernel.counters.total() == before


def active_mode(client: str, own: str, outside: str) -> None:
    """A client tells a server outside where to connect to; check that the server is told the outside address instead.

    :param own: the client's address
    """
    with listener("internet", CONTROL) as server, listener(client, DATA) as data:
        control, peer = dial(client, INTERNET, CONTROL, server)
        control.sendall(b"USER anonymous\r\n")
        assert receive(peer) == "USER anonymous"
        control.sendall(f"PORT {spelled(own, DATA)}\r\n".encode())
        address, port = endpoint(receive(peer))
        assert address == outside
        assert transfer("internet", (address, port), data) == b"data"
        control.close()
        peer.close()


@pytest.mark.parametrize(("client", "own", "outside"), [("plain", PLAIN, GATEWAY), ("local", LOCAL, LOCAL_FIP)])
def test_active_mode_from_inside(world: World, client: str, own: str, outside: str) -> None:
    """The server connects to the address in the client's command: the gateway's, or the floating IP."""
    active_mode(client, own, outside)


@pytest.mark.parametrize(("server", "own", "outside"), [("central", CENTRAL, CENTRAL_FIP), ("local", LOCAL, LOCAL_FIP)])
def test_passive_mode_from_outside(world: World, server: str, own: str, outside: str) -> None:
    """The client connects to the address in the server's answer: the floating IP."""
    with listener(server, CONTROL) as listening, listener(server, DATA) as data:
        control, peer = dial("internet", outside, CONTROL, listening)
        peer.sendall(b"220 ready\r\n")
        assert receive(control) == "220 ready"
        control.sendall(b"PASV\r\n")
        assert receive(peer) == "PASV"
        peer.sendall(f"227 Entering Passive Mode ({spelled(own, DATA)})\r\n".encode())
        address, port = endpoint(receive(control))
        assert address == outside
        assert transfer("internet", (address, port), data) == b"data"
        control.close()
        peer.close()


def test_a_legacy_router_has_them_in_its_only_namespace(world: World) -> None:
    legacy = router_of(world)
    legacy.legacy = True
    world.apply(legacy)
    active_mode("plain", PLAIN, GATEWAY)
    world.apply(router_of(world))


def test_a_helper_that_the_kernel_lacks_is_left_out_alone(world: World) -> None:
    """The last test: it changes the world."""
    (done,) = world.apply(router_of(world, ("nonsense", "tcp", 7777), ("ftp", "sctp", 7778), ("h323", "tcp", 1720)))
    assert done.plan.omitted == (
        "conntrack_helper: helper ftp for sctp port 7778: this kernel has no helper of this name for sctp",
        "conntrack_helper: helper nonsense for tcp port 7777: this kernel has no helper of this name for tcp",
    )
    router = router_of(world)
    for namespace in (router.snat_namespace, router.qrouter):
        for lines, names in zip(rule_lines(namespace), (["ftp", "Q.931", "pptp"], ["ftp", "Q.931"]), strict=True):
            assert re.findall(r"-j CT --helper (\S+)", "\n".join(lines)) == names
    router.helpers.clear()
    world.apply(router)
    assert world.reconciler.kernel.packet_filter.observe(router.snat_namespace, [(4, "raw")])[0].chains == ()


def listener(netns: str, port: int) -> socket.socket:
    with lab.entered(netns):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("", port))
    found.listen()
    found.settimeout(PATIENCE)
    return found


def dial(netns: str, address: str, port: int, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Connect; returns both ends."""
    with lab.entered(netns):
        caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    caller.settimeout(PATIENCE)
    caller.connect((address, port))
    accepted, _ = server.accept()
    accepted.settimeout(PATIENCE)
    return caller, accepted


def transfer(netns: str, target: tuple[str, int], server: socket.socket) -> bytes:
    """Connect to a data port and receive what its owner sends."""
    caller, accepted = dial(netns, *target, server)
    with caller, accepted:
        accepted.sendall(b"data")
        return caller.recv(16)


def receive(connection: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        text += connection.recv(200)
    return text.decode().strip()


def spelled(address: str, port: int) -> str:
    """As FTP commands have it (RFC 959)."""
    return ",".join((*address.split("."), str(port >> 8), str(port & 255)))


def endpoint(command: str) -> tuple[str, int]:
    *address, high, low = re.findall(r"\d+", command.partition("(")[2] or command)
    return ".".join(address), int(high) * 256 + int(low)
