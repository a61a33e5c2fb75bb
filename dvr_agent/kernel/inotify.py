"""Watch directories for events by inotify(7).

Used by ``sources/directory_watch.py`` for the directory of router documents.  Numbers and layout are those of
include/uapi/linux/inotify.h: this is no netlink, and pyroute2 has no event bits.
"""

from __future__ import annotations

import os
import struct
from enum import IntFlag
from typing import NamedTuple

from dvr_agent import libc


class Mask(IntFlag):
    """Event bits; the kernel alone sets UNMOUNT, Q_OVERFLOW and IGNORED."""

    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000


class InotifyEvent(NamedTuple):
    """One event.

    :ivar watch: number of the watch, -1 for an overflow
    :ivar name: of the directory's entry; empty for the watched directory itself
    """

    watch: int
    mask: Mask
    name: str


class Inotify:
    """One inotify instance, non-blocking.

    :raises OSError: EMFILE when ``fs.inotify.max_user_instances`` is used up
    """

    _HEAD = struct.Struct("iIII")
    """struct inotify_event: watch, mask, cookie, length of the name."""
    _BUFFER = 64 * 1024

    def __init__(self) -> None:
        self._fd = libc.inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor, for select and poll."""
        return self._fd

    def watch(self, directory: int, mask: Mask) -> int:
        """Watch the directory that the descriptor ``directory`` is open on; returns the number of the watch.

        :raises OSError: ENOSPC when ``fs.inotify.max_user_watches`` is used up
        """
        return libc.inotify_add_watch(self._fd, f"/proc/thread-self/fd/{directory}", mask | Mask.ONLYDIR)

    def unwatch(self, watch: int) -> None:
        """Stop watching.  An ``IGNORED`` event follows.

        :raises OSError: EINVAL if the kernel has dropped the watch already
        """
        libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[InotifyEvent]:
        """Read the pending events, at most one buffer full (some 1,000)."""
        try:
            data = os.read(self._fd, self._BUFFER)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            watch, mask, _cookie, length = self._HEAD.unpack_from(data, at)
            at += self._HEAD.size
            events.append(InotifyEvent(watch, Mask(mask), os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return events

    def close(self) -> None:
        """Stop all watches."""
        os.close(self._fd)
