"""Carries out jobs of the host (sweep, bridges, announcements), and its part when a router's job has ended."""

from __future__ import annotations

from functools import partial

from dvr_agent.daemon.announcements import AnnouncementRepeater
from dvr_agent.daemon.host_hindrances import HostHindranceWatch
from dvr_agent.daemon.idle_bridges import IdleBridges
from dvr_agent.daemon.job_result import JobResult
from dvr_agent.daemon.jobs import HostJob
from dvr_agent.daemon.left_alone_notice import LeftAloneNotice
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.reconcile.api import Reconciler


class HostJobs:
    """Does the host's part of the dispatcher's work.  All methods belong to the dispatcher's green thread."""

    def __init__(
        self,
        reconciler: Reconciler,
        worker: WorkerThread,
        resync: Resync,
        idle_bridges: IdleBridges,
        repeater: AnnouncementRepeater,
        hindrances: HostHindranceWatch,
    ) -> None:
        self._reconciler, self._worker = reconciler, worker
        self._resync, self._idle_bridges, self._repeater = resync, idle_bridges, repeater
        self._hindrances, self._left_alone = hindrances, LeftAloneNotice()

    def run(self, kind: HostJob) -> None:
        """Carry out a host job; a failure is logged."""
        if kind is HostJob.BEGIN_ROUND:
            documents = self._resync.documents()
            self._left_alone.check(self._reconciler.planner, documents)
            begin = partial(self._reconciler.begin_resync, documents, self._resync.trusting)
            self._worker.try_call(begin, "shared parts cannot be prepared")
            self._hindrances.check()
        elif kind is HostJob.SWEEP:
            self._resync.sweep()
        elif kind is HostJob.ANNOUNCE:
            self._repeater.send_due()
        else:
            self._idle_bridges.remove()

    def router_job_ended(self, router_id: str, result: JobResult) -> None:
        """Schedule repeated announcements and checks for idle bridges, and note that the round has tried the router."""
        if result.reconciled is not None:
            self._repeater.repeat(router_id, result.reconciled.announcements, result.reconciled.arp)
            # The stale sweep at the end of the first resync checks for idle bridges once for all routers.
            if result.reconciled.plan and self._resync.first_done.is_set():
                self._idle_bridges.check_later()
        self._resync.router_tried(router_id)
