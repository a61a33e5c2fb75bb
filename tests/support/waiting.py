"""The one way in which tests, and measurements, wait for something that announces nothing: ask again until it is so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0
"""Seconds until something that must happen has failed; generous, since the machine is shared.  Nothing that does
happen takes them."""


def wait_for(condition: Callable[..., Any], what: str = "", patience: float = PATIENCE, every: float = 0.1) -> Any:
    """Call a function until its answer is true, and return that answer.

    :param what: names the condition in the error
    :param patience: seconds until the wait has failed
    :param every: the longest pause between two calls, in seconds; the first pauses are shorter
    :raises AssertionError: the answer stayed false
    """
    deadline, pause = time.monotonic() + patience, min(0.01, every)
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience:.0f} s still not: {what or condition} (last answer: {answer!r})")
        time.sleep(pause)  # the only one that waits for a condition
        pause = min(1.5 * pause, every)
    return answer
