"""A descriptor that is readable after something has happened, until somebody says that he knows."""

from __future__ import annotations

import contextlib
import os


class Alarm:
    """An eventfd(2).  Any thread may ring, wait (select, poll) and acknowledge."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._fd

    def ring(self) -> None:
        os.eventfd_write(self._fd, 1)

    def acknowledge(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        os.close(self._fd)
