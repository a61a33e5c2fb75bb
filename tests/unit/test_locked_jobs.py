"""A job that finds the lock of iptables programs held: what the kernel has told meanwhile is not lost."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TypeVar

import pytest

from dvr_agent.daemon import jobs
from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.drift_watch import DriftWatch
from dvr_agent.daemon.fights import Fights
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.model.router import Router
from dvr_agent.reconcile.drift import Finding, Judgement
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import Document
from tests.support.small_routers import make_router

T = TypeVar("T")

ONE, TWO = make_router("one", 1), make_router("two", 2)


class Judge:
    """Has heard this, once."""

    def __init__(self, heard: Judgement) -> None:
        self._heard = heard

    def judge(self, _own: str = "") -> Judgement:
        heard, self._heard = self._heard, Judgement()
        return heard

    def job_begins(self, _router_id: str) -> None:
        raise OSError  # what was heard before is not lost

    def job_ended(self, _router_id: str) -> None:
        pass


class Worker:
    def call(self, function: Callable[[], T]) -> T:
        return function()


def in_sync(schedule: Schedule, *routers: Router) -> None:
    """Have the routers built."""
    for router in routers:
        schedule.document_changed(Document(router.name, router, b""), 0.0)
    while (job := schedule.take()) is not None:
        schedule.job_ended(job, JobResult(RouterState.IN_SYNC))
        schedule.done(job.key)


def test_events_heard_by_a_job_that_waits_for_the_lock_count(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, audits = Schedule(RetryPolicy(1, 60)), []
    in_sync(schedule, ONE, TWO)
    heard = Judgement((Finding(TWO.id, "a route", "gone"),), lost="the kernel dropped events")
    resync = SimpleNamespace(audit_now=lambda: audits.append("audit"))
    drift = DriftWatch(Judge(heard), Worker(), schedule, resync, Fights())  # type: ignore[arg-type]
    locked = JobResult(RouterState.DEGRADED, "held", retry=True, locked=True)
    monkeypatch.setattr(jobs, "run", lambda _job, _reconciler: (0.0, locked))
    parts = SimpleNamespace(reconciler=None, source=None)
    table_lock, unused = SimpleNamespace(wait=lambda _job: True), SimpleNamespace()
    dispatcher = Dispatcher(parts, Worker(), schedule, unused, unused, unused, drift, table_lock, unused)  # type: ignore[arg-type]
    schedule.requeue(ONE.id, Priority.EVENT)
    job = schedule.take()
    assert job is not None
    dispatcher._do_router(job, job.work)  # type: ignore[arg-type]
    schedule.done(job.key)
    queued = schedule.take()
    assert queued is not None
    assert (queued.key, queued.priority, audits) == (TWO.id, Priority.DRIFT, ["audit"])
