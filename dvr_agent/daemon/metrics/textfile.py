"""Writes the metrics into a file for the textfile collector of node_exporter, again and again.

A thread of its own writes, since a disk may block it for long; while it is blocked no further text waits for it.  The
file is replaced as a whole, and keeps its last content when the agent ends: node_exporter tells its age
(``node_textfile_mtime_seconds``).
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from queue import SimpleQueue

from dvr_agent import securefiles
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.metrics.exposition import Exposition
from dvr_agent.threads import start_thread

LOG = logging.getLogger(__name__)

MODE = 0o644
"""node_exporter has a user of its own."""
BLOCKED_SECONDS = 60.0
"""A write that takes longer is logged."""


class TextfileWriter:
    """Writes from :meth:`write_periodically` on.

    :param path: None: nothing is written
    :param interval: seconds
    """

    def __init__(self, path: Path | None, interval: float, exposition: Exposition) -> None:
        self._path, self._interval, self._exposition = path, interval, exposition
        self._texts: SimpleQueue[bytes] = SimpleQueue()
        self._writing_since: float | None = None
        self._is_blocked = False
        self._error = ""

    def write_periodically(self) -> None:
        """Make the text in the hub's thread, have the other thread write it; never returns, except without a file."""
        if self._path is None:
            return
        start_thread("textfile", self._write_all, self._path)
        while True:
            if self._writing_since is None:
                self._writing_since, self._is_blocked = time.monotonic(), False
                self._texts.put(self._exposition.text())
            elif not self._is_blocked and time.monotonic() - self._writing_since >= BLOCKED_SECONDS:
                self._is_blocked = True
                LOG.warning(
                    "%s: has not been written for %.0f s: its disk does not answer", self._path, BLOCKED_SECONDS
                )
            eventlet_shim.sleep(self._interval)

    def _write_all(self, path: Path) -> None:
        while True:
            text = self._texts.get()
            try:
                securefiles.replace(path, text, MODE)
            except OSError as exc:
                self._report(path, exc.strerror or str(exc))
            else:
                self._report(path, "")
            self._writing_since = None

    def _report(self, path: Path, error: str) -> None:
        """Log an error once, and its end."""
        if error and error != self._error:
            LOG.error("%s: metrics cannot be written, retrying: %s", path, error)
        elif self._error and not error:
            LOG.info("recovered: metrics are written to %s again", path)
        self._error = error
