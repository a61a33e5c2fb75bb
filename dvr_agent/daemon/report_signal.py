"""Has SIGUSR2 write the Guru Meditation report (``guru_meditation``) from the start, and imports its libraries later.

They would take 40 ms of a start and are hardly ever used.  They are imported once the first resync is over, so that a
daemon that is short of descriptors later has them; a signal before that imports them at once.
"""

from __future__ import annotations

import signal
from types import FrameType

from oslo_config import cfg

from dvr_agent.daemon.report_section import ReportSection


class ReportSignal:
    """Handler of SIGUSR2 until the report is installed.  For the main thread."""

    def __init__(self, conf: cfg.ConfigOpts, section: ReportSection) -> None:
        self._conf, self._section = conf, section
        self._is_complete = False

    def begin(self) -> None:
        """Handle the signal from now on."""
        signal.signal(signal.SIGUSR2, self._report)

    def load(self) -> None:
        """Import the libraries, for any thread: :meth:`complete` then takes no time."""
        import oslo_reports.models.with_default_views  # noqa: F401

        import dvr_agent.daemon.guru_meditation  # noqa: F401

    def complete(self) -> None:
        """Import the libraries and install the report."""
        from dvr_agent.daemon import guru_meditation

        if not self._is_complete:
            self._is_complete = True
            guru_meditation.install(self._conf, self._section)

    def _report(self, number: int, frame: FrameType | None) -> None:
        self.complete()
        handler = signal.getsignal(number)
        # [oslo_reports] may name a file whose change asks for a report, instead of the signal.
        if callable(handler) and handler != self._report:
            handler(number, frame)
