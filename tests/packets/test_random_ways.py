"""The way that is computed is the way that packets take: random routers, faults and pairs of addresses.

A datagram is sent for each pair; every namespace listens.  Who got it, and with which addresses, must be what was
computed before it was sent.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from dvr_agent.kernel.survey.host import survey_host
from dvr_agent.trace.engine import Start, trace_all, trace_reply
from dvr_agent.trace.packet import UDP, Way, make_packet
from dvr_agent.trace.world import World as TracedWorld
from tests.support import lab
from tests.support.random_world import INNER_PORT, PORT, RandomWorld
from tests.support.waiting import wait_for

ROUTERS = ("qrouter-", "fip-", "snat-")
PAIRS_PER_WORLD = 20
WORLDS, WORLDS_FULL = 2, 25
GRACE = 0.3
"""Seconds after the last expected datagram in which others, that should not arrive, would have come."""
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50
"""include/uapi/linux/in.h and in6.h; the socket module has no name for the first."""


class Arrival(NamedTuple):
    """A datagram as a namespace got it."""

    namespace: str
    src: str
    dst: str
    dport: int


@dataclass
class Ears:
    """Sockets in all namespaces.

    :ivar heard: payload → arrivals
    """

    sockets: list[tuple[str, int, socket.socket]] = field(default_factory=list)
    heard: dict[str, list[Arrival]] = field(default_factory=dict)

    def open(self, netns: str) -> None:
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for port in (PORT, INNER_PORT):
                with lab.entered(netns):
                    ear = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    ear.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                else:
                    ear.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                ear.bind((any_address, port))
                ear.setblocking(False)
                self.sockets.append((netns, port, ear))

    def listen(self) -> None:
        """Take in what has arrived, and answer it from the address that it was sent to."""
        for netns, port, ear in self.sockets:
            with contextlib.suppress(OSError):
                while True:
                    data, ancillary, _flags, peer = ear.recvmsg(64, 256)
                    self.heard.setdefault(data.decode(), []).append(Arrival(netns, peer[0], _dst(ancillary), port))
                    with contextlib.suppress(OSError):
                        ear.sendmsg([data], [one for one in map(_answer_from, ancillary) if one], 0, peer)

    def close(self) -> None:
        for _netns, _port, ear in self.sockets:
            ear.close()


def _dst(ancillary: list[tuple[int, int, bytes]]) -> str:
    """The destination in the datagram's header."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def _answer_from(received: tuple[int, int, bytes]) -> tuple[int, int, bytes] | None:
    """What makes sendmsg(2) use the address that a datagram was sent to."""
    level, kind, data = received
    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
        return (level, kind, struct.pack("=I4s4s", 0, data[8:12], bytes(4)))
    if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
        return (level, kind, data[:16] + struct.pack("=I", 0))
    return None


@dataclass(frozen=True)
class Pair:
    """A datagram to send, and the ways that were computed for it and for the answer."""

    name: str
    netns: str
    src: str
    dst: str
    sport: int
    ways: list[tuple[Way, Way | None]]
    mouth: socket.socket

    @property
    def expected(self) -> set[tuple[Arrival | None, bool]]:
        """What may come of it: the arrival (None: it does not arrive), and whether the answer arrives."""
        return {(_arrival(way), self._comes_back(answer)) for way, answer in self.ways}

    @property
    def is_known(self) -> bool:
        return all(one is None or one.outcome != "unknown" for ways in self.ways for one in ways)

    def _comes_back(self, answer: Way | None) -> bool:
        if answer is None or answer.outcome != "delivered" or answer.at is None:
            return False
        head = answer.packet.head
        return (answer.at.namespace, head.dst, head.dport, head.src, head.sport) == (
            self.netns, self.src, self.sport, self.dst, PORT,
        )  # fmt: skip

    def send(self) -> None:
        with contextlib.suppress(OSError):
            if not self.mouth.getsockname()[1]:
                self.mouth.bind((self.src, self.sport))
            self.mouth.sendto(self.name.encode(), (self.dst, PORT))

    def answered(self) -> bool:
        """Whether an answer came, from the address that the datagram was sent to."""
        with contextlib.suppress(OSError):
            while True:
                data, peer = self.mouth.recvfrom(64)
                if data.decode() == self.name and peer[:2] == (self.dst, PORT):
                    return True
        return False

    def text(self, seen: tuple[Arrival | None, bool]) -> str:
        lines = [f"{self.name} {self.netns} {self.src} → {self.dst}: seen {seen}, computed {self.expected}"]
        for way in [one for ways in self.ways for one in ways if one is not None]:
            lines += [f"    {hop.namespace[:14]:14} {hop.where:16} {hop.text} {hop.after.text}" for hop in way.hops]
            lines.append(f"    {way.outcome}: {way.reason}")
        return "\n".join(lines)


def _arrival(way: Way) -> Arrival | None:
    if way.outcome != "delivered" or way.at is None:
        return None
    head = way.packet.head
    return Arrival(way.at.namespace, head.src, head.dst, head.dport)


def _pairs(traced: TracedWorld, made: RandomWorld, rng: random.Random) -> Iterator[Pair]:
    addresses = made.addresses()
    outer = [one for one in addresses if not one[0].startswith(ROUTERS)]
    for number in range(PAIRS_PER_WORLD):
        netns, src = rng.choice(outer if rng.random() < 0.75 else addresses)
        choices = (made.floating, [one for _netns, one in outer], [one for _netns, one in addresses], made.nowhere())
        fitting = [[one for one in found if (":" in one) == (":" in src)] for found in choices]
        dst = rng.choice(rng.choices(fitting, [3 * bool(fitting[0]), 3, 2, 1])[0])
        sport = 20000 + number
        ways = trace_all(traced, make_packet(src, dst, UDP, PORT, sport), Start(netns))
        answers = [trace_reply(traced, way) if way.outcome == "delivered" else None for way in ways]
        with lab.entered(netns):
            mouth = socket.socket(socket.AF_INET6 if ":" in src else socket.AF_INET, socket.SOCK_DGRAM)
        mouth.setblocking(False)
        yield Pair(f"pair {number}", netns, src, dst, sport, list(zip(ways, answers, strict=True)), mouth)


def compare(host: lab.Host, state_path: Path, rng: random.Random) -> tuple[list[str], Counter[str]]:
    """Make a world, send datagrams, compare; returns what disagrees, and the number of ways by outcome."""
    made = RandomWorld(host, state_path, rng)
    with contextlib.ExitStack() as closing:
        pairs = list(_pairs(survey_host(), made, rng))
        for pair in pairs:
            closing.enter_context(pair.mouth)
        ears = Ears()
        closing.callback(ears.close)
        for path in sorted(lab.NETNS.iterdir()):
            ears.open(path.name)
        seen = _exchange(pairs, ears)
    wrong = [pair.text(seen[pair.name]) for pair in pairs if pair.is_known and seen[pair.name] not in pair.expected]
    outcomes = Counter(str(way.outcome) for pair in pairs for way, _answer in pair.ways)
    outcomes["answered"] = sum(answered for _arrival, answered in seen.values())
    return (["\n".join([*made.story, *wrong])] if wrong else []), outcomes


def _exchange(pairs: list[Pair], ears: Ears) -> dict[str, tuple[Arrival | None, bool]]:
    """Send the datagrams and wait for them and their answers; returns what came of each."""
    answered: set[str] = set()

    def listen() -> None:
        ears.listen()
        answered.update(pair.name for pair in pairs if pair.answered())

    def all_here() -> bool:
        """Whether all is here that must come; what is not is sent again, as neighbour tables may have been full."""
        listen()
        sure = [pair for pair in pairs if pair.is_known]
        missing = [
            pair
            for pair in sure
            if (pair.name not in ears.heard and all(one for one, _back in pair.expected))
            or (pair.name not in answered and all(back for _one, back in pair.expected))
        ]
        for pair in missing:
            pair.send()
        return not missing

    for pair in pairs:
        pair.send()
        listen()
    with contextlib.suppress(AssertionError):  # what is missing is named by the caller
        wait_for(all_here, "the datagrams that must arrive", every=1)
    end = time.monotonic() + GRACE
    while time.monotonic() < end:  # nothing tells that a datagram will never arrive
        listen()
        time.sleep(GRACE / 10)  # a pause of the loop
    heard = {name: found[0] for name, found in ears.heard.items()}
    assert all(len(set(found)) == 1 for found in ears.heard.values()), "a datagram arrived in two places"
    return {pair.name: (heard.get(pair.name), pair.name in answered) for pair in pairs}


def check(tmp_path: Path, worlds: int, seed: int) -> None:
    rng = random.Random(seed)
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(worlds):
        state_path = tmp_path / str(number)
        state_path.mkdir()
        with lab.fresh_host() as host:
            found, counted = compare(host, state_path, rng)
        wrong += [f"world {number} of seed {seed}: {one}" for one in found]
        counts += counted
    print(f"--seed {seed}: {dict(counts)}")
    assert not wrong, "\n\n".join(wrong)
    assert counts["delivered"]
    assert counts["dropped"]
    assert counts["answered"]
    assert counts["unknown"] <= counts.total() / 10


def test_computed_ways_are_those_that_packets_take(tmp_path: Path) -> None:
    check(tmp_path, WORLDS, seed=14)


@pytest.mark.full
def test_computed_ways_of_five_hundred_random_pairs_are_those_that_packets_take(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    check(tmp_path, WORLDS_FULL, request.config.getoption("--seed") or random.SystemRandom().randrange(1, 1 << 31))
