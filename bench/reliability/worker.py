"""``python -m bench.reliability.worker ROWS NAME RESULT [--quick]``: the process of one promise's program."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

from bench import sandbox
from bench.reliability import runner
from bench.reliability.api import Figure, Options, Promise


def main() -> int:
    """Measure, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows")
    parser.add_argument("name")
    parser.add_argument("result", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    promise = next(one for one in importlib.import_module(options.rows).promises() if one.name == options.name)
    if promise.measure is None:
        figure = by_tests(promise)
    else:
        sandbox.fresh_root()
        figure = promise.measure(Options(options.quick))
    runner.write(figure, options.result)
    return 0


def by_tests(promise: Promise) -> Figure:
    """Run the tests of a promise without a program: they are its figure."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *promise.tests]
    done = subprocess.run(words, cwd=runner.ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ["pytest said nothing"]
    return Figure(f"its tests: {lines[-1].strip('= ')}", done.returncode == 0, tuple(lines[-runner.LAST_LINES :]))


if __name__ == "__main__":
    sys.exit(main())
