"""``python -m bench.vrrp``: processor time, memory and late advertisements of both, on pairs of namespaces.

Each router has a namespace on either of two hosts, with a wire between them.  The same kind of speaker runs on both
hosts; the masters' side is measured, then the backups'.  Load: processes that only compute.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence

from bench.sandbox import enter_sandbox, fresh_root
from bench.vrrp.hosts import Hosts
from bench.vrrp.speakers import BUILTIN, KEEPALIVED, Builtin, Keepalived, Speakers
from bench.vrrp.usage import Usage, usage_of

KINDS: dict[str, type[Speakers]] = {BUILTIN: Builtin, KEEPALIVED: Keepalived}


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    enter_sandbox("bench.vrrp", arguments)
    fresh_root()
    print(f"{options.routers} routers, advertisements every {options.interval} s, {options.load} processes of load")
    for name in options.kinds:
        for line in _measure(KINDS[name], options):
            print(line, flush=True)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.vrrp", description=__doc__)
    parser.add_argument("--routers", type=int, default=100)
    parser.add_argument("--interval", type=int, default=2, help="seconds between advertisements")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--load", type=int, default=0, help="processes that only compute")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=[BUILTIN, KEEPALIVED])
    return parser.parse_args(arguments)


def _measure(kind: type[Speakers], options: argparse.Namespace) -> list[str]:
    hosts = Hosts(options.routers)
    hosts.make()
    masters, backups = kind(hosts, 0, options.interval), kind(hosts, 1, options.interval)
    lines = []
    load = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(options.load)]
    try:
        began = time.monotonic()
        masters.start()
        masters.wait_for_masters()
        backups.start()
        lines.append(f"{kind.name}: all are masters after {time.monotonic() - began:.1f} s")
        for process in load:
            process.start()
        for role, speakers in (("masters", masters), ("backups", backups)):
            before = usage_of(speakers.pids())
            late_before = speakers.late()
            time.sleep(options.seconds)
            after = usage_of(speakers.pids())
            lines.append(f"  {role}: {_text(before, after, options.seconds)}{_late(late_before, speakers.late())}")
        lines.append(f"  masters at the end: {hosts.masters(0)} and {hosts.masters(1)} of {options.routers}")
    finally:
        for process in load:
            process.kill()
        for speakers in (backups, masters):
            speakers.close()
        hosts.remove()
    return lines


def _text(before: Usage, after: Usage, seconds: float) -> str:
    share = 100 * (after.seconds - before.seconds) / seconds
    return f"{share:.2f} % of a processor, {after.memory / 2**20:.1f} MiB (PSS), {after.processes} processes"


def _late(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f", advertisements at most {1000 * after:.1f} ms late"


def _compute() -> None:
    os.nice(0)
    while True:
        sum(range(10000))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
