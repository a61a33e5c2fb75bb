"""An error that comes again and again is logged at once, then after growing pauses."""

from __future__ import annotations

import pytest

from dvr_agent.repeats import MOST, Repeats


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr("dvr_agent.repeats.time.monotonic", lambda: clock[0])
    return clock


def due(repeats: Repeats, now: list[float], seconds: int) -> list[float]:
    """The times at which a text that comes every second is due."""
    found = []
    for _ in range(seconds):
        if repeats.is_due("disk full"):
            found.append(now[0])
        now[0] += 1
    return found


def test_pauses_grow_up_to_an_hour(now: list[float]) -> None:
    minutes = [time / 60 for time in due(Repeats(), now, 5 * 3600)]
    assert minutes == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_what_was_away_for_long_is_new(now: list[float]) -> None:
    repeats = Repeats()
    due(repeats, now, 600)
    now[0] += 10_000
    assert [time - 10_600 for time in due(repeats, now, 200)] == [0, 60, 180]


def test_another_text_is_due_at_once_and_what_works_again_is_forgotten(now: list[float]) -> None:
    repeats = Repeats()
    assert repeats.is_due("one")
    assert repeats.is_due("other")
    assert not repeats.is_due("one")
    repeats.forget()
    assert repeats.is_due("one")
    assert now == [0.0]


def test_the_number_of_texts_is_bounded(now: list[float]) -> None:
    repeats = Repeats()
    for number in range(10 * MOST):
        assert repeats.is_due(f"process {number}")
    assert len(repeats._told) <= MOST
    assert now == [0.0]
