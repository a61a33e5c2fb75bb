"""Makes lines of oslo.messaging about lost connections fit for operators: with the brokers, and not again and again.

The library tries each connection every few seconds, for ever, and logs every try, some without an address.
"""

from __future__ import annotations

import logging
import time

NAME = "oslo.messaging._drivers.impl_rabbit"
FIRST_PAUSE, LAST_PAUSE = 60.0, 3600.0
"""Seconds until the same line is let through again: at first, and at most; doubled each time."""
RECONNECTED = "Reconnected"


class LibraryLines(logging.Filter):
    """Filters the library's logger.  Any thread logs; at worst two lines of one moment are both let through.

    :param brokers: ``host:port`` of each
    """

    def __init__(self, brokers: str) -> None:
        super().__init__()
        self._brokers = brokers
        self._told: dict[str, tuple[float, float]] = {}
        """Text of a line without its values → (time from which it is let through again, pause after that)."""

    def install(self) -> None:
        """Filter from now on, in place of an earlier filter."""
        logger = logging.getLogger(NAME)
        for one in [one for one in logger.filters if isinstance(one, LibraryLines)]:
            logger.removeFilter(one)
        logger.addFilter(self)

    def recovered(self) -> None:
        """Let all lines through again: the connections are up."""
        self._told.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for an error that was logged a short while ago; add the brokers to one without address."""
        if RECONNECTED in str(record.msg):
            self.recovered()
        if record.levelno < logging.ERROR:
            return True
        now = time.monotonic()
        again_at, pause = self._told.get(str(record.msg), (0.0, FIRST_PAUSE))
        if now < again_at:
            return False
        self._told[str(record.msg)] = (now + pause, min(2 * pause, LAST_PAUSE))
        text = record.getMessage()
        if not any(broker in text for broker in self._brokers.split(", ")):
            record.msg, record.args = "%s (message bus at %s)", (text, self._brokers)
        return True
