"""Warns, once, of what stops the traffic of many routers without being ours; looks at each resync and audit."""

from __future__ import annotations

from dvr_agent.daemon.job_texts import log_hindrances
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.reconcile.api import Reconciler


class HostHindranceWatch:
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
        log_hindrances([text for text in now if text not in before], [text for text in before if text not in now])

    def _find(self) -> tuple[str, ...]:
        return self._reconciler.planner.host_hindrances()
