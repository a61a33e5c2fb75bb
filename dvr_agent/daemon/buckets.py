"""Counts values by their size, as a Prometheus histogram does; no library, no lock: for one thread."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

JOB_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds for jobs: a router takes some 10 ms, one of a service that does not start some seconds."""
ROUND_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Bounds for rounds over all routers."""
LATENESS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds for the lateness of the hub."""


class Buckets:
    """Number of values up to each bound, and their sum.

    :param bounds: upper bounds, ascending; one bucket above the last is added
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def number(self) -> int:
        """Number of all values."""
        return sum(self._counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Return (bound, number of values up to it) in ascending order; the last bound is infinite."""
        return list(zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True))
