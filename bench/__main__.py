"""``python -m bench``: all measurements of one run, interleaved, and the table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench import report, sandbox
from bench.documents import FIPS, PORTS
from bench.rounds import Round, Runs
from bench.same import differences
from bench.worker import Result, Task

DEFAULT_ROUTERS = (10, 100, 500)
COMMANDS_MAX = 10
"""A process per command takes some 50 processes a router: only for so many, unless asked otherwise."""
BATCHES_MAX = 100
"""The same for batches, which take some ten."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    sandbox.enter_sandbox("bench", arguments)
    if options.profile:
        for routers in options.routers:
            task = Task("ours", options.mode, routers, fips=options.fips, ports=options.ports, profile=True)
            print(_measure(replace(task, packet_filter=options.packet_filter)).profile)
        return 0
    started = time.monotonic()
    runs = [_runs(routers, options) for routers in options.routers]
    print(report.text(runs, options.mode, time.monotonic() - started))
    wrong = [f"{run.routers} routers: {line}" for run in runs for line in run.differences]
    if wrong:
        print("\nNOT THE SAME OBJECTS, the figures mean nothing:", *wrong[:20], sep="\n  ")
    return 1 if wrong else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Times this agent against the kernel's floor and against a process per command, in private "
        "namespaces; touches nothing of this host.",
    )
    parser.add_argument("--routers", type=_numbers, default=DEFAULT_ROUTERS, help="how many, e.g. 10,100,500")
    parser.add_argument("--mode", choices=["dvr", "dvr_snat"], default="dvr", help="agent_mode (default: dvr)")
    parser.add_argument(
        "--packet-filter",
        choices=["legacy", "nftables"],
        default="legacy",
        help="of our routers and the floor's (default: legacy); a process per command is legacy only",
    )
    parser.add_argument("--fips", type=int, default=FIPS, help=f"floating IPs of each router (default: {FIPS})")
    parser.add_argument(
        "--ports", type=int, default=0, help=f"other ports on its network (default: {PORTS}, or enough)"
    )
    parser.add_argument("--rounds", type=int, default=0, help="rounds for each number (default: 5, 2, 1, by size)")
    parser.add_argument(
        "--commands-max",
        type=int,
        default=COMMANDS_MAX,
        help=f"a process per command for at most so many routers, 0: not at all (default: {COMMANDS_MAX})",
    )
    parser.add_argument("--profile", action="store_true", help="instead: where our time goes (cProfile)")
    options = parser.parse_args(arguments)
    options.ports = options.ports or max(PORTS, options.fips + 1)
    return options


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(word) for word in text.split(","))
    if any(number < 2 for number in numbers):
        raise argparse.ArgumentTypeError("at least 2 routers")
    return numbers


def _runs(routers: int, options: argparse.Namespace) -> Runs:
    """The methods take turns, so that a busy moment of the machine hits all of them."""
    runs = Runs(routers)
    rounds = options.rounds or max(1, min(5, 200 // routers))

    def measure(method: str, check: bool = False) -> Result:
        task = Task(method, options.mode, routers, check, options.fips, options.ports)
        return _measure(replace(task, packet_filter=options.packet_filter))

    for number in range(rounds):
        check = number == 0
        floor = measure("floor", check)
        ours = measure("ours", check)
        one = Round(ours, floor)
        if options.packet_filter == "legacy":
            one.by_libiptc = measure("floor by libiptc")
        if number == 0 and routers <= options.commands_max and options.packet_filter == "legacy":
            one.commands = measure("commands", check)
        if number == 0 and routers <= BATCHES_MAX and options.packet_filter == "legacy":
            one.batches = measure("batches", check)
        if check:
            runs.differences = [
                f"{name}: {line}"
                for name, other in (("floor", floor), ("commands", one.commands), ("batches", one.batches))
                if other is not None
                for line in differences(ours.picture, other.picture)
            ]
        runs.rounds.append(one)
    return runs


def _measure(task: Task) -> Result:
    """In a process of its own; returns when the kernel has cleared up after it.

    :raises SystemExit: the measurement failed; its own words went to standard error
    """
    print(f"  {task.routers} routers: {task.method} …", file=sys.stderr, flush=True)
    words = [sys.executable, "-m", "bench.worker", json.dumps(asdict(task))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent) as process:
        output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"bench: {task.method} with {task.routers} routers failed")
    sandbox.wait_gone(f"bench{process.pid}")
    return Result(**json.loads(output))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os._exit(1)
