"""Measures one promise in a process and private namespaces of its own, whatever its program does there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from bench import sandbox
from bench.reliability.api import Figure, Options, Promise

ROOT = Path(__file__).parents[2]
NAMESPACES = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""A process namespace too: whatever a program started and left ends with it, also when its time is over."""
LAST_LINES = 15
ROWS = "bench.reliability.rows"
"""Module whose function ``promises`` knows all of them."""


def measure(promise: Promise, options: Options, seconds: float) -> Figure:
    """Run a promise's program; what it cannot say itself is a figure that is not kept.

    :param seconds: after so many the program is ended
    """
    started = time.monotonic()
    figure = _measured(promise, options, seconds)
    return replace(figure, seconds=time.monotonic() - started)


def _measured(promise: Promise, options: Options, seconds: float) -> Figure:
    with tempfile.TemporaryDirectory(prefix="dvr-reliability-") as folder:
        result, output = Path(folder) / "figure.json", Path(folder) / "output"
        ended = _run(_words(promise, options, result), output, seconds)
        if result.exists():
            return _figure(result)
        lines = output.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return Figure(f"no figure: {_reason(ended, lines, seconds)}", False, tuple(lines))


def _words(promise: Promise, options: Options, result: Path) -> list[str]:
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    quick = ["--quick"] if options.quick else []
    worker = [sys.executable, "-m", "bench.reliability.worker", ROWS, promise.name, str(result), *quick]
    return ["unshare", *NAMESPACES, *root, "--", *worker]


def _run(words: list[str], output: Path, seconds: float) -> int | None:
    """Return the exit code; None: ended because its time was over."""
    environ = {**os.environ, sandbox.MARKER: "1"}
    with output.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, cwd=ROOT, env=environ)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _figure(result: Path) -> Figure:
    found = json.loads(result.read_text())
    return Figure(found["text"], found["kept"], tuple(found["details"]))


def _reason(ended: int | None, lines: list[str], seconds: float) -> str:
    if ended is None:
        return f"not done after {seconds:.0f} s"
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last or f"its process ended with {ended}"


def write(figure: Figure, result: Path) -> None:
    """Hand a figure to the process that waits for it: whole, or not at all."""
    part = result.with_suffix(".part")
    part.write_text(json.dumps(asdict(figure)))
    part.rename(result)
