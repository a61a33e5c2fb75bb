"""A flood of changes of one router becomes a few jobs; changes at an ordinary pace never wait."""

from __future__ import annotations

import pytest

from dvr_agent.daemon.change_rate import LONGEST, PATIENT, ChangeRate


def jobs_in_flood(changes: int, pause: float, job_seconds: float) -> tuple[int, float]:
    """Play changes against a worker that is always free; returns the number of jobs and the longest wait."""
    rate, now, jobs, longest = ChangeRate(), 0.0, 0, 0.0
    busy_until, due, waiting_since = 0.0, None, 0.0
    for number in range(changes + int(60 / pause)):
        now = number * pause
        if busy_until and now >= busy_until:
            rate.job_ended("a", busy_until)
            busy_until = 0.0
        if due is not None and not busy_until and now >= due:
            rate.job_begins("a", now)
            jobs, longest, busy_until, due = jobs + 1, max(longest, now - waiting_since), now + job_seconds, None
        if number >= changes:
            continue
        seconds = rate.change_came("a", now, waits=due is not None or bool(busy_until))
        if due is None:
            due, waiting_since = now + seconds, now
    assert due is None  # the last change was worked on
    return jobs, longest


@pytest.mark.parametrize(("pause", "most"), [(0.001, 20), (0.005, 50)])
def test_ten_thousand_changes_are_few_jobs(pause: float, most: int) -> None:
    jobs, longest = jobs_in_flood(10_000, pause, job_seconds=0.015)
    assert jobs <= most
    assert longest <= LONGEST + 0.1


def test_changes_that_are_slower_than_jobs_never_wait() -> None:
    rate = ChangeRate()
    for number in range(100):
        assert rate.change_came("a", number / 10, waits=False) == 0
        rate.job_begins("a", number / 10)
        rate.job_ended("a", number / 10 + 0.02)


def test_some_changes_in_quick_succession_do_not_wait() -> None:
    rate = ChangeRate()
    for number in range(PATIENT + 1):
        assert rate.change_came("a", number / 100, waits=False) == 0
        rate.job_begins("a", number / 100)
        rate.job_ended("a", number / 100 + 0.009)


def flood(rate: ChangeRate, key: str) -> None:
    for number in range(20):
        rate.change_came(key, number / 100, waits=True)
        rate.job_begins(key, number / 100)


def test_after_a_flood_the_router_is_worked_on_at_once_again() -> None:
    rate = ChangeRate()
    flood(rate, "a")
    assert rate.change_came("a", 0.2, waits=False) > 1
    assert rate.change_came("a", 9.0, waits=False) == 0


def test_another_router_does_not_wait() -> None:
    rate = ChangeRate()
    flood(rate, "a")
    assert not rate.change_came("b", 0.2, waits=False)
    rate.forget("a")
    assert not rate.change_came("a", 0.2, waits=False)
