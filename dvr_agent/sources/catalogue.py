"""Which document speaks for which router, and what the daemon must be told when that changes.

Pure bookkeeping: names, documents and errors come in, events come out; no file is touched here.  The outcome does not
depend on the order in which documents arrive: of several good documents of one router the first by name speaks.
``directory`` feeds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dvr_agent.errors import DocumentError
from dvr_agent.sources.api import Bad, Changed, Deleted, Document, Event


@dataclass(slots=True)
class Entry:
    """One document.

    :ivar good: as it was when it was last good, None: never was
    :ivar error: why it cannot be used now, None: it can
    :ivar claim: router id that it speaks for, or that could be made out in it
    :ivar duplicate: name of the document that speaks for the same router in its stead
    """

    good: Document | None = None
    error: DocumentError | None = None
    claim: str | None = None
    duplicate: str | None = None


class Catalogue:
    """All documents of a source by name."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._claims: dict[str, set[str]] = {}
        """Router id → names of the documents that claim it, never empty."""
        self._said: dict[str, Document] = {}
        """Router id → document that was last announced by Changed."""
        self._troubled: set[str] = set()
        """Names of the documents that cannot be used."""

    def document(self, router_id: str) -> Document | None:
        return self._said.get(router_id)

    def known(self) -> frozenset[str]:
        """Ids of all routers that a document is there for, good or bad."""
        return frozenset(self._claims)

    def complete(self) -> bool:
        """False if there is a bad document of which nobody knows whose it is."""
        return all(entry.claim is not None for entry in self._entries.values())

    def good(self) -> int:
        """Number of documents that can be used."""
        return len(self._entries) - len(self._troubled)

    def bad(self) -> dict[str, str]:
        """Name → error of those that cannot be used."""
        return {name: str(_error(name, self._entries[name])) for name in sorted(self._troubled)}

    def has(self, name: str, digest: bytes) -> bool:
        """True if the document with this name is good and has this content already."""
        entry = self._entries.get(name)
        return entry is not None and entry.error is None and entry.good is not None and entry.good.digest == digest

    def put(self, document: Document) -> list[Event]:
        """The document with this name is good and says this."""
        name = document.name
        entry = self._entries.setdefault(name, Entry())
        if self.has(name, document.digest):
            return []
        was_good, was_bad = entry.good is not None, entry.error is not None
        entry.good, entry.error = document, None
        dropped = self._claim(name, entry, document.router.id)
        events = self._settle(document.router.id, name, was_bad)
        if dropped is not None:
            events += self._settle(dropped, name, deleted=was_good)
        self._mark(name, entry)
        return events

    def spoil(self, name: str, error: DocumentError, router_id: str | None) -> list[Event]:
        """The document with this name cannot be used now; ``router_id`` if one could be made out in it."""
        entry = self._entries.setdefault(name, Entry())
        repeated = entry.error is not None and str(entry.error) == str(error)
        entry.error = error
        events: list[Event] = []
        # An id that could be made out before is kept while a worse version gives none: rather too many are known.
        if entry.good is None and router_id is not None and router_id != entry.claim:
            dropped = self._claim(name, entry, router_id)
            events = self._settle(dropped, name) if dropped is not None else []
        self._mark(name, entry)
        return events if repeated else [Bad(name, None if entry.duplicate else entry.claim, error), *events]

    def drop(self, name: str, deleted: bool) -> list[Event]:
        """The document with this name is gone; ``deleted``: somebody said so (else it is just not there)."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return []
        self._troubled.discard(name)
        dropped = self._claim(name, entry, None)
        return self._settle(dropped, name, deleted=deleted) if dropped is not None else []

    def _claim(self, name: str, entry: Entry, router_id: str | None) -> str | None:
        """Change what a document claims; returns the id that it claimed before, if that is another one."""
        before, entry.claim = entry.claim, router_id
        if router_id is not None:
            self._claims.setdefault(router_id, set()).add(name)
        if before is None or before == router_id:
            return None
        entry.duplicate = None
        self._claims[before].discard(name)
        if not self._claims[before]:
            del self._claims[before]
        return before

    def _settle(self, router_id: str, name: str, again: bool = False, deleted: bool = False) -> list[Event]:
        """Find who speaks for a router now that the document ``name`` has changed, and say what is new about it.

        :param again: the document was bad and is good now: to be told even with old content
        :param deleted: if no document claims the router any more, that is a positive word
        """
        claims = self._claims.get(router_id)
        if not claims:
            self._said.pop(router_id, None)
            return [Deleted(router_id, name)] if deleted else []
        speakers = sorted(claimant for claimant in claims if self._entries[claimant].good is not None)
        if not speakers:
            return []
        speaker = speakers[0]
        events = self._speak(router_id, speaker, again and speaker == name)
        for other in speakers[1:]:
            entry = self._entries[other]
            told = entry.duplicate == speaker and other != name
            entry.duplicate = speaker
            self._mark(other, entry)
            error = _error(other, entry)
            if error is not None and not told:
                events.append(Bad(other, None, error))
        return events

    def _speak(self, router_id: str, speaker: str, again: bool) -> list[Event]:
        entry = self._entries[speaker]
        assert entry.good is not None
        said = self._said.get(router_id)
        entry.duplicate = None
        self._mark(speaker, entry)
        if entry.error is not None:
            took_over = said is not None and said.name != speaker
            return [Bad(speaker, router_id, entry.error)] if took_over else []
        self._said[router_id] = entry.good
        news = said is None or said.name != speaker or said.digest != entry.good.digest
        return [Changed(entry.good)] if news or again else []

    def _mark(self, name: str, entry: Entry) -> None:
        if entry.error is None and entry.duplicate is None:
            self._troubled.discard(name)
        else:
            self._troubled.add(name)


def _error(name: str, entry: Entry) -> DocumentError | None:
    if entry.error is None and entry.duplicate is not None:
        expected = f"one document per router, and {entry.duplicate} is of the same one"
        return DocumentError(name, "$.id", f'"{entry.claim}"', expected)
    return entry.error
