"""Measures processor time, user and system: it does not count what else the machine does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def seconds_of(work: Callable[[], object], rounds: int = 1) -> float:
    """Return the processor time that this process takes for some work."""
    started = time.process_time()
    for _ in range(rounds):
        work()
    return time.process_time() - started


def share_of(pid: int, seconds: float) -> float:
    """Return the share of one processor that a process takes during some seconds."""
    before, started = used_by(pid), time.monotonic()
    time.sleep(seconds)
    return (used_by(pid) - before) / (time.monotonic() - started)


def used_by(pid: int) -> float:
    """Return the processor time that a process has taken until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
