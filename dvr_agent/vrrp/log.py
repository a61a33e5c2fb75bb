"""Sets up the log of this process: lines on stderr, with priorities where the journal reads them.

Not by ``dvr_agent.logs``: oslo.log would double the memory of a process that is locked in memory.
"""

from __future__ import annotations

import logging
import os
import sys
import syslog

_PRIORITIES = {logging.ERROR: syslog.LOG_ERR, logging.WARNING: syslog.LOG_WARNING, logging.INFO: syslog.LOG_INFO}


class _JournalFormatter(logging.Formatter):
    """Begins a line with its priority (sd-daemon(3)); the journal has times and names itself."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, syslog.LOG_DEBUG)}>{super().format(record)}"


def set_up() -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
