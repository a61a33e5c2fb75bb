"""Reads kernel and state files at the start; nothing is written before that has succeeded.  ``service`` runs it."""

from __future__ import annotations

import logging

from dvr_agent import backoff
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.settings import RetryPolicy

LOG = logging.getLogger(__name__)


class Start:
    """Repeats the first read until it succeeds.  Belongs to the hub's thread.

    :ivar obstacle: why kernel and state files could not be read at the last try, empty otherwise
    :ivar done: set when they were read
    """

    def __init__(self, reconciler: Reconciler, worker: WorkerThread, retry: RetryPolicy) -> None:
        self._reconciler, self._worker, self._retry = reconciler, worker, retry
        self.obstacle = ""
        self.done = eventlet_shim.GreenEvent()

    def run(self) -> None:
        """Read kernel and state files; retry until that succeeds."""
        failures = 0
        while not self.done.is_set():
            try:
                self._worker.call(self._reconciler.load)
            except DvrError as exc:
                failures += 1
                seconds = backoff.delay(failures, self._retry.first, self._retry.maximum)
                LOG.error("kernel and state files cannot be read, retrying in %.1f s: %s", seconds, exc)
                self.obstacle = f"kernel and state files cannot be read: {exc}"
                eventlet_shim.sleep(seconds)
            else:
                self.obstacle = ""
                self.done.set()
