"""eventfd(2): a descriptor by which one thread wakes another that waits with select or poll.

Used by the Open vSwitch driver and by the neutron source's event queue, and where an interface requires a descriptor
although there are no events.
"""

from __future__ import annotations

import contextlib
import os


class EventFd:
    """A descriptor that is readable from :meth:`notify` until :meth:`clear`.  Any thread may call any method."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """The descriptor, for select and poll."""
        return self._fd

    def notify(self) -> None:
        """Make the descriptor readable."""
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make the descriptor unreadable again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Close the descriptor; the object must not be used after that."""
        os.close(self._fd)
