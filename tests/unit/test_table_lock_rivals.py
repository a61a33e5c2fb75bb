"""A lock of iptables programs that others take again and again: free when the hub looks, held when a job tries."""

from __future__ import annotations

import logging

import pytest

from dvr_agent.daemon import eventlet_shim, table_lock
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.jobs import UpdateRouter
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.table_lock import TableLock
from dvr_agent.kernel.iptables import lock
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import Document
from tests.support.small_routers import make_router

LOCKED = JobResult(RouterState.DEGRADED, "held", retry=True, locked=True)
TRIES = 2000


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "is_free", lambda: True)
    monkeypatch.setattr(lock, "holder", lambda: "")
    for name, seconds in (("PATIENCE", 0.2), ("QUIET", 0.1), ("PAUSE", 0.001)):
        monkeypatch.setattr(table_lock, name, seconds)


def opened() -> tuple[Schedule, TableLock]:
    schedule, router = Schedule(RetryPolicy(3000, 3000)), make_router("one", 1)
    schedule.document_changed(Document(router.name, router, b""), 0.0)
    return schedule, TableLock(schedule)


def try_once(schedule: Schedule, table_lock: TableLock, result: JobResult) -> bool:
    """Carry out the queued job as the dispatcher does; False if there is none, or it has failed."""
    while (job := schedule.take()) is None:
        eventlet_shim.sleep(0.001)
    assert isinstance(job.work, UpdateRouter)
    waits = result.locked and table_lock.wait(job)
    if not waits:
        table_lock.router_job_ended(job.key, result)
        schedule.job_ended(job, result)
    schedule.done(job.key)
    return waits


@pytest.mark.usefixtures("impatient")
def test_a_job_behind_such_a_lock_is_told_and_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    schedule, table = opened()
    for _ in range(TRIES):
        if not try_once(schedule, table, LOCKED):
            break
    (record,) = schedule.records
    assert (record.job_state, record.failures) == (RouterState.DEGRADED, 1)
    assert "held by another program" in table.trouble
    assert sum("waiting for " in message for message in caplog.messages) == 1
    # It goes on trying; the first try that gets the lock ends it.
    assert try_once(schedule, table, LOCKED)
    assert not try_once(schedule, table, JobResult(RouterState.IN_SYNC))
    assert (table.trouble, table.waiting) == ("", 0)
    assert sum("is free again" in message for message in caplog.messages) == 1
    (record,) = schedule.records
    assert record.job_state is RouterState.IN_SYNC


@pytest.mark.usefixtures("impatient")
def test_the_lock_is_not_tried_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, table = opened()
    looks = iter(range(9))
    monkeypatch.setattr(lock, "is_free", lambda: next(looks) >= 0)
    assert try_once(schedule, table, LOCKED)
    eventlet_shim.sleep(0)
    assert next(looks) == 0, "the job has just found it held"
    assert not try_once(schedule, table, JobResult(RouterState.IN_SYNC))
