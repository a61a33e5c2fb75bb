"""Notifications (inotify(7)) about the directory that a path leads to, and the descriptor that they make readable."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Iterator

from oslo_log import log as logging

from dvr_agent.kernel.inotify import Inotify, InotifyEvent, Mask
from dvr_agent.kernel.timerfd import TimerFd

LOG = logging.getLogger(__name__)

READS = 64
"""Buffers of notifications read at a time: more than the kernel queues by default (16,384 events)."""

FILE_GONE = Mask.MOVED_FROM | Mask.DELETE
_FILE_CHANGED = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.ATTRIB
_WATCH_ENDS = Mask.DELETE_SELF | Mask.UNMOUNT | Mask.IGNORED
_WATCHED = _FILE_CHANGED | FILE_GONE | Mask.CREATE | Mask.DELETE_SELF | Mask.MOVE_SELF
_NOWHERE = (-1, -1)


class DirectoryWatch:
    """One watch at a time, which follows the path to another directory.

    :ivar problem: why there are no notifications, empty if there are
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.problem = ""
        self._watch: int | None = None
        self._identity: tuple[int, int] | None = None
        """Device and inode of the directory that :meth:`follow` was called with last; None: of no directory."""
        self._timer = TimerFd()
        self._epoll = select.epoll()
        self._epoll.register(self._timer.fileno(), select.EPOLLIN)
        self._inotify = self._open_inotify()

    def fileno(self) -> int:
        """Return a descriptor that is readable while there are notifications, or when the timer has run out."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close all descriptors."""
        self._epoll.close()
        self._timer.close()
        if self._inotify is not None:
            self._inotify.close()

    def set_timer(self, seconds: float | None) -> None:
        """Make the descriptor readable after some time; None: switch the timer off."""
        self._timer.set(seconds)

    def read(self) -> Iterator[InotifyEvent]:
        """Return the notifications of the watched directory; ``Q_OVERFLOW`` says that some were lost."""
        for _ in range(READS):
            events = self._inotify.read() if self._inotify is not None else []
            for event in events:
                if event.mask & Mask.Q_OVERFLOW:
                    yield event
                elif event.watch == self._watch:
                    if not event.name and event.mask & _WATCH_ENDS:
                        self._watch = None
                        self._identity = _NOWHERE
                    yield event
            if not events:
                return

    def is_elsewhere(self) -> bool:
        """Return True if the path does not lead to the directory that was followed last."""
        try:
            found = os.stat(self._path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._identity or not stat.S_ISDIR(found.st_mode)

    def follow(self, directory: int) -> bool:
        """Watch a directory; returns True if it is another one than before."""
        found = os.fstat(directory)
        identity = (found.st_dev, found.st_ino)
        is_other = self._identity != identity
        if self._inotify is not None and (is_other or self._watch is None):
            self.unwatch()
            try:
                self._watch = self._inotify.watch(directory, _WATCHED)
                self.problem = ""
            except OSError as exc:
                self._no_notifications(exc, "fs.inotify.max_user_watches")
        self._identity = identity
        return is_other

    def forget(self) -> None:
        """Remove the inotify watch, and forget which directory was followed."""
        self.unwatch()
        self._identity = None

    def _open_inotify(self) -> Inotify | None:
        try:
            inotify = Inotify()
        except OSError as exc:
            self._no_notifications(exc, "fs.inotify.max_user_instances")
            return None
        self._epoll.register(inotify.fileno(), select.EPOLLIN)
        return inotify

    def _no_notifications(self, exc: OSError, limit: str) -> None:
        if not self.problem:
            LOG.warning("No notifications from %s, rescans only: %s (see sysctl %s)", self._path, exc.strerror, limit)
        self.problem = f"none: {exc.strerror}"

    def unwatch(self) -> None:
        """Remove the inotify watch; :meth:`is_elsewhere` still compares with the directory."""
        if self._inotify is not None and self._watch is not None:
            with contextlib.suppress(OSError):
                self._inotify.unwatch(self._watch)
        self._watch = None
