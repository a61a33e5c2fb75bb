"""The file of the history: its place, reading it, appending to it, keeping it small.  JSON lines, mode 0600.

A process that is killed may leave half a line at the end: readers skip it, and the next writer ends it.  The daemon
writes, or a verb of ``dvrctl`` where no daemon runs (``writer``), the daemon and ``dvrctl history`` read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dvr_agent import securefiles
from dvr_agent.history.ring import Kept, kept

NAME = "history.jsonl"
MODE = 0o600
TAIL = 1 << 20
"""Bytes at the end of the file in which the newest entry is sought."""
FULL = 0.5
"""Fraction of the maximum size that is left when the file is made smaller."""


def history_path(state_path: str | Path, host: str) -> Path:
    """Return the path of the history file.

    :param host: several emulated hosts may share a ``state_path`` (tests); their histories differ
    """
    return Path(state_path) / "dvr-agent" / host / NAME


def read(path: Path, tail: int | None = None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield (line without its end, entry) of the file, oldest first; lines that are no entries are skipped.

    :param tail: only the last so many bytes
    :raises OSError: as open(2); FileNotFoundError: there is no history
    """
    with os.fdopen(securefiles.open_regular(path), "rb") as file:
        skipped = tail is not None and os.fstat(file.fileno()).st_size > tail
        if tail is not None and skipped:
            file.seek(-tail, os.SEEK_END)
            file.readline()
        for line in file:
            entry = _entry(line)
            if entry is not None:
                yield line.rstrip(b"\n"), entry


def last_number(path: Path) -> int:
    """Return the number of the newest entry in the file, 0 without one.

    :raises OSError: the file cannot be read
    """
    with contextlib.suppress(FileNotFoundError):
        for tail in (TAIL, None):
            newest: int = max((entry["seq"] for _line, entry in read(path, tail)), default=0)
            if newest:
                return newest
    return 0


def load(path: Path, tail: int) -> list[Kept]:
    """Return the entries in the last ``tail`` bytes of the file, oldest first; none if there is no file.

    :raises OSError: the file cannot be read
    """
    found: list[Kept] = []
    with contextlib.suppress(FileNotFoundError):
        for line, entry in read(path, tail):
            if not found or entry["seq"] > found[-1].seq:
                found.append(kept(line, entry["seq"], entry["time"], entry["router"]))
    return found


def open_to_append(path: Path) -> int:
    """Open the file for appending, and make it if it is missing; half a line at its end is ended.

    :raises OSError: naming the file
    """
    securefiles.ensure_directory(path.parent)
    fd = securefiles.open_private(path, MODE)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")
    except OSError:
        os.close(fd)
        raise
    return fd


def shrink(path: Path, per_router: int, limit: int) -> None:
    """Replace the file by one with the newest entries only: those of each router, within half of the maximum size.

    :param per_router: maximum number of entries of one router
    :param limit: maximum size of the file in bytes
    :raises OSError: the old file stays
    """
    numbers: Counter[str] = Counter()
    sizes = [(entry["seq"], entry["router"] or "", len(line) + 1) for line, entry in read(path)]
    wanted, total = set(), 0
    for seq, router, size in reversed(sizes):
        numbers[router] += 1
        if numbers[router] > per_router:
            continue
        total += size
        if total > limit * FULL:
            break
        wanted.add(seq)
    lines = (line for line, entry in read(path) if entry["seq"] in wanted)
    securefiles.replace(path, join(lines), MODE)


def join(lines: Iterable[bytes]) -> bytes:
    """Return lines as the content of the file."""
    return b"".join(line + b"\n" for line in lines)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line, None if the line is none: another user may own the directory."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("router", 0), str | None):
        return None
    numbers = isinstance(entry.get("seq"), int) and isinstance(entry.get("time"), int | float)
    return entry if numbers else None
