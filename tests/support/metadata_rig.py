"""A dvr-metadata-proxy with its upstream and a served router; a plugin with the fixtures ``rig`` and ``start``."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.metadata_proxy.client_socket import RESET
from tests.support.lab import Host
from tests.support.metadata_proxy import Client, Proxy, listener
from tests.support.metadata_upstream import Upstream

R1, R2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
MANY = {"connections_per_client": 100000, "connections_per_router": 100000}


class Rig:
    """A proxy, its upstream, and router R1 served on 127.0.0.1."""

    def __init__(self, tmp: Path, options: dict[str, dict[str, Any]], descriptors: int | None) -> None:
        self.upstream = Upstream(tmp / "upstream")
        self.proxy = Proxy(tmp, self.upstream.path, options, descriptors)
        self.agent = self.proxy.agent()
        self.one = listener()
        self.agent.serve(R1, [self.one])

    def second_router(self) -> socket.socket:
        another = listener()
        self.agent.serve(R2, [another])
        return another

    def status(self) -> dict[str, Any]:
        agent = self.proxy.agent()
        try:
            return agent.ask("status")
        finally:
            agent.close()

    def refused(self, cause: str) -> int:
        return int(self.status()["refused"].get(cause, 0))


def reset(client: Client) -> None:
    """Close, so that the other side sees a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def is_stuck(client: Client) -> bool:
    """What waits at the other end for this client to be taken does not become more or less."""

    def waiting() -> tuple[int, ...]:
        words = ["ss", "-Htn", "dst", f"127.0.0.1:{client.socket.getsockname()[1]}"]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        return int(out[1]), int(out[2])

    before = waiting()
    time.sleep(0.3)  # time is what is tested: the numbers stay the same meanwhile
    return before[1] > 0 and waiting() == before


def is_turned_away(target: socket.socket) -> bool:
    """True if a new connection is closed at once."""
    try:
        return Client(target).is_closed()
    except ConnectionResetError:
        return True


def memory(rig: Rig) -> int:
    """Most bytes that the proxy had so far."""
    peak = next(x for x in Path(f"/proc/{rig.proxy.process.pid}/status").read_text().splitlines() if "VmHWM" in x)
    return int(peak.split()[1]) * 1024


Start = Callable[..., Rig]


@pytest.fixture
def start(tmp_path: Path, host: Host) -> Iterator[Start]:
    rigs: list[Rig] = []

    def begin(descriptors: int | None = None, **options: dict[str, Any]) -> Rig:
        rigs.append(Rig(tmp_path, options, descriptors))
        return rigs[-1]

    yield begin
    for rig in rigs:
        rig.proxy.close()
        rig.upstream.stop()


@pytest.fixture
def rig(start: Start) -> Rig:
    return start()
