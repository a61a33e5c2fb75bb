"""Measures how long drift stands until it is repaired, per kind of object."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import documents
from bench.reliability.api import Figure, Options
from bench.reliability.load_host import open_daemon
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.waiting import wait_for

GOAL = 1.0
"""Seconds: the promise."""
FIP = f"fip-{documents.EXTERNAL_NETWORK}"
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Change:
    """A foreign change of a router.

    :ivar command: words of a shell command
    :ivar shows: words of a command whose output is the same again when the change is repaired
    """

    command: str
    shows: str


@dataclass(slots=True)
class Times:
    """Seconds until repair, by kind."""

    of_kind: dict[str, list[float]] = field(default_factory=dict)

    def line(self, kind: str) -> str:
        """Return median and worst of one kind."""
        found = self.of_kind[kind]
        return f"{kind}: median {median(found) * 1e3:.0f} ms, worst {max(found) * 1e3:.0f} ms"


@contextmanager
def host(routers: int, audit_interval: int = 0) -> Iterator[Daemon]:
    """Run a daemon with routers in the calling thread's namespaces, until all are in sync."""
    with tempfile.TemporaryDirectory(prefix="dvr-drift-") as base:
        daemon = open_daemon(Path(base))
        daemon.configure(dvr_agent={"audit_interval": audit_interval}, directory={"rescan_interval": 3600})
        for number in range(routers):
            (daemon.routers / f"{number}.json").write_bytes(documents.document(number))
        daemon.start()
        try:
            wait_for(lambda: daemon.status()["states"] == {"in sync": routers})
            yield daemon
        finally:
            daemon.stop()
            for name in os.listdir(lab.NETNS):
                lab.run("ip", "netns", "delete", name)
            for link in lab.ip_json("link", "show"):
                if link["ifname"].startswith(("tap", "brq", "br-")):
                    lab.run("ip", "link", "delete", link["ifname"], check=False)


def changes(number: int) -> dict[str, Change]:
    """Return one change of each kind, for a router."""
    router = documents.router_id(number)
    space, stem = f"qrouter-{router}", router[:10]
    port = documents.object_id("port", f"interface/{number}")[:11]
    inside, pair, tap = f"qr-{port}", f"fpr-{stem}", f"tap{port}"
    links = "ip -n {0} -o link show dev {1} | grep -o 'mtu [0-9]*\\|[<,]UP[,>]'"
    fip = f"$(ip -n {FIP} route | grep 'dev {pair}' | grep via | head -1)"
    neighbours = f"ip -n {space} neighbour show nud permanent"
    return {
        "link down": Change(f"ip -n {space} link set {inside} down", links.format(space, inside)),
        "link deleted": Change(
            f"ip -n {space} link delete {inside}",
            f"ip -n {space} -o address show dev {inside} scope global | grep -o 'inet [^ ]*'",
        ),
        "MTU": Change(f"ip -n {FIP} link set {pair} mtu 1400", links.format(FIP, pair)),
        "address": Change(
            f"ip -n {space} address flush dev {inside} scope global", f"ip -n {space} route show table all proto static"
        ),
        "route": Change(f"ip -n {FIP} route delete {fip}", f"ip -n {FIP} route show dev {pair} proto static"),
        "rule": Change(
            f"ip -n {space} rule delete priority $(ip -n {space} rule | grep 'lookup 16' | head -1 | cut -d: -f1)",
            f"ip -n {space} rule",
        ),
        "neighbour": Change(
            f"ip -n {space} neighbour delete $({neighbours} | grep {inside} | head -1 | cut -d' ' -f1-3)",
            f"{neighbours} | sort",
        ),
        "forwarding": Change(
            f"ip netns exec {space} sysctl -q -w net.ipv4.ip_forward=0",
            f"ip netns exec {space} sysctl -n net.ipv4.ip_forward",
        ),
        "bridge port": Change(f"ip link set {tap} nomaster", f"ip -o link show dev {tap} | grep -o 'master [^ ]*'"),
        "namespace": Change(f"ip netns delete {space}", f"ip -n {space} rule; ip -n {space} route show table 16"),
    }


def measure(options: Options, routers: int) -> Times:
    """Change one object of each kind, of several routers one after the other, and time the repair."""
    # No router is changed more than twice: three repairs of one object are a fight, and fought slowly.
    times, rounds = Times(), min(1 if options.quick else 5, max(2 * routers // len(changes(0)), 1))
    with host(routers):
        for turn in range(rounds):
            for index, kind in enumerate(changes(0)):
                change = changes((turn * len(changes(0)) + index) % routers)[kind]
                times.of_kind.setdefault(kind, []).append(_repair_time(change, kind))
    return times


def _repair_time(change: Change, kind: str) -> float:
    before = _output(change.shows)
    assert before, f"{kind}: {change.shows} shows nothing"
    subprocess.run(["sh", "-c", change.command], check=True, capture_output=True)
    changed = time.monotonic()
    while _output(change.shows) != before:
        if time.monotonic() - changed > PATIENCE:
            break
    return time.monotonic() - changed


def _output(command: str) -> str:
    return subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True).stdout


def repair_times(routers: int) -> Callable[[Options], Figure]:
    """Return the measurement on a host with this many routers."""

    def measured(options: Options) -> Figure:
        times = measure(options, min(routers, 20) if options.quick else routers)
        every = [seconds for found in times.of_kind.values() for seconds in found]
        return Figure(
            f"median {median(every) * 1e3:.0f} ms, worst {max(every) * 1e3:.0f} ms, {len(times.of_kind)} kinds",
            max(every) < GOAL,
            tuple(times.line(kind) for kind in times.of_kind),
        )

    return measured


def main() -> None:
    """Measure without the table: ``python -m bench.reliability.drift_times 300``, in private namespaces."""
    from bench.sandbox import enter_sandbox, fresh_root

    enter_sandbox("bench.reliability.drift_times", sys.argv[1:])
    fresh_root()
    routers = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    figure = repair_times(routers)(Options())
    print(figure.text, *figure.details, sep="\n")


if __name__ == "__main__":
    main()
