"""What follows from drift that was heard: repairs and refused repairs, and audits in place of lost events."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from dvr_agent.daemon import eventlet_shim, loss_audits
from dvr_agent.daemon.counters import DaemonCounters
from dvr_agent.daemon.drift_watch import DriftWatch
from dvr_agent.daemon.fights import Fights
from dvr_agent.daemon.floating_ip_counts import FloatingIpCounts
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.jobs import UpdateRouter
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.kernel.port_owner import Author
from dvr_agent.reconcile.api import Plan, Result
from dvr_agent.reconcile.drift import Finding, Judgement
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import Document
from dvr_agent.state.diff import Action, Change, Changes
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import make_limit
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import thing_of
from dvr_agent.state.route import MAIN_TABLE, Hop, make_route
from tests.support.daemon_jobs import Timers
from tests.support.small_routers import make_router

ROUTER = make_router("one", 1)
WORK = UpdateRouter(Document("one", ROUTER, b""))
NAMESPACE = f"qrouter-{ROUTER.id}"
REFUSED, OTHER = (make_route(f"192.0.2.{number}/32", MAIN_TABLE, Hop(None, "qr-x")) for number in (1, 2))
FOUND = Judgement((Finding(ROUTER.id, thing_of(NAMESPACE, REFUSED), f"{NAMESPACE}: route gone", Author(4711, "ip")),))


class Host:
    """A router in sync, and what is heard of it."""

    def __init__(self) -> None:
        self.schedule, self.fights = Schedule(RetryPolicy(100, 300)), Fights()
        self.audits: list[str] = []
        resync = SimpleNamespace(audit_now=lambda: self.audits.append("audit"))
        self.watch = DriftWatch(None, None, self.schedule, resync, self.fights)  # type: ignore[arg-type]
        self.schedule.document_changed(WORK.document, 0.0)
        self.end(JobResult(RouterState.IN_SYNC))

    def end(self, result: JobResult) -> Priority | None:
        """End the queued job; returns its priority, None if there is no job."""
        job = self.schedule.take()
        if job is None:
            return None
        self.schedule.job_ended(job, result)
        heard = SimpleNamespace(before=Judgement(), after=FOUND if result.retry else Judgement())
        self.watch.job_ended(WORK, job.priority.repairs, result, heard)  # type: ignore[arg-type]
        self.schedule.done(job.key)
        return job.priority


def refused() -> JobResult:
    """Another route was made, this one was refused."""
    plan = Plan("router", (Changes(NAMESPACE, items=(Change(Action.ADD, OTHER),)),))
    undone = frozenset({thing_of(NAMESPACE, REFUSED)})
    return JobResult(RouterState.DEGRADED, "refused", Result(plan, 0.0, undone=undone), retry=True)


def test_drift_of_a_partly_made_router_is_worked_on_at_once() -> None:
    host = Host()
    host.schedule.requeue(ROUTER.id, Priority.RETRY)
    assert host.end(refused()) is Priority.RETRY
    host.watch._hear(FOUND)
    assert host.end(refused()) is Priority.DRIFT
    host.watch._hear(FOUND)
    job = host.schedule.take()
    assert job is not None
    assert isinstance(job.work, UpdateRouter)
    assert job.work.recovering, "a success is logged as recovered"


def test_drift_of_a_router_of_which_nothing_was_made_waits_for_the_retry() -> None:
    host = Host()
    host.schedule.requeue(ROUTER.id, Priority.RETRY)
    host.end(JobResult(RouterState.DEGRADED, "no descriptor", retry=True))
    host.watch._hear(FOUND)
    assert host.end(refused()) is None


@pytest.mark.parametrize("priority", [Priority.DRIFT, Priority.AUDIT])
def test_what_the_retry_of_a_repair_changes_is_repaired_drift(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, priority: Priority
) -> None:
    timers = Timers()
    monkeypatch.setattr(eventlet_shim, "GreenTimer", timers)
    caplog.set_level(logging.INFO)
    host = Host()
    host.schedule.requeue(ROUTER.id, priority)
    for _ in range(2):  # the retry of a retry as well
        host.end(JobResult(RouterState.DEGRADED, "no descriptor", retry=True))
        assert timers.run()
    assert host.end(refused()) is Priority.DRIFT
    (message,) = [message for message in caplog.messages if "drift repaired" in message]
    assert message.endswith(OTHER.text)


def test_what_the_retry_of_an_update_changes_is_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers()
    monkeypatch.setattr(eventlet_shim, "GreenTimer", timers)
    host = Host()
    host.schedule.requeue(ROUTER.id, Priority.EVENT)
    host.end(JobResult(RouterState.DEGRADED, "no descriptor", retry=True))
    assert timers.run()
    assert host.end(JobResult(RouterState.IN_SYNC)) is Priority.RETRY


def test_a_refused_repair_is_no_repair_and_is_tried_after_growing_waits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host = Host()
    for _ in range(3):
        host.watch._hear(FOUND)
        assert host.end(refused()) is Priority.DRIFT
        assert host.end(refused()) is None, "what its own job was refused is no new drift"
    repaired = [message for message in caplog.messages if "drift repaired" in message]
    assert len(repaired) == 3
    assert all(str(OTHER.text) in message for message in repaired)
    assert len([message for message in caplog.messages if "10 minutes" in message]) == 1
    host.watch._hear(FOUND)
    assert host.end(refused()) is None


def test_what_was_refused_alone_is_not_counted_as_repaired(caplog: pytest.LogCaptureFixture) -> None:
    host, counters = Host(), DaemonCounters(FloatingIpCounts(HostSettings("host", AgentMode.DVR)))
    undone = frozenset({thing_of(NAMESPACE, REFUSED)})
    nothing = JobResult(RouterState.DEGRADED, "refused", Result(Plan("router"), 0.0, undone=undone), retry=True)
    for _ in range(3):
        host.watch._hear(FOUND)
        host.end(nothing)
        counters.job_ended("drift", Priority.DRIFT, 0.0, 0.0, nothing)
    assert (counters.drift_repaired, counters.failures) == (0, 3)
    (message,) = [message for message in caplog.messages if "10 minutes" in message]
    assert (
        f"{NAMESPACE}: route gone could not be repaired 3 times in 10 minutes, changed by ip (process 4711)" in message
    )


LINK = Link("qr-x", "fa:16:3e:00:00:01", 1450, True)


@pytest.mark.parametrize(("gone", "by"), [(LINK, ", changed by ip (process 4711)"), (REFUSED, "")])
def test_only_what_takes_others_with_it_lends_them_its_author(
    caplog: pytest.LogCaptureFixture, gone: KernelObject, by: str
) -> None:
    """A limit has no events: it goes with its device, and with nothing else."""
    caplog.set_level(logging.INFO)
    host, limit = Host(), make_limit("qr-x", "leaving", "203.0.113.5", 1000, 800)
    host.watch._hear(Judgement((Finding(ROUTER.id, thing_of(NAMESPACE, gone), "gone", Author(4711, "ip")),)))
    plan = Plan("router", (Changes(NAMESPACE, items=(Change(Action.ADD, limit),)),))
    assert host.end(JobResult(RouterState.IN_SYNC, reconciled=Result(plan, 0.0))) is Priority.DRIFT
    (message,) = [message for message in caplog.messages if "drift repaired" in message]
    assert message.endswith(limit.text + by)


LOST = Judgement(lost="the kernel dropped events")


def test_events_that_are_lost_again_and_again_lead_to_audits_with_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_audits, "FIRST_PAUSE", 1.0)
    host = Host()
    for _ in range(100):
        host.watch._hear(LOST)
    assert len(host.audits) == 1
    while len(host.audits) == 1:
        eventlet_shim.sleep(0.01)
    for _ in range(100):
        host.watch._hear(LOST)
    assert len(host.audits) == 2
    assert len([message for message in caplog.messages if "were lost" in message]) == 1
