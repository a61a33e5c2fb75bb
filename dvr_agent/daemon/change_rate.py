"""Decides how long a router's next change waits, so that a flood of changes of one router becomes a few jobs.

The first changes are worked on at once.  A change that replaces another one not worked on yet, or comes while
the router's job is at work or has just ended, shows that changes come as fast as jobs.  After :data:`PATIENT` of them
in a row at least a *window* lies between two jobs of the router, which doubles while that goes on, and halves once it
does not.  No clock and no timer here: ``schedule`` has them.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST, LONGEST = 0.05, 2.0
"""Seconds of the first and of the longest window."""
CLOSE = 0.05
"""Seconds after a job in which the next change is taken for one that came during the job: the source reads documents
in the worker, after the job."""
PATIENT = 3
"""Number of changes in a row, each close to a job, that do not wait."""
_STEEPEST = PATIENT + 7


@dataclass(slots=True)
class _Pace:
    """Pace of one router's changes.

    :ivar level: number of jobs in a row with changes close by, less the jobs without
    :ivar begun: begin of the last job
    :ivar ended: end of the last job
    :ivar is_close: a change came close to the last job, or replaced another one
    """

    level: int = 0
    begun: float = 0.0
    ended: float = 0.0
    is_close: bool = False

    @property
    def window(self) -> float:
        """Least number of seconds between two begins of jobs."""
        return min(FIRST * 2 ** (self.level - PATIENT - 1), LONGEST) if self.level > PATIENT else 0.0


class ChangeRate:
    """Knows the pace of each router's changes."""

    def __init__(self) -> None:
        self._paces: dict[str, _Pace] = {}

    def change_came(self, key: str, now: float, waits: bool) -> float:
        """Note a change; returns the seconds from ``now`` for which it has to wait, mostly 0.

        :param waits: an earlier change of the router waits, or is worked on
        """
        pace = self._paces.setdefault(key, _Pace(ended=-CLOSE))
        if waits or now - pace.ended < CLOSE:
            pace.is_close = True
        return max(pace.begun + pace.window - now, 0.0)

    def job_begins(self, key: str, now: float) -> None:
        """Note that a job of the router begins: the window grows or shrinks."""
        pace = self._paces.get(key)
        if pace is not None:
            pace.level = min(pace.level + 1, _STEEPEST) if pace.is_close else max(pace.level - 1, 0)
            pace.begun, pace.is_close = now, False

    def job_ended(self, key: str, now: float) -> None:
        """Note the end of a job."""
        pace = self._paces.get(key)
        if pace is not None:
            pace.ended = now

    def forget(self, key: str) -> None:
        """Forget a router that is gone."""
        self._paces.pop(key, None)
