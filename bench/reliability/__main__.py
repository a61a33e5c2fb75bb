"""``python -m bench.reliability``: measures each promise, one after the other, and prints the table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bench.reliability import figures, runner, table
from bench.reliability.api import Figure, Options, Promise
from bench.reliability.rows import promises

SECONDS, QUICK_SECONDS = 3600.0, 300.0
"""How long one program may take."""


def main(arguments: Sequence[str]) -> int:
    """Return 1 if a promise is not kept."""
    known = promises()
    options = _options(arguments, known)
    chosen = [one for one in known if not options.names or one.name in options.names]
    if options.list:
        print("\n".join(f"{one.name:24} {one.text}" for one in chosen))
        return 0
    seconds = options.timeout or (QUICK_SECONDS if options.quick else SECONDS)
    rows = [(one, _measure(one, Options(options.quick), seconds)) for one in chosen]
    print(table.text(rows))
    if options.record:
        figures.record({one.name: figure for one, figure in rows}, {one.name for one in known})
    return 0 if all(figure.kept for _, figure in rows) else 1


def _measure(promise: Promise, options: Options, seconds: float) -> Figure:
    print(f"  {promise.name} …", file=sys.stderr, flush=True)
    figure = runner.measure(promise, options, seconds)
    kept = "" if figure.kept else ": NOT KEPT"
    print(f"  {promise.name}: {figure.text}{kept} ({figure.seconds:.0f} s)", file=sys.stderr, flush=True)
    return figure


def _options(arguments: Sequence[str], known: Sequence[Promise]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.reliability",
        description="Measures the promises of docs/reliability.md, each in private namespaces of its own; touches "
        "nothing of this host. Exit code 1: one is not kept.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which promises (default: all); --list names them")
    parser.add_argument("--quick", action="store_true", help="small numbers, as the tests have them")
    parser.add_argument("--list", action="store_true", help="instead: the names")
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds for each program (default: 3600, quick 300)"
    )
    parser.add_argument("--record", action="store_true", help="keep the figures for docs/reliability.md")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {one.name for one in known}
    if unknown:
        parser.error(f"no such promise: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in known)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os._exit(1)
