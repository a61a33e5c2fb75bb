"""Warns, once, of what stops the traffic of many routers without being ours; looks at each resync and audit."""

from __future__ import annotations

import logging

from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.reconcile.api import Reconciler

LOG = logging.getLogger(__name__)


class HostHindrances:
    """Remembers what was found last.  Belongs to the dispatcher's green thread.

    :ivar found: what was found last, a text for each
    """

    def __init__(self, reconciler: Reconciler, worker: WorkerThread) -> None:
        self._reconciler, self._worker = reconciler, worker
        self.found: tuple[str, ...] = ()

    def check(self) -> None:
        """Look again; log what began, and what has ceased, to stop traffic."""
        now = self._worker.try_call(self._find, "what others have set cannot be read")
        if now is None:
            return
        before, self.found = self.found, now
        for text in now:
            if text not in before:
                LOG.warning("traffic may be stopped by others: %s", text)
        for text in before:
            if text not in now:
                LOG.info("traffic is no longer stopped by others: %s", text)

    def _find(self) -> tuple[str, ...]:
        return self._reconciler.planner.host_hindrances()
