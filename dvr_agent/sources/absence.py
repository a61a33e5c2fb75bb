"""Decides when a document file that disappeared without a notification counts as deleted.

Bookkeeping over the scans only; ``directory`` makes them.  Two scans of the same directory decide, and only while
other documents are there.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

STEADY_SECONDS = 10.0
"""A directory that changes between two scans may be one that is being filled: then they must be so far apart."""


class Scan(NamedTuple):
    """One listing of a directory.

    :ivar time: when it was made (monotonic)
    :ivar mtime_ns: when the directory had changed last
    :ivar names: the documents in it
    """

    time: float
    mtime_ns: int
    names: frozenset[str]

    def confirms(self, earlier: Scan) -> bool:
        """Return True if both found the same state of the directory, or it had time enough to be filled in between."""
        same = (self.mtime_ns, self.names) == (earlier.mtime_ns, earlier.names)
        return same or self.time - earlier.time >= STEADY_SECONDS


class Absence:
    """Compares scans: which files are missing, since which scan, and may they count as deleted.

    :ivar suspect: why missing files must not count as deleted, see :class:`dvr_agent.sources.api.Synced`
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._missed: dict[str, Scan] = {}
        """Files that are missing while others are there → the first scan that missed them."""
        self._filled: Scan | None = None
        """The first scan since the directory has documents; None: it had none at the last scan."""
        self.suspect = ""

    @property
    def names(self) -> list[str]:
        """Files that are missing and do not count as deleted yet, sorted."""
        return sorted(self._missed)

    def judge(self, scan: Scan, gone: Set[str], other: bool) -> list[str]:
        """Compare a scan with earlier ones; returns the files that count as deleted, sorted.

        :param gone: files that were there before and are not now
        :param other: the directory is another one than that of the scan before
        """
        if other:
            self._missed, self._filled = {}, None
        if not scan.names:
            return self._judge_empty(gone, other)
        missed = {name: self._missed.get(name, scan) for name in gone}
        believed = [name for name, first in missed.items() if first is not scan and scan.confirms(first)]
        self._missed = {name: first for name, first in missed.items() if name not in believed}
        if self.suspect:
            filled = self._filled is not None and scan.confirms(self._filled)
            self.suspect = "" if filled else f"directory {self._path} held no document until now"
        self._filled = self._filled or scan
        return sorted(believed)

    def _judge_empty(self, gone: Set[str], other: bool) -> list[str]:
        """Forget all files, while the daemon keeps their routers; a file that comes back is announced anew."""
        self._missed, self._filled = {}, None
        if other or gone or self.suspect:
            self.suspect = f"directory {self._path} holds no document"
        return sorted(gone)

    def discard(self, name: str) -> None:
        """Forget a missing file: a notification has said that it is gone."""
        self._missed.pop(name, None)

    def forget(self) -> None:
        """Forget all scans, since the directory cannot be listed: the next scan is not compared with them."""
        self._missed = {}
