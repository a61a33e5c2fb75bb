"""One-shot timer as a file descriptor (timerfd_create(2)).

The directory source (next scan) and the services (restart of a child, retry of a connection) wait for it together with
their other descriptors.
"""

from __future__ import annotations

import os
import struct
import time

from dvr_agent import libc


class TimerFd:
    """A one-shot timer whose descriptor is readable once it has expired.  Clock: :func:`time.monotonic`."""

    _SPEC = struct.Struct("llll")
    """struct itimerspec: interval and value, each in seconds and nanoseconds."""

    def __init__(self) -> None:
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor, for select and poll."""
        return self._fd

    def set(self, seconds: float | None) -> None:
        """Set the timer anew: it expires in so many seconds, at once for 0, never for None."""
        nanoseconds = 0 if seconds is None else max(1, int(seconds * 1e9))
        libc.timerfd_settime(self._fd, self._SPEC.pack(0, 0, *divmod(nanoseconds, 1_000_000_000)))

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
