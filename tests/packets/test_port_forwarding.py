"""Packets to ports of a floating IP reach the ports of instances that they are forwarded to, and answers come back."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from tests.support import lab
from tests.support.forwarding_documents import ForwardingRouter
from tests.support.packet_documents import Network
from tests.support.packet_world import INTERNET, PUBLIC, World

RED = Network("red", ("10.1.0.0/24",))
WEB, NAME, LOCAL = "10.1.0.11", "10.1.0.12", "10.1.0.13"
FIP, SECOND, PLAIN, GATEWAY = "203.0.113.70", "203.0.113.71", "203.0.113.72", "203.0.113.10"
PATIENCE = 60


def router_of(world: World) -> ForwardingRouter:
    router = ForwardingRouter(world.cloud, "main", [RED], legacy=world.cloud.vms["web"].host == "")
    router.gateway(PUBLIC, GATEWAY)
    vms = world.cloud.vms
    router.floating_ip(PLAIN, vms["local"])
    router.forward(FIP, "tcp", "2222", vms["web"], "22").forward(FIP, "udp", "5353", vms["name"], "53")
    router.forward(FIP, "udp", "9000:9009", vms["web"], "8000:8009").forward(FIP, "tcp", "7000:7003", vms["web"], "80")
    router.forward(FIP, "udp", "6000:6001", vms["web"], "6000:6001")
    # As neutron-server has them after a request that sets one of the two ranges only.
    router.forward(FIP, "udp", "33403", vms["web"], "12730:12733").forward(
        FIP, "udp", "34000:34005", vms["web"], "8100:8103"
    )
    return router.forward(FIP, "sctp", "3000:3009", vms["web"], "4000:4009")


def namespace_of(world: World) -> str:
    router = router_of(world)
    return router.qrouter if router.legacy else router.snat_namespace


@pytest.fixture(scope="module", params=["distributed", "legacy"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab.fresh_host() as host:
        world = World(host, tmp_path_factory.mktemp("world"), AgentMode.DVR_SNAT, Extension.PORT_FORWARDING)
        where = "" if request.param == "legacy" else None  # instances of a legacy router may be anywhere
        instances = (("web", WEB), ("name", NAME), ("local", LOCAL))
        vms = [world.cloud.vm(name, RED, one, host=where) for name, one in instances]
        world.apply(router_of(world))
        world.boot(*vms)
        world.settle()
        yield world


@pytest.fixture(autouse=True)
def first_state(world: World) -> None:
    world.apply(router_of(world))


@contextlib.contextmanager
def udp_socket(netns: str, address: str = "0.0.0.0", port: int = 0) -> Iterator[socket.socket]:
    with lab.entered(netns):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with opened:
        opened.bind((address, port))
        opened.settimeout(PATIENCE)
        yield opened


def udp_peer(server: str, address: str, port: int, client: str, target: str, to_port: int) -> str:
    """Ask by UDP and answer; returns the source address that the server saw."""
    with udp_socket(server, address, port) as listening, udp_socket(client) as asking:
        asking.sendto(b"question", (target, to_port))
        data, peer = listening.recvfrom(100)
        assert data == b"question"
        listening.sendto(b"answer", peer)
        assert asking.recvfrom(100) == (b"answer", (target, to_port))
        return str(peer[0])


def tcp_peer(server: str, port: int, client: str, target: str, to_port: int) -> str:
    """Connect, and exchange a byte; returns the source address that the server saw."""
    with lab.entered(server):
        listening = socket.create_server(("0.0.0.0", port))
    with lab.entered(client):
        asking = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listening, asking:
        asking.settimeout(PATIENCE)
        asking.connect((target, to_port))
        listening.settimeout(PATIENCE)
        connection, peer = listening.accept()
        with connection:
            connection.sendall(b"x")
            assert asking.recv(1) == b"x"
        return str(peer[0])


def flows(world: World) -> set[str]:
    """``protocol port`` of the connections that began to the floating IP."""
    lines = lab.in_netns(namespace_of(world), "conntrack", "-L", "-d", FIP).splitlines()
    return {f"{line.split()[0]} {line.split('dport=')[1].split()[0]}" for line in lines if line}


def test_second_run_writes_nothing(world: World) -> None:
    before = world.reconciler.kernel.counters.total()
    world.apply(router_of(world))
    assert world.reconciler.kernel.counters.total() == before


def test_tcp_from_outside_keeps_the_callers_address(world: World) -> None:
    assert tcp_peer("web", 22, "internet", FIP, 2222) == INTERNET


@pytest.mark.parametrize("port", [7000, 7003])
def test_all_ports_of_a_range_lead_to_one_port(world: World, port: int) -> None:
    assert tcp_peer("web", 80, "internet", FIP, port) == INTERNET


def test_udp_from_outside(world: World) -> None:
    assert udp_peer("name", NAME, 53, "internet", FIP, 5353) == INTERNET


@pytest.mark.parametrize(("to_port", "port"), [(9000, 8000), (9004, 8004), (9009, 8009), (6001, 6001)])
def test_ranges_are_shifted_one_to_one(world: World, to_port: int, port: int) -> None:
    assert udp_peer("web", WEB, port, "internet", FIP, to_port) == INTERNET


@pytest.mark.parametrize(
    ("to_port", "port"), [(33403, 12730), (34000, 8100), (34003, 8103), (34004, 8100), (34005, 8101)]
)
def test_a_range_leads_to_a_larger_or_a_smaller_one(world: World, to_port: int, port: int) -> None:
    assert udp_peer("web", WEB, port, "internet", FIP, to_port) == INTERNET


def test_other_ports_lead_nowhere(world: World) -> None:
    with pytest.raises(ConnectionRefusedError):
        tcp_peer("web", 2223, "internet", FIP, 2223)


@pytest.mark.parametrize(("client", "seen"), [("name", GATEWAY), ("web", GATEWAY), ("local", PLAIN)])
def test_from_inside(world: World, client: str, seen: str) -> None:
    """Answers have to come back by the snat namespace, so that callers show as the gateway, or as their floating IP."""
    assert tcp_peer("web", 22, client, FIP, 2222) == seen
    assert udp_peer("web", WEB, 8003, client, FIP, 9003) == seen


def test_sctp_ports_are_translated(world: World) -> None:
    """There is no SCTP in this kernel but in connection tracking: what arrives is read as it is."""
    with lab.entered("web"):
        listening = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    with lab.entered("internet"):
        sending = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    with listening, sending:
        listening.settimeout(PATIENCE)
        sending.sendto(sctp_init(1234, 3004), (FIP, 0))
        packet = listening.recv(200)
        assert struct.unpack_from("!HH", packet, (packet[0] & 0xF) * 4) == (1234, 4004)


def sctp_init(source: int, destination: int) -> bytes:
    """An SCTP packet with an INIT chunk (RFC 9260)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
    bare = struct.pack("!HHII", source, destination, 0, 0) + chunk
    return bare[:8] + struct.pack("<I", crc32c(bare)) + bare[12:]


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_connections_of_a_changed_forwarding_end_and_others_stay(world: World) -> None:
    tcp_peer("web", 22, "internet", FIP, 2222)
    udp_peer("name", NAME, 53, "internet", FIP, 5353)
    udp_peer("web", WEB, 8004, "internet", FIP, 9004)
    udp_peer("web", WEB, 6000, "internet", FIP, 6000)
    assert flows(world) >= {"tcp 2222", "udp 5353", "udp 9004", "udp 6000"}
    router = router_of(world)
    router.forward(FIP, "udp", "5353", world.cloud.vms["web"], "5300")
    router.forward(FIP, "udp", "9000:9009", world.cloud.vms["name"], "8000:8009")
    world.apply(router)
    assert flows(world) >= {"tcp 2222", "udp 6000"}
    assert flows(world).isdisjoint({"udp 5353", "udp 9004"})
    assert udp_peer("web", WEB, 5300, "internet", FIP, 5353) == INTERNET
    assert udp_peer("name", NAME, 8004, "internet", FIP, 9004) == INTERNET
    del router.forwardings[f"{FIP} udp 6000:6001"]
    world.apply(router)
    assert "udp 6000" not in flows(world)
    assert "udp 5353" in flows(world)


def test_what_came_before_the_forwarding_does_not_keep_it_from_working(world: World) -> None:
    """Connection tracking decides at the first packet: one to a port without forwarding would stay untranslated."""
    with udp_socket("name", NAME, 1000) as listening, udp_socket("internet") as asking:
        asking.sendto(b"early", (FIP, 1001))
        world.apply(router_of(world).forward(FIP, "udp", "1001", world.cloud.vms["name"], "1000"))
        asking.sendto(b"late", (FIP, 1001))
        assert listening.recvfrom(10)[0] == b"late"


def test_address_goes_with_its_last_forwarding(world: World) -> None:
    router = router_of(world).forward(SECOND, "udp", "5353", world.cloud.vms["name"], "53")
    world.apply(router)
    assert udp_peer("name", NAME, 53, "internet", SECOND, 5353) == INTERNET
    namespace = namespace_of(world)
    assert f"{SECOND}/32" in lab.run("ip", "-n", namespace, "addr")
    world.apply(router_of(world))
    assert f"{SECOND}/32" not in lab.run("ip", "-n", namespace, "addr")
    assert SECOND not in lab.in_netns(namespace, "conntrack", "-L")


def test_unknown_objects_leave_rules_and_addresses_as_they_are(world: World) -> None:
    router = router_of(world)
    router.unknown = True
    world.start_agent()
    (result,) = world.apply(router)
    assert not result.plan
    assert [text for text in result.plan.omitted if text.startswith("port_forwarding: ")]
    assert udp_peer("web", WEB, 8004, "internet", FIP, 9004) == INTERNET
