"""Has SIGUSR2 write the Guru Meditation report (``guru_meditation``), and imports its libraries when it comes.

They take 40 ms and 3 MB, and are hardly ever used.  A descriptor is kept for reading them: a daemon that is short of
descriptors is what the report is for.
"""

from __future__ import annotations

import logging
import os
import signal
from types import FrameType

from oslo_config import cfg

from dvr_agent.daemon.report_section import ReportSection

LOG = logging.getLogger(__name__)


class ReportSignal:
    """Handler of SIGUSR2 until the report is installed.  For the main thread."""

    def __init__(self, conf: cfg.ConfigOpts, section: ReportSection) -> None:
        self._conf, self._section = conf, section
        self._is_complete = False
        self._spare: int | None = None

    def begin(self) -> None:
        """Handle the signal from now on."""
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        signal.signal(signal.SIGUSR2, self._report)

    @property
    def is_configured(self) -> bool:
        """True if ``[oslo_reports]`` is configured: it may name a file whose change asks for a report."""
        return "oslo_reports" in self._conf.list_all_sections()

    def load(self) -> None:
        """Import the libraries, for any thread: :meth:`complete` then takes no time."""
        import oslo_reports.models.with_default_views  # noqa: F401

        import dvr_agent.daemon.guru_meditation  # noqa: F401

    def complete(self) -> None:
        """Import the libraries and install the report."""
        if self._is_complete:
            return
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        self.load()

        from dvr_agent.daemon import guru_meditation

        self._is_complete = True
        guru_meditation.install(self._conf, self._section)

    def _report(self, number: int, frame: FrameType | None) -> None:
        try:
            self.complete()
        except (OSError, ImportError) as exc:
            LOG.error("no report can be written, its libraries cannot be read: %s", exc)
            return
        handler = signal.getsignal(number)
        # [oslo_reports] may name a file whose change asks for a report, instead of the signal.
        if callable(handler) and handler != self._report:
            handler(number, frame)
