"""Processor time and memory of processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_USER, _SYSTEM = 11, 12
"""Fields of /proc/<pid>/stat after the name, which ends with a parenthesis (proc(5): utime, stime)."""


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
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        memory += next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        number += 1
    return Usage(seconds, memory, number)
