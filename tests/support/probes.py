"""Traffic that goes on while something changes, and ears on the wire."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple, Self

from tests.support import lab
from tests.support.background import Background
from tests.support.waiting import PATIENCE, wait_for

ETH_P_ALL, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0806, 0x0800, 0x86DD
INTERVAL = 0.02
"""Seconds between two echo requests: 50 a second."""
LATE = 10.0
"""Seconds that an answer may be late on a busy machine; nothing waits that long if none is missing."""
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h; the socket module has no name for it."""
RECEIVE_BUFFER = 1 << 22


class Pinger(Background):
    """ICMP echo at 50 a second from a namespace, for as long as the ``with`` block lasts.

    Counts exactly: when the block ends it sends no more, and waits for answers that are still under way.
    """

    def __init__(self, netns: str, target: str) -> None:
        super().__init__()
        with lab.entered(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        # Every raw socket of a namespace gets every answer, and whoever listens may have to wait for a processor.
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        self._socket.connect((target, 0))
        self._socket.setblocking(False)
        self._id = id(self) >> 4 & 0xFFFF
        self.sent = 0
        self.answered: set[int] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        self.run_for(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.run_for(5)
        super().__exit__()

    def close(self) -> None:
        self._socket.close()

    @property
    def lost(self) -> list[int]:
        """Sequence numbers without an answer; read it after the block."""
        return sorted(set(range(self.sent)) - self.answered)

    def run_for(self, requests: int) -> None:
        """Return when so many more requests have been sent."""
        goal = self.sent + requests
        wait_for(
            lambda: self.sent >= goal or not self.is_alive(),
            f"{requests} requests",
            requests * INTERVAL + PATIENCE,
        )

    def work(self) -> None:
        due = time.monotonic()
        while not self.stop.is_set():
            with contextlib.suppress(OSError):
                self._socket.send(echo_request(self._identity(self.sent), self.sent & 0xFFFF))
            self.sent += 1
            due = max(due + INTERVAL, time.monotonic() - INTERVAL)
            self._listen(due)
        end = time.monotonic() + LATE
        while self.lost and time.monotonic() < end:
            self._listen(min(end, time.monotonic() + 0.05))

    def _listen(self, until: float) -> None:
        """Take in answers until that time."""
        while (left := until - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
            with contextlib.suppress(OSError):
                packet = self._socket.recv(2048)
                reply = packet[(packet[0] & 0xF) * 4 :]
                kind, _, _, identity, sequence = struct.unpack_from("!BBHHH", reply)
                if kind == 0 and identity == self._identity(sequence):
                    self.answered.add(sequence)

    def _identity(self, sequence: int) -> int:
        """The identifier of a request; connection tracking takes requests of one identifier for one connection."""
        return self._id


def echo_request(identity: int, sequence: int) -> bytes:
    """RFC 792 echo request with 8 bytes of data."""
    data = b"dvrdvr00"
    bare = struct.pack("!BBHHH", 8, 0, 0, identity, sequence) + data
    total = sum(struct.unpack(f"!{len(bare) // 2}H", bare))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return struct.pack("!BBHHH", 8, 0, checksum, identity, sequence) + data


class Echo(Background):
    """A TCP server in a namespace that answers every message with its own name, on any address, for many clients."""

    def __init__(self, netns: str, port: int = 7000) -> None:
        super().__init__()
        self.name, self.peers = netns, list[str]()
        with lab.entered(netns):
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("0.0.0.0", port))
        self._listener.listen(32)
        self._connections: list[socket.socket] = []

    def close(self) -> None:
        for one in (self._listener, *self._connections):
            one.close()

    def work(self) -> None:
        while not self.stop.is_set():
            ready = select.select([self._listener, *self._connections], [], [], 0.02)[0]
            for one in ready:
                if one is self._listener:
                    connection, peer = one.accept()
                    self.peers.append(peer[0])
                    self._connections.append(connection)
                    continue
                try:
                    data = one.recv(4096)
                except OSError:
                    data = b""
                if data:
                    with contextlib.suppress(OSError):
                        one.sendall(self.name.encode())
                else:
                    self._connections.remove(one)
                    one.close()


class Flow:
    """A TCP connection from a namespace to an :class:`Echo`."""

    def __init__(self, netns: str, target: str, port: int = 7000, timeout: float = LATE) -> None:
        with lab.entered(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._socket.connect((target, port))

    def ask(self, timeout: float = 3) -> str | None:
        """Name of who answers, None when nobody does within ``timeout`` seconds or the connection is reset."""
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(b"who")
            return self._socket.recv(4096).decode() or None
        except OSError:
            return None

    def close(self) -> None:
        self._socket.close()


class Conversation(Background):
    """A TCP connection to an :class:`Echo` that asks again and again without a pause, as long as the block lasts.

    :param patience: seconds without an answer that break it
    :ivar broken: an answer did not come, or the connection was reset
    """

    def __init__(self, netns: str, target: str, port: int = 7000, patience: float = 3) -> None:
        super().__init__()
        self._flow, self._patience = Flow(netns, target, port), patience
        self.answers = 0
        self.broken = False

    def __enter__(self) -> Self:
        assert self._flow.ask(self._patience) is not None
        return super().__enter__()

    def work(self) -> None:
        while not self.stop.is_set():
            if self._flow.ask(self._patience) is None:
                self.broken = True
                return
            self.answers += 1
            self.stop.wait(INTERVAL / 2)

    def close(self) -> None:
        self._flow.close()


def who_answers(netns: str, target: str, port: int = 7000) -> str | None:
    """A new connection: which :class:`Echo` takes it?"""
    told = lab.watched(lab.Probe(netns, target, "tcp", port))
    try:
        flow = Flow(netns, target, port)
    except OSError:
        told(None)
        return None
    try:
        answer = flow.ask()
    finally:
        flow.close()
    told(lab.Seen(answer) if answer else None)
    return answer


class Mirror(Background):
    """A UDP server in a namespace that answers every datagram with the address it came from."""

    def __init__(self, netns: str, port: int = 7001) -> None:
        super().__init__()
        with lab.entered(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", port))

    def close(self) -> None:
        self._socket.close()

    def work(self) -> None:
        while not self.stop.is_set():
            if select.select([self._socket], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    data, peer = self._socket.recvfrom(2048)
                    self._socket.sendto(data + peer[0].encode(), peer)


class Stream:
    """Datagrams from one socket of a namespace to a :class:`Mirror`: one connection, as conntrack sees it."""

    def __init__(self, netns: str, target: str, port: int = 7001) -> None:
        with lab.entered(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((target, port))
        self._number = 0

    def seen_as(self, seconds: float = 10) -> str | None:
        """The address that the mirror sees, None if no answer comes in that time; goes on asking until then."""
        end = time.monotonic() + seconds
        self._socket.settimeout(0.1)
        while time.monotonic() < end:
            self._number += 1
            question = b"%d " % self._number
            with contextlib.suppress(OSError):
                self._socket.send(question)
                answer = self._socket.recv(2048)
                if answer.startswith(question):  # not a late answer to an earlier one
                    return answer.removeprefix(question).decode()
        return None

    def close(self) -> None:
        self._socket.close()


class Arp(NamedTuple):
    operation: int
    """1 request, 2 reply."""
    sender_mac: str
    sender: str
    target: str


@contextlib.contextmanager
def arp_seen(netns: str, device: str = "eth0") -> Iterator[list[Arp]]:
    """ARP packets that come in by the device during the block and a little after; filled when the block has ended."""
    seen: list[Arp] = []
    with lab.entered(netns):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
        ear.bind((device, ETH_P_ARP))
    try:
        yield seen
        while select.select([ear], [], [], 0.3)[0]:
            frame = ear.recv(2048)
            operation, mac, sender, _, target = struct.unpack_from("!6xH6s4s6s4s", frame, 14)
            seen.append(Arp(operation, mac.hex(":"), socket.inet_ntoa(sender), socket.inet_ntoa(target)))
    finally:
        ear.close()


@contextlib.contextmanager
def frames_from(netns: str, mac: str, device: str = "eth0") -> Iterator[set[str]]:
    """IP source addresses of the packets that come in by the device with this MAC; filled when the block has ended.

    Tells which way a packet took where its addresses alone do not.
    """
    seen: set[str] = set()
    with lab.entered(netns):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        ear.bind((device, ETH_P_ALL))
    try:
        yield seen
        while select.select([ear], [], [], 0.05)[0]:
            frame = ear.recv(2048)
            kind = int.from_bytes(frame[12:14], "big")
            if frame[6:12].hex(":") == mac and kind == ETH_P_IP:
                seen.add(socket.inet_ntop(socket.AF_INET, frame[26:30]))
            elif frame[6:12].hex(":") == mac and kind == ETH_P_IPV6:
                source = socket.inet_ntop(socket.AF_INET6, frame[22:38])
                if not source.startswith(("fe80:", "::")):  # the kernel's own, sent whenever it likes
                    seen.add(source)
    finally:
        ear.close()


def tracked(netns: str, *addresses: str) -> list[str]:
    """Connections of a namespace's conntrack table that mention all of the addresses."""
    lines = lab.in_netns(netns, "conntrack", "-L", "-f", "ipv4", check=False).splitlines()
    return [line for line in lines if all(f"={address} " in line for address in addresses)]
