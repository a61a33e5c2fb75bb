"""Computes the time before the next try: doubled after each failure, never above a maximum, with jitter.

Pure; for retries of routers, of neutron-server, of helper processes and of the metadata proxy.
"""

from __future__ import annotations

import random

JITTER = 0.2


def delay(failures: int, first: float, maximum: float) -> float:
    """Return the seconds to wait after the ``failures``-th failure in a row (1 is the first), ± 20 %.

    With jitter, routers that failed together are not retried together for ever.
    """
    doublings = min(failures - 1, 62)
    return min(first * 2.0**doublings, maximum) * random.uniform(1 - JITTER, 1 + JITTER)
