"""Writes changed state files by the worker thread: about every second while jobs run, at once when no job waits."""

from __future__ import annotations

import logging
import time

from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.api import Reconciler

LOG = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
FLUSH_RETRY_SECONDS = 5.0
"""Seconds between two tries to write state files that could not be written."""


class StateFiles:
    """Decides when state files are written.  Belongs to the hub's thread.

    :ivar error: why state files cannot be written, empty if they can
    """

    def __init__(self, reconciler: Reconciler, worker: WorkerThread) -> None:
        self._reconciler, self._worker = reconciler, worker
        self._dirty, self._flushed = False, time.monotonic()
        self.error = ""

    @property
    def seconds_to_wait(self) -> float | None:
        """Seconds after which :meth:`flush_if_due` has to be called again; None: no flush is due."""
        return FLUSH_SECONDS if self._dirty else None

    def mark_dirty(self) -> None:
        """Note that a job may have changed what state files hold."""
        self._dirty = True

    def flush_if_due(self, idle: bool) -> None:
        """Flush if that is due.

        :param idle: no job waits
        """
        since = time.monotonic() - self._flushed
        due = since >= FLUSH_RETRY_SECONDS if self.error else idle or since >= FLUSH_SECONDS
        if self._dirty and due:
            self.flush()

    def flush(self) -> None:
        """Write changed state files.  A failure is logged once, and the next flush tries again."""
        self._flushed = time.monotonic()
        error = ""
        try:
            self._worker.call(self._reconciler.flush)
            self._dirty = False
        except DvrError as exc:
            error = str(exc)
        except Exception as exc:
            LOG.exception("state files could not be written")
            error = f"{type(exc).__name__}: {exc}"
        if error and error != self.error:
            LOG.error("state files could not be written, retrying every %.0f s: %s", FLUSH_RETRY_SECONDS, error)
        elif self.error and not error:
            LOG.info("recovered: state files are written again")
        self.error = error
