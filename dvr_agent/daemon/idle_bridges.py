"""Removes bridges of this agent whose network no router document names any more."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial

from dvr_agent import logs
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.history import History
from dvr_agent.daemon.jobs import HostJob
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.stale_sweep import StaleSweep
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.reconcile.history_entries import bridge_groups

LOG = logging.getLogger(__name__)

CHECK_SECONDS = (1.0, 10.0)
"""Delays of the checks for idle bridges after a change.  The kernel tears namespaces down in the background, and may be
slow: so there are two."""


class IdleBridges:
    """Checks for idle bridges after changes, and removes them.  Belongs to the hub's thread."""

    def __init__(
        self,
        reconciler: Reconciler,
        worker: WorkerThread,
        schedule: Schedule,
        listing: RouterListing,
        stale_sweep: StaleSweep,
        history: History,
    ) -> None:
        self._reconciler, self._worker, self._schedule = reconciler, worker, schedule
        self._listing, self._stale_sweep, self._history = listing, stale_sweep, history
        self._running: set[float] = set()
        """Members of :data:`CHECK_SECONDS` whose timer runs: many changes share one check."""

    def check_later(self) -> None:
        """Queue checks in some seconds: a router was changed or removed, so a bridge may be idle."""
        for seconds in CHECK_SECONDS:
            if seconds not in self._running:
                self._running.add(seconds)
                eventlet_shim.GreenTimer(seconds, partial(self._queue_check, seconds))

    def remove(self) -> None:
        """Remove idle bridges, if the documents of all routers are certainly known."""
        if not self._listing.usable or self._stale_sweep.guard:
            return
        documents = [record.document for record in self._schedule.records if record.document is not None]
        networks = {network_id for document in documents for network_id in document.router.networks}
        remove = partial(remove_bridges, self._reconciler, networks)
        removed = self._worker.try_call(remove, "bridges cannot be removed")
        if removed is not None and removed[1]:
            self._history.removed("bridges", removed[0], bridge_groups(removed[1]), {})

    def _queue_check(self, seconds: float) -> None:
        self._running.discard(seconds)
        self._schedule.put_host_job(HostJob.REMOVE_BRIDGES, Priority.AUDIT)


def remove_bridges(reconciler: Reconciler, networks: Collection[str]) -> tuple[str, list[str]]:
    """Remove idle bridges, and log their names.  For the worker thread.

    :param networks: networks of all router documents, whose bridges stay
    :returns: (request id of the log lines, names of the bridges)
    :raises DvrError: the kernel refused
    """
    with logs.job_context() as request_id:
        names = reconciler.remove_bridges(networks)
        if names:
            LOG.info("bridges removed, no router document names their networks: %s", ", ".join(names))
        return request_id, names
