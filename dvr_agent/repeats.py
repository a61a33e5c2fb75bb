"""Keeps an error that comes again and again from filling the log: it is logged at once, then after growing pauses."""

from __future__ import annotations

import time

FIRST_PAUSE, LAST_PAUSE = 60.0, 3600.0
"""Seconds until the same text is due again: at first, and at most; doubled each time."""
MOST = 100
"""Texts that are remembered; beyond it the oldest is forgotten."""


class Repeats:
    """The texts that were logged lately.  Any thread may ask; at worst two of one moment are both due."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}
        """Text → (time from which it is due again, pause after that)."""

    def is_due(self, text: str) -> bool:
        """Return True if a text is to be logged now; one that was away for longer than its pause is new."""
        now = time.monotonic()
        again_at, pause = self._told.pop(text, (0.0, FIRST_PAUSE))
        if now < again_at:
            self._told[text] = (again_at, pause)
            return False
        if again_at and now > again_at + pause:
            pause = FIRST_PAUSE
        while len(self._told) >= MOST:
            self._told.pop(next(iter(self._told)), None)
        self._told[text] = (now + pause, min(2 * pause, LAST_PAUSE))
        return True

    def forget(self) -> None:
        """Have every text be new again: what failed works."""
        self._told.clear()
