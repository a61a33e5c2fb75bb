"""Decides which document is in force for which router, and makes the events of a change.

Bookkeeping only: names, documents and errors come in, events come out; no file is touched here.  Of several good
documents of one router the first is in force until it is removed, whatever the names are: a second one is a bad
document, and no router changes because of it.  When the document in force is removed, the next one by arrival takes
over.  ``directory`` uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dvr_agent.errors import DocumentError
from dvr_agent.sources.api import Bad, Changed, Deleted, Document, Event


@dataclass(slots=True)
class CatalogueEntry:
    """One document, good or bad.

    :ivar latest: content when it could be read last, None: it never could
    :ivar error: why it cannot be read now, None: it can
    :ivar peeked: router id that was read in a document that otherwise could never be read
    :ivar in_force_instead: name of the other document that is in force for the router of ``latest``
    """

    latest: Document | None = None
    error: DocumentError | None = None
    peeked: str | None = None
    in_force_instead: str | None = None

    @property
    def router_id(self) -> str | None:
        """Id of the router that the document describes, None if it is not readable."""
        return self.latest.router.id if self.latest is not None else self.peeked


class Catalogue:
    """All documents of a source by name, in order of arrival."""

    def __init__(self) -> None:
        self._entries: dict[str, CatalogueEntry] = {}
        self._in_force: dict[str, str] = {}
        """Router id → name of the document that is in force."""
        self._router_of: dict[str, str] = {}
        """Name of a document in force → router id.  Newer content of it may have another id, and be refused."""
        self._documents_of: dict[str, set[str]] = {}
        """Router id → names of the documents that have this id, or are in force for it; no set is empty."""
        self._announced: dict[str, Document] = {}
        """Router id → document of the last Changed event."""
        self._deletion_pending: set[str] = set()
        """Ids of deleted routers that a bad document still names: Deleted follows when no document does."""
        self._unusable: set[str] = set()
        """Names of the documents that cannot be used."""

    def document(self, router_id: str) -> Document | None:
        """Return the document in force that was announced last."""
        return self._announced.get(router_id)

    def known(self) -> frozenset[str]:
        """Return the ids of all routers that have a document, good or bad."""
        return frozenset(self._documents_of)

    def complete(self) -> bool:
        """Return False if there is a bad document without a readable router id."""
        return all(entry.router_id is not None for entry in self._entries.values())

    def good(self) -> int:
        """Return the number of documents that can be used."""
        return len(self._entries) - len(self._unusable)

    def bad(self) -> dict[str, str]:
        """Return the errors of documents that cannot be used, by name."""
        return {name: str(self._error(name)) for name in sorted(self._unusable)}

    def in_force_instead(self, name: str) -> str | None:
        """Return the name of the document that is in force instead of this one; None if there is none."""
        entry = self._entries.get(name)
        return entry.in_force_instead if entry is not None and entry.error is None else None

    def has(self, name: str, digest: bytes) -> bool:
        """Return True if the document with this name can be read and has this content already."""
        entry = self._entries.get(name)
        return entry is not None and entry.error is None and entry.latest is not None and entry.latest.digest == digest

    def put(self, document: Document) -> list[Event]:
        """Add or replace a document that can be read; returns the events."""
        name = document.name
        if self.has(name, document.digest):
            return []
        entry = self._entries.setdefault(name, CatalogueEntry())
        before, could_be_read = entry.router_id, entry.latest is not None
        was_bad, entry.latest, entry.error = name in self._unusable, document, None
        events = self._put_in_force(name, again=was_bad)
        # An id in a document that could never be read deletes no router.
        return events + self._update_documents_of(name, before, deleted=could_be_read)

    def put_bad(self, name: str, error: DocumentError, router_id: str | None) -> list[Event]:
        """Add or replace a document that cannot be read now, by its error; returns the events.

        :param router_id: the id that can still be read in it, None if there is none
        """
        entry = self._entries.setdefault(name, CatalogueEntry())
        before, repeated = entry.router_id, str(entry.error) == str(error)
        entry.error = error
        # An id that was readable before is kept while a worse version has none: rather too many routers are known.
        if entry.latest is None and router_id is not None:
            entry.peeked = router_id
        self._unusable.add(name)
        events = self._update_documents_of(name, before, deleted=False)
        return events if repeated else [self._report(name), *events]

    def drop(self, name: str, deleted: bool) -> list[Event]:
        """Remove a document.

        :param deleted: by an explicit deletion; otherwise it is merely absent
        """
        entry = self._entries.pop(name, None)
        if entry is None:
            return []
        self._unusable.discard(name)
        events = self._release(name, deleted)
        return events + self._update_documents_of(name, entry.router_id, deleted)

    # -- the document in force ----------------------------------------------------------------------------------

    def _put_in_force(self, name: str, again: bool = False) -> list[Event]:
        """Put a document that can be read in force for its router, or refuse it.

        :param again: it was refused or unreadable before: announce it even if its content was announced last
        """
        entry = self._entries[name]
        assert entry.latest is not None
        router_id = entry.latest.router.id
        self._documents_of.setdefault(router_id, set()).add(name)
        holder = self._in_force.get(router_id, name)
        if holder != name and self._entries[holder].router_id != router_id:
            return self._take_over(name, holder)
        if holder != name:
            entry.in_force_instead = holder
            self._unusable.add(name)
            return [*self._release_former_router(name), self._report(name)]
        entry.in_force_instead = None
        self._unusable.discard(name)
        self._deletion_pending.discard(router_id)
        released = self._release(name, deleted=True) if self._router_of.get(name) != router_id else []
        self._in_force[router_id], self._router_of[name] = name, router_id
        announced, self._announced[router_id] = self._announced.get(router_id), entry.latest
        is_new = announced is None or announced.name != name or announced.digest != entry.latest.digest
        events: list[Event] = [Changed(entry.latest)] if is_new or again else []
        return [*events, *released, *self._refuse_others(router_id, name)]

    def _take_over(self, name: str, holder: str) -> list[Event]:
        """Put a document in force in place of ``holder``, which describes another router by now and was refused there.

        Two files that swapped their documents would wait for each other for ever.
        """
        router_id = self._router_of.pop(holder)
        del self._in_force[router_id]
        self._documents_of[router_id].discard(holder)
        events = self._put_in_force(name)
        return [*events, self._report(holder)] if holder in self._unusable else events

    def _release_former_router(self, name: str) -> list[Event]:
        """Release the former router of a refused document, if that router has another document."""
        before = self._router_of.get(name)
        if before is None or before == self._entries[name].router_id:
            return []
        usable = any(self._entries[other].error is None for other in self._names_with(before) if other != name)
        return self._release(name, deleted=False) if usable else []

    def _release(self, name: str, deleted: bool) -> list[Event]:
        """Take a document out of force: the next document of its router takes over.

        :param deleted: if there is no other document, the router is deleted
        """
        router_id = self._router_of.pop(name, None)
        if router_id is None:
            return []
        del self._in_force[router_id]
        others = [other for other in self._names_with(router_id) if other != name]
        usable = [other for other in others if self._entries[other].error is None]
        if deleted and not usable:
            self._deletion_pending.add(router_id)
        events = self._put_in_force(usable[0]) if usable else [self._report(other) for other in others]
        return events + self._update_documents_of(name, router_id, deleted)

    def _names_with(self, router_id: str) -> Iterator[str]:
        """Return the names of the documents that have a router's id, in order of arrival."""
        return (name for name, entry in self._entries.items() if entry.router_id == router_id)

    def _refuse_others(self, router_id: str, holder: str) -> list[Event]:
        """Report the other documents of a router again, since ``holder`` is newly in force."""
        events: list[Event] = []
        if len(self._documents_of[router_id]) > 1:
            for name in self._names_with(router_id):
                entry = self._entries[name]
                if name != holder and entry.error is None and entry.in_force_instead != holder:
                    entry.in_force_instead = holder
                    events.append(self._report(name))
        return events

    def _update_documents_of(self, name: str, before: str | None, deleted: bool) -> list[Event]:
        """Update ``_documents_of`` for a document that had the id of router ``before``; may end in Deleted."""
        entry = self._entries.get(name)
        wanted = {entry.router_id if entry is not None else None, self._router_of.get(name)} - {None}
        for router_id in wanted:
            assert router_id is not None
            self._documents_of.setdefault(router_id, set()).add(name)
        if before is None or before in wanted or before not in self._documents_of:
            return []
        self._documents_of[before].discard(name)
        if self._documents_of[before]:
            return []
        del self._documents_of[before]
        self._announced.pop(before, None)
        deleted = deleted or before in self._deletion_pending
        self._deletion_pending.discard(before)
        return [Deleted(before, name)] if deleted else []

    # -- errors -------------------------------------------------------------------------------------------------

    def _report(self, name: str) -> Bad:
        entry = self._entries[name]
        error = self._error(name)
        assert error is not None
        router_id = self._router_of.get(name)
        if router_id is not None:
            return Bad(name, router_id, error)
        second = entry.router_id is not None and entry.router_id in self._in_force
        return Bad(name, None if second else entry.router_id, error, second)

    def _error(self, name: str) -> DocumentError | None:
        entry = self._entries[name]
        if entry.error is None and entry.in_force_instead is not None:
            expected = f"one document per router, and {entry.in_force_instead} is of the same one"
            return DocumentError(name, "$.id", f'"{entry.router_id}"', expected)
        return entry.error
