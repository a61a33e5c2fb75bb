"""Makes lines of oslo.messaging about lost connections fit for operators: with the brokers, and not again and again.

The library tries each connection every few seconds, for ever, and logs every try, some without an address.
"""

from __future__ import annotations

import logging

from dvr_agent.repeats import Repeats

NAME = "oslo.messaging._drivers.impl_rabbit"
RECONNECTED = "Reconnected"


class LibraryLines(logging.Filter):
    """Filters the library's logger.  Any thread logs.

    :param brokers: ``host:port`` of each
    """

    def __init__(self, brokers: str) -> None:
        super().__init__()
        self._brokers = brokers
        self._repeats = Repeats()

    def install(self) -> None:
        """Filter from now on, in place of an earlier filter."""
        logger = logging.getLogger(NAME)
        for one in [one for one in logger.filters if isinstance(one, LibraryLines)]:
            logger.removeFilter(one)
        logger.addFilter(self)

    def recovered(self) -> None:
        """Let all lines through again: the connections are up."""
        self._repeats.forget()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for an error that was logged a short while ago; add the brokers to one without address."""
        if RECONNECTED in str(record.msg):
            self.recovered()
        if record.levelno < logging.ERROR:
            return True
        if not self._repeats.is_due(str(record.msg)):  # without its values
            return False
        text = record.getMessage()
        if not any(broker in text for broker in self._brokers.split(", ")):
            record.msg, record.args = "%s (message bus at %s)", (text, self._brokers)
        return True
