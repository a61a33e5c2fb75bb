"""Router documents as ``*.json`` files of one directory, watched by inotify(7) and rescanned now and then.

Which files there are and when to look at them is decided here; reading one is in ``files``, when a missing one counts
as deleted in ``absence``, what it means for the routers in ``catalogue``.  Not recursive, hidden files are not looked
at, links are followed.  ``[directory]`` of the configuration names the directory; the daemon and dvrctl use it as a
:class:`~dvr_agent.sources.api.Source`.

A document is deleted by one of two things only: an inotify event says that its name left the directory, or two scans
in a row of the same directory (device and inode) miss it while other documents are there.  A directory without any
document may be a file system that is not mounted, or one that was made anew: what is missing from it is no deletion,
and :class:`~dvr_agent.sources.api.Synced` says so (``suspect``), also at the start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import stat
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from oslo_log import log as logging

from dvr_agent.errors import DocumentError, SourceError
from dvr_agent.kernel.inotify import Inotify, InotifyEvent, Mask
from dvr_agent.kernel.timerfd import TimerFd
from dvr_agent.model.parse import parse_document, peek_router_id
from dvr_agent.sources import files
from dvr_agent.sources.absence import Absence, Scan
from dvr_agent.sources.api import Bad, Document, Event, Failed, Settled, Synced
from dvr_agent.sources.catalogue import Catalogue

LOG = logging.getLogger(__name__)

SUFFIX = ".json"
BATCH_FILES = 64
BATCH_BYTES = 4 << 20
"""One poll reads about so much at most: some 50 ms of parsing."""
READS = 64
"""Buffers of notifications taken in at a time: more than the kernel queues by default (16,384 events)."""
SETTLE = 0.25
"""Seconds that a name must be missing before its file counts as deleted.  Many editors remove a file and write it
anew, and the removal of the whole directory begins with the files in it: neither must take a router down."""
SETTLE_MAX = 0.7
"""Seconds after which a deletion counts even though further ones keep coming: within a second it must be seen."""

PATH_SECONDS = 0.5
"""Seconds between two looks at which directory the path leads to.  No event tells of a file system that is mounted over
the directory, nor of a link that is switched somewhere on the way to it; a directory that is made anew must be watched
within a second."""

_FILE_CHANGED = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.ATTRIB
_FILE_GONE = Mask.MOVED_FROM | Mask.DELETE
_WATCH_ENDS = Mask.DELETE_SELF | Mask.UNMOUNT | Mask.IGNORED
_WATCHED = _FILE_CHANGED | _FILE_GONE | Mask.CREATE | Mask.DELETE_SELF | Mask.MOVE_SELF
_NOWHERE = (-1, -1)


class Reading(NamedTuple):
    """A file that was read: either its document or its error.

    :ivar peeked: router id that could be made out in a bad document
    """

    label: str
    document: Document | None
    error: DocumentError | None
    peeked: str | None
    mtime_ns: int


class DirectorySource:
    """Implements :class:`dvr_agent.sources.api.Source`.

    :param path: the directory; it need not exist yet
    :param rescan_interval: seconds
    :param max_size: bytes; a larger file is a bad document and is not read
    """

    poll_blocks = True

    def __init__(self, path: str, rescan_interval: float, max_size: int) -> None:
        self._path, self._max_size = path, max_size
        self.rescan_interval = rescan_interval
        self._catalogue = Catalogue()
        self._signatures: dict[str, files.Signature | None] = {}
        """Every file that was looked at."""
        self._links: set[str] = set()
        self._pending: dict[str, None] = {}
        """Files to look at, in the order in which they were heard of."""
        self._missing: dict[str, float] = {}
        """Files reported as gone → when (monotonic); not yet believed."""
        self._deferred: list[Bad] = []
        """Second documents of routers whose first one is reported as gone: most likely it was renamed."""
        self._created: set[str] = set()
        """Names that have appeared; most are still being written, which another notification ends."""
        self._absence = Absence(path)
        self._scanned = False
        self._complete = True
        """What was said last of the completeness of the listing."""
        self._disturbed = False
        """Something happened to the directory itself: see whether it is still there."""
        self._overflow = False
        """Notifications were lost: everything must be looked at."""
        self._bytes_read = 0
        self._error: SourceError | None = None
        self._deaf = ""
        """Why there are no notifications, empty if there are."""
        self._watch: int | None = None
        self._watched: tuple[int, int] | None = None
        """Device and inode of the directory that is watched (without notifications: was listed last); None: none."""
        self._timer = TimerFd()
        self._poll = select.epoll()
        self._poll.register(self._timer.fileno(), select.EPOLLIN)
        self._inotify = self._open_inotify()
        self._status: dict[str, Any] = {}
        self._note_status()

    def fileno(self) -> int:
        return self._poll.fileno()

    def document(self, router_id: str) -> Document | None:
        return self._catalogue.document(router_id)

    def status(self) -> dict[str, Any]:
        return self._status

    def settled(self, report: Settled) -> None:
        """Nobody wants to know."""

    def close(self) -> None:
        self._poll.close()
        self._timer.close()
        if self._inotify is not None:
            self._inotify.close()

    def poll(self) -> list[Event]:
        self._timer.set(None)
        self._listen()
        if not self._scanned:
            return []
        if self._is_elsewhere():
            return self.rescan()
        events: list[Event] = []
        if self._disturbed or self._overflow or self._pending or self._missing or self._created:
            try:
                directory = self._open()
            except OSError as exc:
                return [self._fail(exc)]
            try:
                if self._rewatch(directory) or self._overflow:
                    self._relist(directory)
                self._disturbed = self._overflow = False
                events += self._look_at_some(directory)
                events += self._believe_missing(directory)
            except OSError as exc:
                return [*events, self._fail(exc)]
            finally:
                os.close(directory)
            events = self._defer_seconds(events) + self._completed()
            self._note_status()
        self._set_timer()
        return events

    def rescan(self) -> list[Event]:
        self._scanned = True
        self._listen()
        events: list[Event] = []
        try:
            directory = self._open()
        except OSError as exc:
            return [self._fail(exc)]
        try:
            other = self._rewatch(directory)
            self._disturbed = self._overflow = False
            started, mtime_ns = time.monotonic(), os.fstat(directory).st_mtime_ns
            names = self._list(directory)
            self._look_at_all(names, directory, events)
            self._listen()  # what was reported as gone by now is not merely absent
            self._require_same(directory)
            events += self._forget_absent(Scan(started, mtime_ns, frozenset(names)), other)
            events += self._believe_missing(directory)
        except OSError as exc:
            return [*events, self._fail(exc)]
        finally:
            os.close(directory)
        self._error = None
        events = self._defer_seconds(events)
        self._note_status()
        self._set_timer()
        return [*events, self._synced()]

    # -- the directory ------------------------------------------------------------------------------------------

    def _open(self) -> int:
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _is_elsewhere(self) -> bool:
        """True if the path does not lead to the directory that was scanned last."""
        try:
            found = os.stat(self._path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._watched or not stat.S_ISDIR(found.st_mode)

    def _require_same(self, directory: int) -> None:
        """A directory that was removed or replaced while it was listed may have looked empty.

        :raises OSError: this has happened
        """
        then, now = os.fstat(directory), os.stat(self._path)
        if (then.st_dev, then.st_ino) != (now.st_dev, now.st_ino):
            raise OSError(errno.ESTALE, "replaced while it was listed")

    def _list(self, directory: int) -> list[str]:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.is_symlink()) for entry in entries if _is_document(entry.name)]
        self._links = {name for name, link in found if link}
        return sorted(name for name, _ in found)

    def _relist(self, directory: int) -> None:
        """Notifications were lost: look at whatever seems changed.  What is missing waits for the next rescans."""
        for name in self._list(directory):
            if self._is_new(name, directory):
                self._pending[name] = None

    def _fail(self, exc: OSError) -> Failed:
        """The directory cannot be listed: whatever was reported as gone may have gone with it and means nothing."""
        self._missing.clear()
        self._pending.clear()
        self._created.clear()
        self._absence.forget()
        self._drop_watch()
        self._watched = None
        self._error = SourceError(f"directory {self._path}: {exc.strerror or exc}")
        self._note_status()
        self._set_timer()
        return Failed(self._error)

    def _synced(self) -> Synced:
        self._complete = self._catalogue.complete()
        return Synced(self._catalogue.known(), self._complete, suspect=self._absence.suspect)

    def _completed(self) -> list[Event]:
        """Report a complete listing once the last document without a readable router id is gone or mended."""
        if self._complete or not self._catalogue.complete():
            self._complete = self._catalogue.complete()
            return []
        busy = self._error is not None or self._pending or self._missing or self._created
        return [] if busy else [self._synced()]

    def _note_status(self) -> None:
        """A new dictionary each time: the admin socket may hold the old one while this thread goes on."""
        deferred = {event.name for event in self._deferred}
        bad = {name: error for name, error in self._catalogue.bad().items() if name not in deferred}
        self._status = {
            "source": "directory",
            "path": self._path,
            "documents": self._catalogue.good(),
            "bad": bad,
            "absent": [files.printable(name) for name in self._absence.names],
            "error": str(self._error) if self._error else None,
            "notifications": self._deaf or "inotify",
        }

    # -- notifications ------------------------------------------------------------------------------------------

    def _open_inotify(self) -> Inotify | None:
        try:
            inotify = Inotify()
        except OSError as exc:
            self._no_notifications(exc, "fs.inotify.max_user_instances")
            return None
        self._poll.register(inotify.fileno(), select.EPOLLIN)
        return inotify

    def _no_notifications(self, exc: OSError, limit: str) -> None:
        if not self._deaf:
            LOG.warning("No notifications from %s, rescans only: %s (see sysctl %s)", self._path, exc.strerror, limit)
        self._deaf = f"none: {exc.strerror}"

    def _rewatch(self, directory: int) -> bool:
        """Watch the directory that the path leads to now; True if that is another one than before."""
        found = os.fstat(directory)
        identity = (found.st_dev, found.st_ino)
        other = self._watched != identity
        if self._inotify is not None and (other or self._watch is None):
            self._drop_watch()
            try:
                self._watch = self._inotify.watch(directory, _WATCHED)
                self._deaf = ""
            except OSError as exc:
                self._no_notifications(exc, "fs.inotify.max_user_watches")
        if other:
            # What went missing from another directory says nothing about this one.
            self._missing.clear()
        self._watched = identity
        return other

    def _drop_watch(self) -> None:
        if self._inotify is not None and self._watch is not None:
            with contextlib.suppress(OSError):
                self._inotify.unwatch(self._watch)
        self._watch = None

    def _listen(self) -> None:
        """Take in the notifications that have come so far."""
        for _ in range(READS):
            notices = self._inotify.read() if self._inotify is not None else []
            for notice in notices:
                if notice.mask & Mask.Q_OVERFLOW:
                    self._overflow = True
                elif notice.watch == self._watch:
                    self._hear(notice)
            if not notices:
                return

    def _hear(self, notice: InotifyEvent) -> None:
        name, mask = notice.name, notice.mask
        if not name:
            self._disturbed = True
            if mask & _WATCH_ENDS:
                self._watch = None
                self._watched = _NOWHERE
        elif not _is_document(name):
            # A tree of links is switched by renaming the link that the others lead through (Kubernetes' ..data).
            self._pending.update(dict.fromkeys(self._links))
        elif mask & _FILE_GONE:
            self._missing[name] = time.monotonic()
        elif mask & Mask.CREATE:
            self._created.add(name)
        else:
            self._pending[name] = None

    def _set_timer(self) -> None:
        seconds = PATH_SECONDS
        if self._pending or self._created or self._overflow or self._disturbed:
            seconds = 0.0
        elif self._missing:
            seconds = min(seconds, max(0.0, self._due() - time.monotonic()))
        self._timer.set(seconds)

    # -- files --------------------------------------------------------------------------------------------------

    def _is_new(self, name: str, directory: int) -> bool:
        known = self._signatures.get(name)
        return known is None or known != files.signature(name, directory)

    def _look_at_some(self, directory: int) -> list[Event]:
        """Look at the files that were heard of, up to the limits of one poll."""
        for name in sorted(self._created):
            if files.needs_no_writing(name, directory):
                self._pending[name] = None
        self._created.clear()
        events: list[Event] = []
        until = self._bytes_read + BATCH_BYTES
        for name in list(self._pending)[:BATCH_FILES]:
            del self._pending[name]
            if self._is_new(name, directory):
                events += self._look(name, directory)
            if self._bytes_read > until:
                break
        return events

    def _look_at_all(self, names: Iterable[str], directory: int, events: list[Event]) -> None:
        """Look at those of the files that seem changed; what is new about them is added to ``events``.

        Of several documents of one router that are all new, the one in the file ``<router id>.json`` is in force, then
        the one that was not written for longest: after a restart most likely the one that was in force before.
        """
        found = [self._read(name, directory) for name in names if self._is_new(name, directory)]
        for reading in sorted((reading for reading in found if reading is not None), key=_rank):
            events += self._take(reading)

    def _forget_absent(self, scan: Scan, other: bool) -> list[Event]:
        """Forget the files that are missing for good though nothing told of their removal."""
        heard = self._missing.keys() | self._pending.keys() | self._created
        gone = self._signatures.keys() - scan.names - heard
        return [event for name in self._absence.judge(scan, gone, other) for event in self._forget(name, deleted=False)]

    def _look(self, name: str, directory: int) -> list[Event]:
        """Read a file and say what is new about it.  One that is not there is no news: see ``_believe_missing``."""
        reading = self._read(name, directory)
        return self._take(reading) if reading is not None else []

    def _read(self, name: str, directory: int) -> Reading | None:
        """Read a file; None if it is not there, or says what it said before."""
        self._pending.pop(name, None)
        label = files.printable(name)
        data, mtime = b"", 0
        try:
            found = files.read(name, directory, self._max_size)
            if found is None:
                return None
            data, mtime = found.data, found.mtime_ns
            self._bytes_read += len(data)
            self._signatures[name] = found.signature
            digest = hashlib.blake2b(data, digest_size=16).digest()
            if self._catalogue.has(label, digest):
                return None
            document = Document(label, parse_document(data, label, self._max_size), digest)
            return Reading(label, document, None, None, mtime)
        except DocumentError as exc:
            if not data:
                self._signatures[name] = None
            return Reading(label, None, exc, peek_router_id(data) if data else None, mtime)
        finally:
            if files.is_link(name, directory):
                self._links.add(name)

    def _take(self, reading: Reading) -> list[Event]:
        if reading.document is not None:
            return self._catalogue.put(reading.document)
        assert reading.error is not None
        return self._catalogue.spoil(reading.label, reading.error, reading.peeked)

    def _due(self) -> float:
        """When (monotonic) the missing files count as deleted, all together."""
        first, last = min(self._missing.values()), max(self._missing.values())
        if self._signatures.keys() <= self._missing.keys():
            # No document is left: most likely the directory itself is about to go, and the files went first.
            return last + SETTLE_MAX
        return min(last + SETTLE, first + SETTLE_MAX)

    def _believe_missing(self, directory: int) -> list[Event]:
        if not self._missing or time.monotonic() < self._due():
            return []
        missing, self._missing = self._missing, {}
        events: list[Event] = []
        for name in missing:
            there = files.exists(name, directory)
            events += self._look(name, directory) if there else self._forget(name, deleted=True)
        return events

    def _defer_seconds(self, events: list[Event]) -> list[Event]:
        """Hold back the reports of second documents until it is known whether the first one is gone."""
        missing = {files.printable(name) for name in self._missing}
        still = [event for event in self._deferred if self._catalogue.rival(event.name) is not None]
        self._deferred = []
        now: list[Event] = []
        for event in (*still, *events):
            if isinstance(event, Bad) and event.second and self._catalogue.rival(event.name) in missing:
                self._deferred.append(event)
            else:
                now.append(event)
        return now

    def _forget(self, name: str, deleted: bool) -> list[Event]:
        self._signatures.pop(name, None)
        self._pending.pop(name, None)
        self._links.discard(name)
        self._absence.discard(name)
        return self._catalogue.drop(files.printable(name), deleted)


def _is_document(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")


def _rank(reading: Reading) -> tuple[bool, bool, int, str]:
    """Order in which documents that are found together are taken: good ones first, see ``_look_at_all``."""
    document = reading.document
    canonical = document is not None and reading.label == document.router.id + SUFFIX
    return document is None, not canonical, reading.mtime_ns, reading.label
