"""Waiting times between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.backoff import delay


@given(st.integers(1, 10**6), st.integers(1, 100), st.integers(1, 10**4))
def test_a_delay_is_the_doubled_first_one_or_the_maximum_within_a_fifth(
    failures: int, first: int, maximum: int
) -> None:
    exact = min(first * 2 ** min(failures - 1, 62), maximum)
    assert exact * 0.8 <= delay(failures, first, maximum) <= exact * 1.2


def test_delays_of_routers_that_failed_together_differ() -> None:
    assert len({delay(3, 2, 300) for _ in range(20)}) > 1
