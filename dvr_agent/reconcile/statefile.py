"""Reads and writes Neutron's two state files; a write is atomic (temporary file, fsync, rename).

The files keep allocations over a reboot and for a return to neutron-l3-agent; where they and the kernel differ, the
kernel is right.  neutron-l3-agent, which is not root, opens the files for writing, so they keep their owner.  That user
owns their directory too, and can put anything in their place: ``dvr_agent.securefiles`` reads and writes them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from dvr_agent import securefiles
from dvr_agent.desired.allocation import LinkLocalPair, format_entries
from dvr_agent.errors import SHORTAGES, DvrError, grouped
from dvr_agent.logs import one_line
from dvr_agent.plural import count, verb

LOG = logging.getLogger(__name__)

PAIRS_FILE = "fip-linklocal-networks"
PRIORITIES_FILE = "fip-priorities"
MAX_BYTES = 16 * 1024 * 1024
"""Ten times the size of a file with all entries of a pool."""

V = TypeVar("V")


class StateFileError(DvrError):
    """State files can be neither read nor written; the text names them.

    :ivar faults: (path, reason) of each
    :ivar is_shortage: True if descriptors or memory are short: a retry may succeed, the file may be fine
    """

    def __init__(self, faults: Iterable[tuple[str, str]], is_shortage: bool = False) -> None:
        self.faults = tuple(faults)
        super().__init__(grouped(self.faults))
        self.is_shortage = is_shortage


def read_entries(path: Path, parse: Callable[[str], tuple[dict[str, V], list[str]]]) -> dict[str, V]:
    """Read the entries of a state file; a missing file has none.  Malformed lines are logged and skipped.

    :raises StateFileError: the file exists and cannot be read
    """
    try:
        content = securefiles.read(path, MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise _error(path, exc) from exc
    entries, bad = parse(content.data.decode("utf-8", "replace"))
    if bad:
        first = f", the first: {one_line(bad[0])}" if content.trusted else ""
        skipped = f"{count(len(bad), 'malformed line')} {verb(len(bad), 'was', 'were')} skipped"
        LOG.warning("%s: %s%s", path, skipped, first)
    return entries


def write_entries(path: Path, entries: Mapping[str, LinkLocalPair] | Mapping[str, int]) -> None:
    """Replace a state file as a whole: a reader, or a crash, sees the old one or the new one.

    :raises StateFileError: naming the file
    """
    try:
        securefiles.ensure_directory(path.parent)
        trouble = securefiles.replace(path, format_entries(entries).encode(), keep_owner=True, sync=True)
    except OSError as exc:
        raise _error(path, exc) from exc
    if trouble:
        LOG.warning("%s: %s; neutron-l3-agent could not write it", path, trouble)


def takes_no_files(directory: Path) -> bool:
    """Return True if the directory's file system is read-only or full: the next change could not be written."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return bool(found.f_flag & os.ST_RDONLY) or (found.f_blocks > 0 and not found.f_bfree)


def _error(path: Path, exc: OSError) -> StateFileError:
    return StateFileError([(str(path), exc.strerror or str(exc))], exc.errno in SHORTAGES)
