"""One host in a process of its own, which measures when it is asked to."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TextIO

from bench import sandbox
from bench.packets.sender import BATCH, ETH_P_IP, Frames, addresses_of, packet_socket, udp_frame
from bench.packets.site import NOWHERE, Site, Way
from dvr_agent.kernel.netns import entered
from tests.support.waiting import wait_for

PACKET, CONNECTION = "packet", "connection"
KINDS = (PACKET, CONNECTION)
FIRST_PORT = 1024
LATE = 5.0
"""Seconds after which a packet is lost."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure.

    :ivar chosen: number of the floating IP that is used
    :ivar beside: number of other routers
    :ivar packets: of one connection, in each measurement; likewise ``connections``, of one packet each
    """

    method: str
    fips: int
    chosen: int
    beside: int
    packets: int
    connections: int


class Meter:
    """Sends packets through a host's router."""

    def __init__(self, task: Task) -> None:
        self._task, self._site = task, Site(task.method, task.fips, task.chosen, task.beside)
        self._sockets = {name: packet_socket(name, "eth0") for name in ("red", "internet")}
        self._nowhere = packet_socket("red", NOWHERE)
        self._counters = {name: _counters(name) for name in ("red", "blue", "internet")}
        self._frames = {
            (name, kind): self._make_frames(way, kind) for name, way in self._site.ways.items() for kind in KINDS
        }
        for name in self._site.ways:
            self._check(name)

    @property
    def ways(self) -> list[str]:
        return list(self._site.ways)

    def _make_frames(self, way: Way, kind: str) -> Frames:
        if kind == PACKET:
            return Frames([udp_frame(way.macs, way.sent, FIRST_PORT)] * BATCH)
        ports = range(FIRST_PORT, FIRST_PORT + self._task.connections)
        return Frames([udp_frame(way.macs, way.sent, port) for port in ports])

    def _check(self, name: str) -> None:
        """Send packets until one arrives (neighbours have to be found first), and compare its addresses."""
        way = self._site.ways[name]
        with packet_socket(way.sink, "eth0", ETH_P_IP) as sink:
            sink.settimeout(0.2)

            def attempt() -> bytes | None:
                self._frames[name, PACKET].send(self._sockets[way.sender], 1)
                with contextlib.suppress(TimeoutError):
                    return sink.recv(2048)
                return None

            arrived = addresses_of(wait_for(attempt, f"a packet arrives: {self._task.method}, {name}"))
        seen = way.seen if self._site.filtered else way.sent
        if arrived != seen:
            raise RuntimeError(f"{self._task.method}, {name}: {arrived} arrives instead of {seen}")

    def measure(self, name: str, kind: str) -> tuple[float, int]:
        """Return processor time for each packet without sending and dropping it, in ns, and how many were lost."""
        way, frames, count = self._site.ways[name], self._frames[name, kind], self._task.connections
        self._site.forget_connections()
        before = self._arrived(way.sink)
        if kind == PACKET:
            self._send(name, kind, 1, before)
            count, before = self._task.packets, self._arrived(way.sink)
        own = frames.send(self._nowhere, count)
        spent = self._send(name, kind, count, before)
        return (spent - own) / count, count - (self._arrived(way.sink) - before)

    def _send(self, name: str, kind: str, count: int, before: int) -> int:
        """Send packets and wait until they have arrived."""
        way = self._site.ways[name]
        spent = self._frames[name, kind].send(self._sockets[way.sender], count)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self._arrived(way.sink) - before >= count, patience=LATE)
        return spent

    def _arrived(self, namespace: str) -> int:
        """Return the number of IPv4 packets that a namespace has received."""
        file = self._counters[namespace]
        file.seek(0)
        names, values = (line.split() for line in file if line.startswith("Ip:"))
        return int(values[names.index("InReceives")])


def _counters(namespace: str) -> TextIO:
    with entered(namespace):
        return open("/proc/thread-self/net/snmp")  # stays open: it is read again and again


def serve(task: Task, pipe: Connection) -> None:
    """Become a host, and answer questions (way, kind) until there is none."""
    sandbox.fresh_root()
    meter = Meter(task)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pipe.send(meter.ways)
    while question := pipe.recv():
        pipe.send(meter.measure(*question))
    sandbox.settle(os.listdir("/run/netns"), ("tap",))
