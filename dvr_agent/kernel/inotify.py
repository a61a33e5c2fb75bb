"""inotify and a timer as file descriptors: thin bindings to libc, and nothing of what they are used for.

``dvr_agent.sources.directory`` waits for both.  Numbers are those of <sys/inotify.h> and <sys/timerfd.h>; inotify(7)
and timerfd_create(2) say what they mean.
"""

from __future__ import annotations

import os
import struct
import time
from enum import IntFlag
from typing import NamedTuple

from dvr_agent import libc


class Mask(IntFlag):
    """What may be watched, and what else an event may tell."""

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


class Notice(NamedTuple):
    """One event.  ``watch`` is -1 for an overflow; ``name`` is empty for the watched directory itself."""

    watch: int
    mask: Mask
    name: str


class Inotify:
    """One inotify instance, non-blocking.

    :raises OSError: EMFILE when ``fs.inotify.max_user_instances`` is used up
    """

    _HEAD = struct.Struct("iIII")
    _BUFFER = 64 * 1024

    def __init__(self) -> None:
        self._fd = libc.inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def watch(self, directory: int, mask: Mask) -> int:
        """Watch the directory that the descriptor ``directory`` is open on; returns the watch.

        :raises OSError: ENOSPC when ``fs.inotify.max_user_watches`` is used up
        """
        return libc.inotify_add_watch(self._fd, f"/proc/thread-self/fd/{directory}", mask | Mask.ONLYDIR)

    def unwatch(self, watch: int) -> None:
        """Stop watching.  An ``IGNORED`` event follows.

        :raises OSError: EINVAL if the kernel has dropped the watch already
        """
        libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Notice]:
        """What has happened, at most one buffer full (some 1,000 events); empty when there is nothing."""
        try:
            data = os.read(self._fd, self._BUFFER)
        except BlockingIOError:
            return []
        notices, at = [], 0
        while at < len(data):
            watch, mask, _cookie, length = self._HEAD.unpack_from(data, at)
            at += self._HEAD.size
            notices.append(Notice(watch, Mask(mask), os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return notices

    def close(self) -> None:
        os.close(self._fd)


class Timer:
    """A one-shot timer whose descriptor is readable once it has expired.  Clock: :func:`time.monotonic`."""

    _SPEC = struct.Struct("llll")

    def __init__(self) -> None:
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def set(self, seconds: float | None) -> None:
        """Expire in so many seconds (0: at once); None: never.  Replaces what was set before."""
        nanoseconds = 0 if seconds is None else max(1, int(seconds * 1e9))
        libc.timerfd_settime(self._fd, self._SPEC.pack(0, 0, *divmod(nanoseconds, 1_000_000_000)))

    def close(self) -> None:
        os.close(self._fd)
