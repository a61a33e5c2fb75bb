"""Turns changed, new and missing files of the document directory into events.  ``directory`` uses it."""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.sources import files
from dvr_agent.sources.absence import Absence, Scan
from dvr_agent.sources.api import Bad, Event
from dvr_agent.sources.catalogue import Catalogue
from dvr_agent.sources.changed_files import ChangedFiles
from dvr_agent.sources.document_reader import DocumentReader, Reading

BATCH_FILES = 64
BATCH_BYTES = 4 << 20
"""Limits of what one poll reads: some 50 ms of parsing."""


class DirectoryContent:
    """Reads files that seem changed, and forgets those that are gone.

    :ivar deferred: errors of second documents that are not reported yet: a notification says that the router's first
        document is gone, so most likely it was renamed
    """

    def __init__(self, path: str, max_size: int) -> None:
        self.catalogue = Catalogue()
        self.reader = DocumentReader(max_size, self.catalogue.has)
        self.changes = ChangedFiles()
        self.absence = Absence(path)
        self.deferred: list[Bad] = []

    def check_all(self, directory: int) -> None:
        """Mark all files that seem changed as pending; only rescans decide whether a missing file is deleted."""
        for name in self.reader.names_in(directory):
            if self.reader.is_new(name, directory):
                self.changes.pending[name] = None

    def read_pending(self, directory: int) -> list[Event]:
        """Read files that notifications have named, up to the limits of one poll."""
        changes, reader = self.changes, self.reader
        for name in sorted(changes.created):
            if files.needs_no_writing(name, directory):
                changes.pending[name] = None
        changes.created.clear()
        events: list[Event] = []
        until = reader.bytes_read + BATCH_BYTES
        for name in list(changes.pending)[:BATCH_FILES]:
            del changes.pending[name]
            if reader.is_new(name, directory):
                events += self._take(self._read(name, directory))
            if reader.bytes_read > until:
                break
        return events

    def read_all(self, names: Iterable[str], directory: int, events: list[Event]) -> None:
        """Read those of the files that seem changed, and append the events; see :attr:`Reading.rank` for the order."""
        found = [self._read(name, directory) for name in names if self.reader.is_new(name, directory)]
        for reading in sorted((reading for reading in found if reading is not None), key=lambda one: one.rank):
            events += self._take(reading)

    def forget_absent(self, scan: Scan, is_other: bool) -> list[Event]:
        """Forget files that two scans miss, without a notification of their removal."""
        gone = self.reader.known - scan.names - self.changes.names()
        judged = self.absence.judge(scan, gone, is_other)
        return [event for name in judged for event in self._forget(name, deleted=False)]

    def delete_missing(self, directory: int) -> list[Event]:
        """Forget files that notifications have reported as gone; one that exists again is read."""
        events: list[Event] = []
        for name in self.changes.take_missing(self.reader.known):
            if files.exists(name, directory):
                events += self._take(self._read(name, directory))
            else:
                events += self._forget(name, deleted=True)
        return events

    def defer_second_documents(self, events: list[Event]) -> list[Event]:
        """Return the events without errors of second documents, as long as the first document may have been renamed."""
        missing = {files.printable_name(name) for name in self.changes.missing}
        still = [event for event in self.deferred if self.catalogue.in_force_instead(event.name) is not None]
        self.deferred = []
        now: list[Event] = []
        for event in (*still, *events):
            if isinstance(event, Bad) and event.second and self.catalogue.in_force_instead(event.name) in missing:
                self.deferred.append(event)
            else:
                now.append(event)
        return now

    def bad(self) -> dict[str, str]:
        """Return the errors of documents that cannot be used, by name; without deferred ones."""
        deferred = {event.name for event in self.deferred}
        return {name: error for name, error in self.catalogue.bad().items() if name not in deferred}

    def _read(self, name: str, directory: int) -> Reading | None:
        self.changes.forget(name)
        return self.reader.read(name, directory)

    def _take(self, reading: Reading | None) -> list[Event]:
        if reading is None:
            return []
        if reading.document is not None:
            return self.catalogue.put(reading.document)
        assert reading.error is not None
        return self.catalogue.put_bad(reading.label, reading.error, reading.peeked)

    def _forget(self, name: str, deleted: bool) -> list[Event]:
        self.reader.forget(name)
        self.changes.forget(name)
        self.absence.discard(name)
        return self.catalogue.drop(files.printable_name(name), deleted)
