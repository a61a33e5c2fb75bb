"""Begins audits in place of events of the kernel that were lost: only an audit finds what they would have told."""

from __future__ import annotations

import logging
import time

from dvr_agent import backoff
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.resync import Resync

LOG = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
"""Seconds from one such audit to the next, while events are lost again: at first, and at most."""

LOG_SECONDS = 60.0
"""Seconds in which further losses are not logged again."""


class LossAudits:
    """Begins the first audit at once, further ones after growing pauses.  Belongs to the hub's thread.

    An audit of many routers takes seconds of the processor, and may itself be why events are lost.
    """

    def __init__(self, resync: Resync) -> None:
        self._resync = resync
        self._begun = 0
        self._next_at = self._logged_at = float("-inf")
        self._timer: eventlet_shim.GreenTimer | None = None

    def lost(self, reason: str) -> None:
        """Begin an audit, or have one follow; losses until then are covered by it, and not logged."""
        if self._timer is not None:
            return
        now = time.monotonic()
        pause = self._next_at - now
        if pause < -LONGEST_PAUSE:
            self._begun = 0
        if now - self._logged_at > LOG_SECONDS:
            self._logged_at = now
            when = f" in {pause:.0f} s, since this happens again and again" if pause > 0 else ""
            LOG.warning("events of the kernel were lost: %s; an audit of all routers follows%s", reason, when)
        if pause > 0:
            self._timer = eventlet_shim.GreenTimer(pause, self._audit)
        else:
            self._audit()

    def _audit(self) -> None:
        self._timer = None
        self._begun += 1
        self._next_at = time.monotonic() + backoff.delay(self._begun, FIRST_PAUSE, LONGEST_PAUSE)
        self._resync.audit_now()
