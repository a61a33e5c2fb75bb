"""``python -m bench.packets``: processor time for each packet and each new connection through a router.

One router has all floating IPs of a host, and so the longest lists of rules.  The same router with this agent's legacy
tables and nf_tables, with neutron-l3-agent's rules in both, and without rules: measured in turn, medians of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from bench.packets.site import METHODS, NEUTRON, WAYS
from bench.packets.worker import CONNECTION, KINDS, PACKET, Task, serve
from bench.sandbox import enter_sandbox
from dvr_agent.plural import count

Samples = dict[tuple[str, str, str], list[float]]
"""(Method, way, kind) → nanoseconds."""
TITLES = {PACKET: "for each packet, ns", CONNECTION: "for each new connection, µs"}


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    enter_sandbox("bench.packets", arguments)
    methods = [method for method in METHODS if _possible(method)]
    medians = f"processor time, medians of {count(options.rounds, 'round')}"
    print(f"Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}; {medians}")
    for fips in options.fips:
        samples, lost = _measure(methods, fips, options)
        for line in _table(methods, samples):
            print(line)
        print(f"  packets lost: {lost}", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.packets", description=__doc__)
    parser.add_argument(
        "--fips", type=lambda text: [int(word) for word in text.split(",")], default=[1, 30, 1000, 5000]
    )
    parser.add_argument("--chosen", choices=("first", "last"), default="last", help="the floating IP that is used")
    parser.add_argument("--beside", type=int, default=0, help="other routers, with a floating IP each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--packets", type=int, default=5000, help="of one connection, in each measurement")
    parser.add_argument("--connections", type=int, default=2000, help="of one packet each, in each measurement")
    return parser.parse_args(arguments)


def _possible(method: str) -> bool:
    return method not in NEUTRON or shutil.which(f"iptables-{NEUTRON[method]}-restore") is not None


class Host:
    """A worker and what it measures."""

    def __init__(self, task: Task) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=serve, args=(task, theirs))
        self._process.start()
        theirs.close()
        self.ways: list[str] = self._answer()

    def measure(self, way: str, kind: str) -> tuple[float, int]:
        self._pipe.send((way, kind))
        nanoseconds, lost = self._answer()
        return nanoseconds, lost

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            sys.exit("bench: a worker has failed")

    def close(self) -> None:
        """End the worker, which removes its namespaces first."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(None)
        self._process.join()


@contextlib.contextmanager
def _hosts(methods: Sequence[str], fips: int, options: argparse.Namespace) -> Iterator[dict[str, Host]]:
    chosen = 0 if options.chosen == "first" else fips - 1
    with contextlib.ExitStack() as stack:
        hosts: dict[str, Host] = {}
        for method in methods:
            hosts[method] = Host(Task(method, fips, chosen, options.beside, options.packets, options.connections))
            stack.callback(hosts[method].close)
        yield hosts


def _measure(methods: Sequence[str], fips: int, options: argparse.Namespace) -> tuple[Samples, int]:
    samples: Samples = {}
    lost = 0
    with _hosts(methods, fips, options) as hosts:
        beside = f"; {count(options.beside, 'other router')}" if options.beside else ""
        print(f"\n{count(fips, 'floating IP')} on one router, the {options.chosen} is used{beside}", flush=True)
        for number, way, kind in itertools.product(range(options.rounds), WAYS, KINDS):
            first = number % len(methods)
            for method in (*methods[first:], *methods[:first]):
                if way in hosts[method].ways:
                    nanoseconds, missing = hosts[method].measure(way, kind)
                    samples.setdefault((method, way, kind), []).append(nanoseconds)
                    lost += missing
    return samples, lost


def _table(methods: Sequence[str], samples: Samples) -> Iterator[str]:
    yield f"{'':30}" + "".join(f"{method:>17}" for method in methods)
    for kind, title in TITLES.items():
        yield title
        for way in WAYS:
            cells = (_cell(samples.get((method, way, kind)), kind) for method in methods)
            yield f"  {way:28}" + "".join(f"{cell:>17}" for cell in cells)


def _cell(found: Sequence[float] | None, kind: str) -> str:
    if found is None:
        return "–"
    return f"{median(found):,.0f}" if kind == PACKET else f"{median(found) / 1000:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
