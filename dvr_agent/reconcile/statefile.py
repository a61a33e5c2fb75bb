"""Neutron's two state files: read once, written atomically (temporary file, fsync, rename).

They are a memory for reboots and for a return to neutron-l3-agent; where they and the kernel differ, the kernel wins.
neutron-l3-agent is no root, and writes into the files as they are: so they keep their owner.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from dvr_agent.desired.allocation import LinkLocalPair, format_entries
from dvr_agent.errors import DvrError

LOG = logging.getLogger(__name__)

PAIRS_FILE = "fip-linklocal-networks"
PRIORITIES_FILE = "fip-priorities"

V = TypeVar("V")


class StateFileError(DvrError):
    """A state file can be neither read nor written; the text names it."""


def read_entries(path: Path, parse: Callable[[str], tuple[dict[str, V], list[str]]]) -> dict[str, V]:
    """Entries of a state file; a missing file has none, lines that make no sense are logged and left out.

    :raises StateFileError: the file is there but cannot be read
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise StateFileError(f"{path}: {exc.strerror}") from exc
    entries, bad = parse(text)
    for line in bad:
        LOG.warning("%s: line %r makes no sense, left out", path, line[:80])
    return entries


def write_entries(path: Path, entries: Mapping[str, LinkLocalPair] | Mapping[str, int]) -> None:
    """Replace a state file as a whole: a reader, or a crash, sees the old one or the new one.

    :raises StateFileError: naming the file
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(format_entries(entries))
            file.flush()
            _keep_owner(file.fileno(), path)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StateFileError(f"{path}: {exc.strerror}") from exc


def _keep_owner(fd: int, path: Path) -> None:
    """Mode and owner of the file that is replaced; a new one belongs to whom its directory belongs."""
    try:
        there = path.stat()
        os.fchmod(fd, stat.S_IMODE(there.st_mode))
    except FileNotFoundError:
        there = path.parent.stat()
    made = os.fstat(fd)
    if (there.st_uid, there.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.fchown(fd, there.st_uid, there.st_gid)
        except OSError as exc:
            LOG.warning("%s: cannot be given to user %d, group %d (%s): neutron-l3-agent could not write it",
                        path, there.st_uid, there.st_gid, exc.strerror)  # fmt: skip
