"""A daemon with many routers, and what it takes: memory, descriptors, threads, namespaces, time to answer."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from bench import documents
from tests.support import lab
from tests.support.background import Background
from tests.support.daemon_lab import Daemon


class Usage(NamedTuple):
    """What a process holds.

    :ivar targets: what its descriptors are, such as ``socket`` or a path
    """

    rss_mb: float
    fds: int
    threads: int
    namespaces: int
    targets: Counter[str]


def open_daemon(base: Path, mode: str = "dvr", module: str = "dvr_agent.cli.agent") -> Daemon:
    """Make the calling thread's network namespace a host for the routers of ``bench.documents``.

    :returns: its daemon, which is not started yet
    """
    lab.run("ip", "link", "set", "lo", "up")
    lab.Host().bridge(documents.EXTERNAL_BRIDGE)
    return Daemon(
        base,
        module,
        DEFAULT={"host": documents.HOST, "agent_mode": mode, "interface_driver": "bridge"},
        bridge={"external_networks": f"{documents.EXTERNAL_NETWORK}:{documents.EXTERNAL_BRIDGE}"},
    )


class LoadHost:
    """The calling thread's network namespace as a host, with a daemon that is not started yet."""

    def __init__(self, module: str = "dvr_agent.cli.agent") -> None:
        self._exits, self._module = ExitStack(), module

    def __enter__(self) -> Self:
        base = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="dvr-load-")))
        self.daemon = open_daemon(base, module=self._module)
        self._exits.callback(self.daemon.kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def write(self, number: int, fips: int) -> None:
        """Put the document of a router into the directory, by an atomic rename."""
        path = self.daemon.routers / f"{number}.json"
        path.with_suffix(".new").write_bytes(documents.document(number, fips=fips))
        path.with_suffix(".new").rename(path)

    def usage(self) -> Usage:
        """Return what the daemon holds now."""
        assert self.daemon.process is not None
        proc = Path(f"/proc/{self.daemon.process.pid}")
        rss = re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())
        assert rss is not None
        fds, tasks = os.listdir(proc / "fd"), os.listdir(proc / "task")
        return Usage(int(rss[1]) / 1024, len(fds), len(tasks), len(os.listdir(lab.NETNS)), _targets(proc, fds))

    def states(self) -> Counter[str]:
        """Return how many routers are in each state."""
        return Counter(one["state"] for one in self.daemon.status()["routers"])

    def counters(self) -> dict[str, Any]:
        """Return the daemon's own counters."""
        found: dict[str, Any] = self.daemon.status()["counters"]
        return found


def _targets(proc: Path, fds: list[str]) -> Counter[str]:
    """Return what descriptors are, without the numbers of sockets and pipes."""
    found: Counter[str] = Counter()
    for fd in fds:
        with suppress(OSError):  # closed meanwhile
            found[os.readlink(proc / "fd" / fd).partition(":[")[0]] += 1
    return found


class Questioner(Background):
    """Asks the daemon's admin socket again and again, and notes how long the answers take.

    :ivar seconds: of each answer
    :ivar lateness: how late this thread itself was woken, at worst: what the machine is to blame for
    """

    EVERY = 0.05

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self._daemon = daemon
        self.seconds: list[float] = []
        self.lateness = 0.0

    def work(self) -> None:
        due = time.monotonic()
        while not self.stop.is_set():
            due = max(due + self.EVERY, time.monotonic() + self.EVERY / 2)
            self.stop.wait(max(0.0, due - time.monotonic()))
            self.lateness = max(self.lateness, time.monotonic() - due)
            if self._daemon.socket.exists():
                self._ask()

    def _ask(self) -> None:
        started = time.monotonic()
        try:
            self._daemon.ask("/routers/11111111-2222-4333-8444-555555555555")
        except (FileNotFoundError, ConnectionRefusedError):
            return  # it does not listen yet
        self.seconds.append(time.monotonic() - started)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of the values lies."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
