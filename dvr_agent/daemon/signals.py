"""Delivers signals as events of the loop.

The C level handler writes the signal's number into a pipe (``signal.set_wakeup_fd``); a green thread reads it there.
Nothing else happens in a handler, since it may interrupt the loop at any point.  Exceptions are the second stop signal
and the report on SIGUSR2 (``guru_meditation``), which must work even when the loop hangs.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from dvr_agent import first_signals
from dvr_agent.daemon import eventlet_shim

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP


class Signals:
    """Delivers SIGTERM and SIGINT to ``stop``, SIGHUP to ``reload``.  For the main thread."""

    def __init__(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        self._stop, self._reload = stop, reload
        self._stops = 0

    def install(self, on_crash: Callable[[], None] | None = None) -> None:
        """Handle the signals from now on."""
        self._readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in STOP:
            signal.signal(number, self._on_stop)
        for number in first_signals.HARMLESS:
            signal.signal(number, lambda number, frame: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        eventlet_shim.spawn(self._read, on_crash)

    def _on_stop(self, number: int, frame: object) -> None:
        self._stops += 1
        if self._stops > 1:
            os._exit(128 + number)

    def _read(self) -> None:
        while True:
            eventlet_shim.wait_readable(self._readable)
            with contextlib.suppress(BlockingIOError):
                for number in os.read(self._readable, 64):
                    if number in STOP:
                        self._stop()
                    elif number == RELOAD:
                        self._reload()
