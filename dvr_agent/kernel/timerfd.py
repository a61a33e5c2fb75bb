"""timerfd_create(2): a one-shot timer as a file descriptor.

Waited for by the directory source (next scan) and by services (restart of a child, retry of a connection), each
together with its other descriptors.
"""

from __future__ import annotations

import os
import struct
import time

from dvr_agent import libc


class TimerFd:
    """A one-shot timer whose descriptor is readable once it has expired.  Clock: :func:`time.monotonic`."""

    _SPEC = struct.Struct("llll")

    def __init__(self) -> None:
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor, for select and poll."""
        return self._fd

    def set(self, seconds: float | None) -> None:
        """Expire in so many seconds (0: at once); None: never.  Replaces what was set before."""
        nanoseconds = 0 if seconds is None else max(1, int(seconds * 1e9))
        libc.timerfd_settime(self._fd, self._SPEC.pack(0, 0, *divmod(nanoseconds, 1_000_000_000)))

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
