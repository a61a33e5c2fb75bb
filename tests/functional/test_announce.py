"""Announcements reach a neighbour: its caches change, and the frames are what arping and RFC 4861 say."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel import packet_sockets
from dvr_agent.kernel.announce import PacketAnnouncer
from dvr_agent.kernel.api import GratuitousArp, WriteCounters
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.netns import cookie_of
from dvr_agent.kernel.packet_sockets import MOST, PacketSockets
from dvr_agent.state.address import Address
from dvr_agent.state.namespace import Announcement
from tests.support import lab
from tests.support.waiting import wait_for

MAC = "fa:16:3e:00:00:01"
STALE = "fa:16:3e:99:99:99"
V4, V6 = "10.7.0.1", "fd00:7::1"


@pytest.fixture
def sockets() -> PacketSockets:
    return PacketSockets()


@pytest.fixture
def namespaces() -> RealNamespaces:
    return RealNamespaces(WriteCounters())


@pytest.fixture
def announcer(host: lab.Host, sockets: PacketSockets) -> PacketAnnouncer:
    """A gateway and a neighbour on one bridge, and what announces the gateway."""
    host.bridge("br-a")
    host.vm("gateway", "br-a", (f"{V4}/24", f"{V6}/64"), mac=MAC)
    host.vm("neighbour", "br-a", ("10.7.0.2/24", "fd00:7::2/64"))
    return PacketAnnouncer(sockets)


@pytest.fixture
def listener(announcer: PacketAnnouncer) -> Iterator[socket.socket]:
    """A raw socket on the neighbour's interface."""
    with lab.entered("neighbour"):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    sock.bind(("eth0", 0x0003))
    sock.settimeout(5)
    with sock:
        yield sock


def announcement(address: str, device: str = "eth0") -> Announcement:
    return Announcement(device, address, because=Address(device, f"{address}/32"))


def announcing_frames(sock: socket.socket, count: int) -> list[bytes]:
    """The next ARP frames and neighbour advertisements that come from the gateway's MAC."""
    found: list[bytes] = []
    while len(found) < count:
        frame = sock.recv(2048)
        if frame[6:12] == bytes.fromhex(MAC.replace(":", "")) and (
            frame[12:14] == b"\x08\x06" or (frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136)
        ):
            found.append(frame)
    return found


def lladdr(address: str) -> str:
    (entry,) = lab.ip_json("neigh", "show", address, netns="neighbour")
    return str(entry["lladdr"])


@pytest.mark.parametrize("address", [V4, V6])
def test_a_stale_cache_entry_of_a_neighbour_is_corrected(
    announcer: PacketAnnouncer, listener: socket.socket, address: str
) -> None:
    lab.run("ip", "-n", "neighbour", "neigh", "replace", address, "lladdr", STALE, "dev", "eth0", "nud", "stale")
    assert lladdr(address) == STALE
    announcer.announce("gateway", [announcement(address)])
    announcing_frames(listener, 1)
    assert lladdr(address) == MAC


def test_ipv4_frames_are_those_of_arping(announcer: PacketAnnouncer, listener: socket.socket) -> None:
    announcer.announce("gateway", [announcement(V4)])
    ours = announcing_frames(listener, 2)
    for flag in ("-U", "-A"):
        lab.in_netns("gateway", "arping", flag, "-c", "1", "-w", "1", "-I", "eth0", V4, check=False)
    assert ours == announcing_frames(listener, 2)
    assert [struct.unpack_from("!H", frame, 20)[0] for frame in ours] == [1, 2]


def test_each_ipv4_frame_can_be_sent_alone(announcer: PacketAnnouncer, listener: socket.socket) -> None:
    for arp in (GratuitousArp.REPLY, GratuitousArp.REQUEST):
        announcer.announce("gateway", [announcement(V4), announcement(V6)], arp)
    ours = announcing_frames(listener, 4)
    assert [struct.unpack_from("!H", frame, 20)[0] for frame in ours if frame[12:14] == b"\x08\x06"] == [2, 1]


@pytest.mark.parametrize("arp", [GratuitousArp.REQUEST, GratuitousArp.REPLY])
def test_each_ipv4_frame_alone_corrects_a_neighbours_cache(
    announcer: PacketAnnouncer, listener: socket.socket, arp: GratuitousArp
) -> None:
    lab.run("ip", "-n", "neighbour", "neigh", "replace", V4, "lladdr", STALE, "dev", "eth0", "nud", "stale")
    announcer.announce("gateway", [announcement(V4)], arp)
    announcing_frames(listener, 1)
    assert lladdr(V4) == MAC


def test_ipv6_frame_is_an_unsolicited_advertisement(announcer: PacketAnnouncer, listener: socket.socket) -> None:
    announcer.announce("gateway", [announcement(V6)])
    (frame,) = announcing_frames(listener, 1)
    mac, target = bytes.fromhex(MAC.replace(":", "")), socket.inet_pton(socket.AF_INET6, V6)
    assert frame[:14] == bytes.fromhex("333300000001") + mac + b"\x86\xdd"
    length, next_header, hops = struct.unpack_from("!HBB", frame, 18)
    assert (length, next_header, hops) == (32, socket.IPPROTO_ICMPV6, 255)
    assert frame[22:38] == target
    assert frame[38:54] == socket.inet_pton(socket.AF_INET6, "ff02::1")
    kind, code, _, flags = struct.unpack_from("!BBHI", frame, 54)
    assert (kind, code, flags) == (136, 0, 0xA0000000), "router and override, not solicited"
    assert frame[62:78] == target
    assert frame[78:] == b"\x02\x01" + mac
    # RFC 4443, 2.3: the sum over pseudo header and message with its checksum is all ones.
    words = struct.unpack("!36H", frame[22:54] + struct.pack("!II", 32, 58) + frame[54:])
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_a_missing_device_is_named_and_the_others_are_announced(
    announcer: PacketAnnouncer, listener: socket.socket
) -> None:
    wanted = [announcement(V4, "qg-gone"), announcement(V4), announcement(V6, "qg-gone"), announcement(V6)]
    with pytest.raises(KernelError, match=r"namespace gateway: announcement of 10\.7\.0\.1 dev qg-gone") as caught:
        announcer.announce("gateway", wanted)
    assert caught.value.code == errno.ENODEV
    assert "1 more failed" in caught.value.hint
    assert {frame[12:14] for frame in announcing_frames(listener, 3)} == {b"\x08\x06", b"\x86\xdd"}


def test_a_device_without_ethernet_addresses_is_refused(announcer: PacketAnnouncer) -> None:
    with pytest.raises(KernelError, match="dev lo") as caught:
        announcer.announce("gateway", [announcement(V4, "lo")])
    assert caught.value.code == errno.EPFNOSUPPORT


def test_nothing_to_announce_opens_nothing(announcer: PacketAnnouncer) -> None:
    announcer.announce("no-such-namespace", [])


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_socket_is_left_open(announcer: PacketAnnouncer) -> None:
    before = _descriptors()
    announcer.announce("gateway", [announcement(V4), announcement(V6)])
    with pytest.raises(KernelError):
        announcer.announce("gateway", [announcement(V4, "qg-gone")])
    wait_for(lambda: _descriptors() == before, "the sockets are closed")


def test_few_sockets_are_kept_and_the_next_announcement_takes_one(
    host: lab.Host, sockets: PacketSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_sockets, "LINGER", 60)
    names = [f"ns-{number}" for number in range(MOST + 2)]
    for name in names:
        lab.run("ip", "netns", "add", name)
    before = _descriptors()
    used: dict[str, set[socket.socket]] = {}
    for name in [names[0], names[1], names[0], *names[2:], *reversed(names)]:
        with sockets.open(name) as sock:
            used.setdefault(name, set()).add(sock)
    assert len(used[names[-1]]) == 1
    assert len(used[names[0]]) == 2
    wait_for(lambda: _descriptors() == before + MOST, "the others are closed")
    for name in names:
        sockets.drop(name)
    wait_for(lambda: _descriptors() == before, "a dropped socket is closed")


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_socket_does_not_keep_a_namespace_that_is_removed(
    host: lab.Host, namespaces: RealNamespaces, is_ours: bool
) -> None:
    for _ in range(2):
        namespaces.create("one")
        lab.run("ip", "link", "add", "outer", "type", "veth", "peer", "name", "inner", "netns", "one")
        with namespaces.packet_sockets.open("one") as sock:
            cookie = cookie_of(sock)
        with namespaces.packet_sockets.open("one") as sock:
            assert cookie_of(sock) == cookie
        if is_ours:
            namespaces.remove("one")
        else:
            lab.run("ip", "netns", "delete", "one")
            namespaces.create("one")
            with namespaces.packet_sockets.open("one") as sock:
                assert cookie_of(sock) != cookie
        wait_for(lambda: "outer" not in lab.run("ip", "-br", "link"), "the namespace ends, and its devices with it")
        namespaces.remove("one")


def test_without_threads_sockets_are_closed_at_once(
    host: lab.Host, sockets: PacketSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("ip", "netns", "add", "one")
    before = _descriptors()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with sockets.open("one"):
        pass
    assert _descriptors() == before
