"""Router documents as ``*.json`` files of one directory, watched by inotify(7) and rescanned at intervals.

``directory_watch`` has the notifications, ``changed_files`` the names in them, ``document_reader`` reads files,
``absence`` decides when a missing one counts as deleted, ``catalogue`` what that means for the routers,
``directory_content`` puts them together.  Not recursive, hidden files are skipped, links are followed.

A document is deleted by one of two things only: an inotify event says that its name left the directory, or two scans
in a row of the same directory (device and inode) miss it while other documents are there.  A directory without any
document may be a file system that is not mounted, or one that was made anew: files missing from it are not deleted,
and :class:`~dvr_agent.sources.api.Synced` says so (``suspect``), also at the start.

Thread: the daemon's worker; ``document`` and ``status`` return values that are replaced, never changed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from typing import Any

from dvr_agent.errors import SourceError
from dvr_agent.sources import files
from dvr_agent.sources.absence import Scan
from dvr_agent.sources.api import Document, Event, Failed, JobReport, Synced
from dvr_agent.sources.directory_content import DirectoryContent
from dvr_agent.sources.directory_watch import DirectoryWatch
from dvr_agent.sources.document_reader import is_document

PATH_SECONDS = 0.5
"""Seconds between two checks of the directory that the path leads to.  No event tells of a file system that is mounted
over the directory, nor of a link that is switched somewhere on the way to it; a directory that is made anew must be
watched within a second."""


class DirectorySource:
    """Implements :class:`dvr_agent.sources.api.Source`.

    :param path: the directory; it need not exist yet
    :param rescan_interval: seconds
    :param max_size: bytes; a larger file is a bad document and is not read
    """

    is_authority = False
    poll_blocks = True

    def __init__(self, path: str, rescan_interval: float, max_size: int) -> None:
        self._path = path
        self.rescan_interval = rescan_interval
        self._content = DirectoryContent(path, max_size)
        self._changes, self._catalogue = self._content.changes, self._content.catalogue
        self._watch = DirectoryWatch(path)
        self._scanned = False
        self._complete = True
        """Whether the listing that was reported last was complete (:attr:`Synced.complete`)."""
        self._error: SourceError | None = None
        self._status: dict[str, Any] = {}
        self._update_status()

    def fileno(self) -> int:
        """Return the descriptor of notifications and timer."""
        return self._watch.fileno()

    def ask_again(self, router_id: str) -> bool:
        """Return False: nobody knows which file a new document of the router would be."""
        return False

    def document(self, router_id: str) -> Document | None:
        """Return the document in force for a router."""
        return self._catalogue.document(router_id)

    def status(self) -> dict[str, Any]:
        """Return the status as of the last poll or rescan."""
        return self._status

    def floating_ips(self, router_id: str) -> Mapping[str, Mapping[str, str | None]]:
        """Return nothing: no server has a status."""
        return {}

    @property
    def bad_documents(self) -> Mapping[str, str]:
        """Name → error of each document that cannot be used."""
        bad: Mapping[str, str] = self._status["bad"]
        return bad

    def job_ended(self, report: JobReport) -> None:
        """Ignore the end of a job: files need no report."""

    def close(self) -> None:
        """Close all descriptors."""
        self._watch.close()

    def poll(self) -> list[Event]:
        """Read some of the files that notifications have named; a rescan if the path leads to another directory."""
        self._watch.set_timer(None)
        self._read_notifications()
        if not self._scanned:
            return []
        if self._watch.is_elsewhere():
            return self.rescan()
        events: list[Event] = []
        if self._changes:
            try:
                directory = self._open()
            except OSError as exc:
                return [self._fail(exc)]
            try:
                self._check_directory(directory)
                events += self._content.read_pending(directory)
                events += self._content.delete_missing(directory)
            except OSError as exc:
                return [*events, self._fail(exc)]
            finally:
                os.close(directory)
            events = self._content.defer_second_documents(events) + self._completed()
            self._update_status()
        self._set_timer()
        return events

    def rescan(self, periodic: bool = False) -> list[Event]:
        """List the directory and read all files that seem changed."""
        self._scanned = True
        self._read_notifications()
        events: list[Event] = []
        try:
            directory = self._open()
        except OSError as exc:
            return [self._fail(exc)]
        try:
            is_other = self._follow(directory)
            self._changes.directory_opened()
            started, mtime_ns = time.monotonic(), os.fstat(directory).st_mtime_ns
            names = self._content.reader.names_in(directory)
            self._content.read_all(names, directory, events)
            self._read_notifications()  # a file that is reported as gone by now is deleted, not merely absent
            self._require_same(directory)
            events += self._content.forget_absent(Scan(started, mtime_ns, frozenset(names)), is_other)
            events += self._content.delete_missing(directory)
        except OSError as exc:
            return [*events, self._fail(exc)]
        finally:
            os.close(directory)
        self._error = None
        events = self._content.defer_second_documents(events)
        self._update_status()
        self._set_timer()
        return [*events, self._synced()]

    # -- the directory ------------------------------------------------------------------------------------------

    def _open(self) -> int:
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _read_notifications(self) -> None:
        for event in self._watch.read():
            self._changes.add(event, self._content.reader.links, is_document)

    def _follow(self, directory: int) -> bool:
        """Watch the directory; returns True if it is another one than before."""
        is_other = self._watch.follow(directory)
        if is_other:
            self._changes.missing.clear()  # files missing from another directory are not missing from this one
        return is_other

    def _check_directory(self, directory: int) -> None:
        """Watch the directory, and check all its files if it is another one, or notifications were lost."""
        if self._follow(directory) or self._changes.overflow:
            self._content.check_all(directory)
        self._changes.directory_opened()

    def _require_same(self, directory: int) -> None:
        """Check that the path still leads to the directory: one that is removed during its listing may seem empty.

        :raises OSError: it leads elsewhere
        """
        then, now = os.fstat(directory), os.stat(self._path)
        if (then.st_dev, then.st_ino) != (now.st_dev, now.st_ino):
            raise OSError(errno.ESTALE, "replaced while it was listed")

    def _fail(self, exc: OSError) -> Failed:
        """Report that the directory cannot be listed; files reported as gone may have gone with it: none is deleted."""
        self._changes.clear()
        self._content.absence.forget()
        self._watch.forget()
        self._error = SourceError(f"directory {self._path}: {exc.strerror or exc}")
        self._update_status()
        self._set_timer()
        return Failed(self._error)

    def _synced(self) -> Synced:
        self._complete = self._catalogue.complete()
        return Synced(self._catalogue.known(), self._complete, suspect=self._content.absence.suspect)

    def _completed(self) -> list[Event]:
        """Report a complete listing once the last document without a readable router id is gone or mended."""
        if self._complete or not self._catalogue.complete():
            self._complete = self._catalogue.complete()
            return []
        return [] if self._error is not None or self._changes.names() else [self._synced()]

    def _set_timer(self) -> None:
        self._watch.set_timer(self._changes.seconds_to_wait(self._content.reader.known, PATH_SECONDS))

    def _update_status(self) -> None:
        """Make a new dictionary: the admin socket may use the old one in another thread."""
        self._status = {
            "source": "directory",
            "path": self._path,
            "documents": self._catalogue.good(),
            "bad": self._content.bad(),
            "absent": [files.printable_name(name) for name in self._content.absence.names],
            "error": str(self._error) if self._error else None,
            "notifications": self._watch.problem or "inotify",
        }
