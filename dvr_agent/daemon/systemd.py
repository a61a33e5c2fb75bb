"""Reports readiness, status and keep-alives to systemd."""

from __future__ import annotations

import logging

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.health import Health
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.status import DaemonStatus
from dvr_agent.notify import Notifier

LOG = logging.getLogger(__name__)

STATUS_SECONDS = 5.0


class SystemdReports:
    """Each method but ``__init__`` is the task of a green thread of its own."""

    def __init__(
        self, notifier: Notifier, status: DaemonStatus, resync: Resync, health: Health, ready_timeout: float
    ) -> None:
        self._notifier, self._status, self._resync, self._health = notifier, status, resync, health
        self._ready_timeout = ready_timeout

    def become_ready(self) -> None:
        """Report READY after the first resync; after ``ready_timeout`` without it, so that no start hangs for ever.

        The obstacle stands in the status text, and retries go on.
        """
        first_done = self._resync.first_done
        first_done.wait(self._ready_timeout)
        self._notifier.ready(self._status.line)
        if first_done.is_set():
            LOG.info("ready")
            return
        LOG.warning("ready after %d s without a resync, which goes on: %s", self._ready_timeout, self._status.line)
        first_done.wait()
        self._notifier.send(f"STATUS={self._status.line}")
        LOG.info("first resync done")

    def report_status(self) -> None:
        """Report the status from time to time; before READY also extend the start timeout.  Never returns."""
        while True:
            if self._notifier.is_ready:
                self._notifier.send(f"STATUS={self._line}")
            else:
                self._notifier.starting(self._line, 6 * STATUS_SECONDS)
            eventlet_shim.sleep(STATUS_SECONDS)

    @property
    def _line(self) -> str:
        """The line for ``systemctl status``; without progress it begins with that."""
        bad = [check.text for check in self._health.checks() if not check.ok]
        return "; ".join([*bad, self._status.line])

    def feed_watchdog(self) -> None:
        """Send three keep-alives per watchdog interval; returns if systemd has no watchdog for this unit.

        None is sent while there is no progress (``health``): systemd then ends the agent with SIGABRT, and restarts it.
        """
        while self._notifier.watchdog_seconds is not None:
            if self._health.ok:
                self._notifier.alive()
            eventlet_shim.sleep(self._notifier.watchdog_seconds / 3)
