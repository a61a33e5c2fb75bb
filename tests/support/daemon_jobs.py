"""The daemon's jobs one after the other, without its threads: schedule, jobs and drift watch are the daemon's own.

What follows from a job (other routers to reconcile again, retries, checks after drift) is done as the daemon does it.
There are no audits, and no resyncs but those that a test asks for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dvr_agent.daemon import eventlet_shim, jobs
from dvr_agent.daemon.drift_watch import DriftWatch
from dvr_agent.daemon.fights import Fights
from dvr_agent.daemon.job_result import JobResult
from dvr_agent.daemon.jobs import HostJob
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Plan, RouterPlanner
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import Document
from tests.support.heard import hearing
from tests.support.waiting import wait_for


class Timers:
    """Stands for ``eventlet_shim.GreenTimer``: what is due later is done when there is nothing else to do."""

    def __init__(self) -> None:
        self._waiting: dict[object, Callable[[], None]] = {}

    def __call__(self, _seconds: float, call: Callable[[], None]) -> Any:
        key = object()
        self._waiting[key] = call
        return SimpleNamespace(cancel=lambda: self._waiting.pop(key, None))

    def run(self) -> bool:
        """Do all that waits; False if there is nothing."""
        due, self._waiting = list(self._waiting.values()), {}
        for call in due:
            call()
        return bool(due)


class DaemonJobs:
    """The jobs of one process.

    :param hears: it hears the kernel's events
    :ivar results: (router id, result) of the jobs of the last :meth:`run`
    """

    def __init__(self, reconciler: RouterReconciler, monkeypatch: pytest.MonkeyPatch, hears: bool = True) -> None:
        self._timers = Timers()
        monkeypatch.setattr(eventlet_shim, "GreenTimer", self._timers)
        self.reconciler, self._schedule = reconciler, Schedule(RetryPolicy(1, 1))
        reconciler.load()
        self._judge = hearing(reconciler) if hears else None
        resync: Any = SimpleNamespace(audit_now=lambda: pytest.fail("events were lost"))
        worker: Any = None  # it follows the events while no job is at work
        self._watch = DriftWatch(self._judge, worker, self._schedule, resync, Fights())
        self.results: list[tuple[str, JobResult]] = []

    def close(self) -> None:
        if self._judge is not None:
            self._judge.close()

    @property
    def routers(self) -> list[Router]:
        """The documents in force."""
        found = (record.document for record in self._schedule.records if not record.deleted)
        return [document.router for document in found if document is not None]

    @property
    def built(self) -> list[Router]:
        """The documents of routers that are built here, at least in part."""
        alone = self.reconciler.planner.why_left_alone
        return [router for router in self.routers if router.admin_state_up and not alone(router)]

    def put(self, *routers: Router) -> None:
        for router in routers:
            self._schedule.document_changed(Document(router.name, router, b""), 0.0)

    def delete(self, router: Router) -> None:
        self._schedule.document_deleted(router.id, router.name, 0.0)

    def resync(self, trusting: bool = True) -> None:
        self.reconciler.begin_resync([(router.name, router) for router in self.routers], trusting)
        for router in self.routers:
            self._schedule.requeue(router.id, Priority.RESYNC)

    def sweep(self) -> None:
        """Remove stale objects, as a daemon does after the first resync, and when a router went."""
        self.reconciler.remove_stale({router.id for router in self.routers})

    def run(self, at_most: int = 60) -> None:
        """Do jobs until none follows; fails if they do not come to an end."""
        self.results = []
        while self._do_one() or self._timers.run() or self._follow():
            assert len(self.results) < at_most, [router_id for router_id, _ in self.results]

    def _do_one(self) -> bool:
        job = self._schedule.take()
        if job is None:
            return False
        assert not isinstance(job.work, HostJob)
        (_late, result), heard = self._watch.around(job.key, lambda: jobs.run(job, self.reconciler))
        self._schedule.job_ended(job, result)
        self._watch.job_ended(job.work, job.priority.repairs, result, heard)
        self._schedule.done(job.key)
        self.results.append((job.key, result))
        return True

    def _follow(self) -> bool:
        """Hear what other programs have done meanwhile; False if no job follows from it."""
        while self._judge is not None:
            judgement = self._judge.judge()
            self._watch._hear(judgement)
            if not judgement.more:
                break
        return self._schedule.depth > 0

    def differing(self, planner: RouterPlanner | None = None) -> dict[str, Plan]:
        """Return the plans, which read everything, that have something to do; the one of stale objects is among them.

        :param planner: default: the one of this process
        """
        planner = planner or self.reconciler.planner
        plans = {router.name: planner.plan(router) for router in self.built}
        known = {router.id for router in self.routers}
        # The kernel tears namespaces down in the background, with their pairs.
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not planner.plan_stale(known), patience=20)
        plans["stale"] = planner.plan_stale(known)
        return {name: plan for name, plan in plans.items() if plan}
