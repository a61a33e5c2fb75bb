"""Writes new entries to the history file.  Who has the agent's lock (``dvr_agent.lock``) is the file's only writer.

:class:`HistoryWriter` is the daemon's whole history: :meth:`HistoryWriter.add` takes an entry into the ring and leaves
its text to a thread of its own, so that nobody waits for a slow disk.  While the disk cannot be written the newest
entries wait, and the ring goes on.  ``dvrctl`` has no thread and calls :meth:`HistoryWriter.write`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from dvr_agent import backoff
from dvr_agent.history import file
from dvr_agent.history.ring import Kept, Ring, pack
from dvr_agent.plural import count
from dvr_agent.threads import make_thread

LOG = logging.getLogger(__name__)

MEMORY = 4 << 20
"""Bytes of the ring, of all routers together: a first build of 1,000 routers takes less than half of it."""
LOADED = 4 << 20
"""Bytes of the file's end that the ring begins with: more would not fit, and would delay the start."""
WAITING = 4096
"""Entries that wait for the disk at most; beyond it the oldest of them are in the ring only, and never in the file."""
FIRST_PAUSE, LAST_PAUSE = 1.0, 300.0
"""Seconds until the next try after the file could not be written."""


class HistoryWriter:
    """Ring and file.  :meth:`add` and what reads the ring never block.

    :param per_router: maximum number of entries of one router; 0: there is no history
    :param limit: maximum size of the file in bytes
    :ivar ring: the newest entries
    :ivar trouble: why the file cannot be written; empty if it can
    """

    def __init__(self, path: Path, per_router: int, limit: int) -> None:
        self.path = path
        self._per_router, self._limit = per_router, limit
        self._waiting: deque[Kept] = deque(maxlen=WAITING)
        self._wanted, self._idle = threading.Event(), threading.Event()
        self._fd, self._size = -1, 0
        self._failures = self._lost = 0
        self.trouble = ""
        self.ring = Ring(max(per_router, 1), MEMORY, self._read_last())

    @property
    def enabled(self) -> bool:
        """True if entries are kept."""
        return self._per_router > 0

    def start(self) -> None:
        """Start the thread."""
        if self.enabled:
            make_thread("history", self._main).start()

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry, which gets its number here.

        :param entry: with the keys ``time`` and ``router`` (its id or None)
        """
        if not self.enabled:
            return
        one = pack({"seq": self.ring.last + 1, **entry})
        self.ring.add(one)
        self._idle.clear()
        self._lost += len(self._waiting) == WAITING
        self._waiting.append(one)
        self._wanted.set()

    def write(self) -> None:
        """Write the entries that wait, without the thread; a failure is logged once, and the next call tries again."""
        if self._waiting:
            self._write()

    def flush(self, seconds: float) -> None:
        """Wait until all entries are written, or so many seconds: for the end of the daemon."""
        if self.enabled and self._waiting and not self.trouble:
            self._idle.wait(seconds)

    def _main(self) -> None:
        self._load()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                if not self._write():
                    time.sleep(backoff.delay(self._failures, FIRST_PAUSE, LAST_PAUSE))
            self._idle.set()

    def _read_last(self) -> int:
        """Return the number of the last entry of earlier runs; a file that cannot be read is not continued."""
        if not self.enabled:
            return 0
        try:
            return file.last_number(self.path)
        except OSError as exc:
            self._failed(f"{self.path} cannot be read: {exc.strerror}")
            return 0

    def _load(self) -> None:
        try:
            self.ring.put_before(file.load(self.path, LOADED))
        except OSError as exc:
            self._failed(f"{self.path} cannot be read: {exc.strerror}")

    def _write(self) -> bool:
        """Write the entries that wait; returns False if that failed."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        data = file.join(one.text.encode() for one in batch)
        try:
            self._append(data)
        except OSError as exc:
            lost = max(len(batch) + len(self._waiting) - WAITING, 0)
            self._waiting.extendleft(reversed(batch[lost:]))
            self._lost += lost
            self._close()
            self._failed(f"{self.path} cannot be written, the newest changes are not in it: {exc.strerror}")
            return False
        if self.trouble:
            lacking = f"; it lacks {count(self._lost, 'change')} of meanwhile" if self._lost else ""
            LOG.info("recovered: the history of changes is written to %s%s", self.path, lacking)
        self._failures, self._lost, self.trouble = 0, 0, ""
        return True

    def _append(self, data: bytes) -> None:
        """Append lines to the file, and make it smaller first if it is too large.

        :raises OSError: nothing, or a part, was written
        """
        if self._fd < 0 or self._is_replaced():
            self._close()
            self._fd = file.open_to_append(self.path)
            self._size = os.fstat(self._fd).st_size
        if self._size + len(data) > self._limit and self._size:
            file.shrink(self.path, self._per_router, self._limit)
            self._close()
            self._fd = file.open_to_append(self.path)
            self._size = os.fstat(self._fd).st_size
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            view = view[written:]
            self._size += written

    def _is_replaced(self) -> bool:
        """Return True if the file was removed, or another one has its name."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        mine = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _failed(self, trouble: str) -> None:
        """Note a fault; it is logged once."""
        self._failures += 1
        text = f"history of changes: {trouble}"
        if text != self.trouble:
            LOG.warning("%s", text)
        self.trouble = text
