"""Handlers of the first moment: signals that a process handles later must not end it while it starts."""

from __future__ import annotations

import signal

HARMLESS = (signal.SIGHUP, signal.SIGUSR1)
"""Signals that end a process by default, but must not end a daemon: operators send them for other purposes."""


def survive() -> None:
    """Install empty handlers, from the very start, for signals that the process handles later: none of them may end it.

    SIG_IGN would be inherited by helper processes.
    """
    for number in (*HARMLESS, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)
