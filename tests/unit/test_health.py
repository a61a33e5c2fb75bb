"""What counts as no progress, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dvr_agent.daemon import health
from dvr_agent.daemon.health import Health


class Site:
    """A worker and a dispatcher as a test wants them; time passes in :meth:`look`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worker = SimpleNamespace(
            busy_since=None, calls=0, processor_seconds=0.0, is_alive=True, waiting=0, stack=lambda: "here\n"
        )
        self.schedule = SimpleNamespace(runnable=False, depth=0)
        self.dispatcher = SimpleNamespace(working_on=None)
        self.health = Health(self.worker, self.schedule, self.dispatcher, 10.0, lambda: self.now)  # type: ignore[arg-type]
        self.health.watch()

    def look(self, times: int, step: float = 0.5) -> None:
        for _ in range(times):
            self.now += step
            self.health.watch()

    def begin_call(self) -> None:
        self.worker.busy_since = self.now
        self.dispatcher.working_on = {"job": "one", "seconds": 0.0}


def bad(site: Site) -> list[str]:
    return [check.text for check in site.health.checks() if not check.ok]


def test_an_idle_worker_may_be_idle_for_ever() -> None:
    site = Site()
    site.look(1000)
    assert site.health.ok


def test_a_call_without_processor_time_is_stuck_after_the_timeout() -> None:
    site = Site()
    site.begin_call()
    site.look(20)
    assert site.health.ok
    site.look(2)
    assert bad(site) == ["the worker is stuck in a system call for 10 s (one)"]
    site.worker.busy_since, site.worker.calls = None, 1
    site.look(1)
    assert site.health.ok


def test_a_call_that_uses_a_little_of_the_processor_now_and_then_is_not_stuck() -> None:
    site = Site()
    site.begin_call()
    for _ in range(100):
        site.look(15)
        site.worker.processor_seconds += 0.000_01
    assert site.health.ok
    assert site.health.busy_seconds == 750


def test_many_short_calls_are_not_one_long_one() -> None:
    site = Site()
    for _ in range(100):
        site.begin_call()
        site.look(1)
        site.worker.calls += 1
    assert site.health.ok


def test_no_call_may_take_an_hour() -> None:
    site = Site()
    site.begin_call()
    for _ in range(int(health.LONGEST_CALL)):
        site.worker.processor_seconds += 1
        site.look(1, 1.0)
    assert bad(site) == ["the worker has not finished a call for 3600 s (one)"]


def test_time_in_which_nobody_looked_counts_as_one_step() -> None:
    site = Site()
    site.begin_call()
    site.look(3, 1000.0)  # the process was stopped, or its machine was
    assert site.health.ok


def test_jobs_that_wait_while_nothing_works_are_a_stuck_dispatcher() -> None:
    site = Site()
    site.schedule.runnable, site.schedule.depth = True, 3
    site.look(22)
    assert bad(site) == ["jobs wait and none starts for 10 s"]
    site.dispatcher.working_on = {"job": "one", "seconds": 0.0}
    site.look(1)
    assert site.health.ok


def test_a_worker_that_has_ended_is_seen_at_once(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    site.worker.is_alive = False
    site.look(5)
    assert bad(site) == ["the worker thread has not started, or has ended"]
    assert len([message for message in caplog.messages if message.startswith("no progress")]) == 1
