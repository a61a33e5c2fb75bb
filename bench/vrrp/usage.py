"""Processor time and memory of processes, from /proc."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What processes have used.

    :ivar seconds: of processor time
    :ivar memory: bytes; memory that several share counts in parts
    """

    seconds: float
    memory: int
    processes: int


def usage_of(pids: Iterable[int]) -> Usage:
    """Read the usage of processes."""
    seconds, memory, number = 0.0, 0, 0
    for pid in pids:
        # Not utime and stime, which count in hundredths of a second: a keepalived uses less in one measurement.
        seconds += sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        memory += next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        number += 1
    return Usage(seconds, memory, number)
