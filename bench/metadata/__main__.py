"""``python -m bench.metadata``: what N routers cost, and what one's flood costs another; both proxies in turn."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.metadata.proxies import Cost, Haproxies, OneProxy, Proxies, ask, connect
from bench.sandbox import enter_sandbox, fresh_root

UPSTREAM_SECONDS, UPSTREAM_WORKERS = 0.005, 16
CLIENTS, CONNECTIONS_EACH = 20, 10
"""The flood: so many instances of router A, each with so many connections at a time."""
REQUESTS = 300
"""Of router B, one after the other."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.metadata", description=__doc__)
    parser.add_argument("--routers", type=lambda text: [int(word) for word in text.split(",")], default=[200])
    options = parser.parse_args(arguments)
    enter_sandbox("bench.metadata", arguments)
    fresh_root()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = folder / "upstream.sock"
        words = [sys.executable, "-m", "bench.metadata.upstream", str(upstream)]
        words += [str(UPSTREAM_SECONDS), str(UPSTREAM_WORKERS)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            server.stdout.readline()
            try:
                _measure(options.routers, folder, upstream)
            finally:
                server.terminate()
    return 0


def _measure(numbers: Sequence[int], folder: Path, upstream: Path) -> None:
    made = 0
    for number in sorted(numbers):
        for index in range(made, number):
            subprocess.run(["ip", "netns", "add", f"r{index}"], check=True)
            subprocess.run(["ip", "-n", f"r{index}", "link", "set", "lo", "up"], check=True)
        made = number
        namespaces = [f"r{index}" for index in range(number)]
        found: dict[str, tuple[Cost, float, float]] = {}
        kinds: list[Proxies] = [OneProxy(folder, upstream), Haproxies(folder, upstream)]
        for proxies in kinds:
            cost = proxies.start(namespaces)
            try:
                quiet, flooded = _fairness(namespaces)
            finally:
                proxies.stop()
            found[proxies.name] = cost, quiet, flooded
        _print(number, found)


def _fairness(namespaces: Sequence[str]) -> tuple[float, float]:
    """p99 of router B's requests in ms: alone, and while router A is flooded."""
    quiet = _p99(namespaces[1])
    words = [sys.executable, "-m", "bench.metadata.flood", namespaces[0], str(CLIENTS), str(CONNECTIONS_EACH)]
    with subprocess.Popen(words) as flood:
        time.sleep(2)
        try:
            return quiet, _p99(namespaces[1])
        finally:
            flood.terminate()


def _p99(namespace: str) -> float:
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        with connect(namespace) as connection:
            answer = ask(connection)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"router B was answered {answer[:40]!r}")
        times.append((time.perf_counter() - began) * 1e3)
    return sorted(times)[int(len(times) * 0.99)]


def _print(number: int, found: dict[str, tuple[Cost, float, float]]) -> None:
    print(f"\n{number} routers; flood: {CLIENTS} instances with {CONNECTIONS_EACH} connections each")
    print(f"{'':32}" + "".join(f"{name:>20}" for name in found))
    for title, value in (
        ("all routers served after, s", lambda one: one[0].seconds),
        ("processor time for that, s", lambda one: one[0].cpu),
        ("memory (PSS), MiB", lambda one: one[0].memory),
        ("processes", lambda one: one[0].processes),
        ("p99 of router B, ms", lambda one: one[1]),
        ("p99 while A is flooded, ms", lambda one: one[2]),
    ):
        print(f"{title:32}" + "".join(f"{value(one):20.2f}" for one in found.values()), flush=True)  # type: ignore[no-untyped-call]  # lambdas in a tuple have no type


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
