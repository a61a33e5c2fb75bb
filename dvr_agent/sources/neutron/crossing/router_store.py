"""The routers of this host as the server last described them, and the one place where events come from.

Several threads tell it things: the fetch thread documents and full syncs, the message bus deletions, the fallback kept
documents.  Each question to the server begins with :meth:`Store.begin`; an answer is dropped when its question is older
than the router's deletion, or than a question that is answered already: two may be under way at a time.  Documents are
parsed in the caller's thread, outside the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Any

from dvr_agent.errors import DocumentError, SourceError
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Bad, Changed, Deleted, Document, Event, Failed, Synced
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.documents import Draft


class Verdict(Enum):
    """What became of an answer."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    BAD = "bad"
    GONE = "gone"
    """The router was deleted meanwhile."""
    LATE = "late"
    """A newer question was answered before."""


@dataclass(slots=True)
class Entry:
    """One router.

    :ivar document: as last announced; its text may be older than ``digest``, its router is the same
    :ivar digest: of the newest text, good or bad
    :ivar draft: what the text was made of; None for a kept document
    :ivar seen: which question to the server it answers, 0 for a kept document
    """

    document: Document | None = None
    error: DocumentError | None = None
    digest: bytes = b""
    draft: Draft | None = None
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What this agent has to do, for the report of our state."""

    routers: int
    ex_gw_ports: int
    interfaces: int
    floating_ips: int


class Store:
    """
    :param emit: takes the events, in order
    :param max_size: bytes of the largest document
    """

    def __init__(self, emit: Callable[[Event], None], max_size: int) -> None:
        self._emit, self._max_size = emit, max_size
        self._lock = Lock()
        self._entries: dict[str, Entry] = {}
        self._deleted: dict[str, int] = {}
        """Router id → number of the last question that was asked before it was deleted."""
        self._asked = 0
        self._failure = ""
        self._synced = False

    # What the server says

    def begin(self) -> int:
        """A question is about to be asked; returns its number."""
        with self._lock:
            self._asked += 1
            return self._asked

    def offer(self, draft: Draft, text: bytes, question: int, rebuilt: bool = False) -> Verdict:
        """The server's answer about a router, put together.

        :param rebuilt: only its neighbours are new: that says nothing about whether the router is still of this host
        """
        name, router_id = documents.document_name(draft.router_id), draft.router_id
        digest = documents.digest(text)
        with self._lock:
            if (late := self._late(router_id, question)) is not None:
                return late
            entry = self._entries.get(router_id)
            if entry is not None and entry.document is not None and entry.digest == digest and entry.error is None:
                entry.draft, entry.seen = draft, entry.seen if rebuilt else question
                return Verdict.UNCHANGED
        try:
            router = parse_document(text, name, self._max_size)
        except DocumentError as exc:
            return self.spoil(router_id, exc, question, draft)
        return self._accept(Document(name, router, digest), draft, question, rebuilt)

    def spoil(self, router_id: str, error: DocumentError, question: int, draft: Draft | None = None) -> Verdict:
        """The server's answer about a router cannot be used; the router stays known."""
        with self._lock:
            if (late := self._late(router_id, question)) is not None:
                return late
            entry = self._entries.setdefault(router_id, Entry())
            repeated = entry.error is not None and str(entry.error) == str(error)
            entry.error, entry.seen = error, question
            entry.draft = draft or entry.draft
            if not repeated:
                self._emit(Bad(error.document, router_id, error))
            return Verdict.BAD

    def _accept(self, document: Document, draft: Draft, question: int, rebuilt: bool) -> Verdict:
        router_id = document.router.id
        with self._lock:
            if (late := self._late(router_id, question)) is not None:
                return late
            if rebuilt and router_id not in self._entries:
                return Verdict.GONE
            entry = self._entries.setdefault(router_id, Entry())
            same = entry.document is not None and entry.document.router == document.router
            news = not same or entry.error is not None
            entry.digest, entry.draft, entry.error = document.digest, draft, None
            entry.seen = entry.seen if rebuilt else question
            if not same:
                entry.document = document
            if news:
                assert entry.document is not None
                self._emit(Changed(entry.document))
            return Verdict.CHANGED if news else Verdict.UNCHANGED

    def _late(self, router_id: str, question: int) -> Verdict | None:
        """Why an answer comes too late; None if it does not."""
        if self._outdated(router_id, question):
            return Verdict.GONE
        entry = self._entries.get(router_id)
        return Verdict.LATE if entry is not None and entry.seen > question else None

    def _outdated(self, router_id: str, question: int) -> bool:
        return self._deleted.get(router_id, -1) >= question

    def is_late(self, router_id: str, question: int) -> bool:
        """True if an answer about the router to this question counts no more."""
        with self._lock:
            return self._late(router_id, question) is not None

    def delete(self, router_id: str) -> bool:
        """A positive word that the router is gone from this host; True if it was here."""
        with self._lock:
            self._deleted[router_id] = self._asked
            entry = self._entries.pop(router_id, None)
            # Before the first full sync there may be something of it in the kernel that we have not heard of.
            if entry is not None or not self._synced:
                self._emit(Deleted(router_id, documents.document_name(router_id)))
            return entry is not None

    def confirm(self, listed: Iterable[str], question: int, complete: bool, why: str = "") -> frozenset[str]:
        """A full sync has ended well; returns the ids that are known now.

        :param listed: routers that the server described, well or badly
        :param question: the first one of this sync: what was heard of since counts, listed or not
        """
        with self._lock:
            known = {router_id for router_id in listed if not self._outdated(router_id, question)}
            known |= {router_id for router_id, entry in self._entries.items() if entry.seen > question}
            known &= self._entries.keys()
            for router_id in self._entries.keys() - known:
                del self._entries[router_id]
            self._deleted = {gone: last for gone, last in self._deleted.items() if last >= question}
            self._synced, self._failure = True, ""
            found = frozenset(known)
            self._emit(Synced(found, complete, why))
            return found

    def fail(self, text: str) -> None:
        """Nothing can be had from the server; said once as long as the reason is the same."""
        with self._lock:
            if text != self._failure:
                self._failure = text
                self._emit(Failed(SourceError(text)))

    # Kept documents

    def offer_kept(self, document: Document) -> bool:
        """A document kept from last time; the server's word, if there was one, counts more.  False: not used."""
        with self._lock:
            router_id = document.router.id
            if self._synced or router_id in self._deleted or router_id in self._entries:
                return False
            self._entries[router_id] = Entry(document, None, document.digest)
            self._emit(Changed(document))
            return True

    def confirm_kept(self, why: str) -> bool:
        """All kept documents were offered; False if the server has answered meanwhile."""
        with self._lock:
            if self._synced:
                return False
            self._emit(Synced(frozenset(self._entries), False, why))
            return True

    # Questions of ours

    def document(self, router_id: str) -> Document | None:
        with self._lock:
            entry = self._entries.get(router_id)
            return entry.document if entry is not None else None

    def router(self, router_id: str) -> Router | None:
        """What the router's newest good document says; the object itself was announced."""
        found = self.document(router_id)
        return found.router if found is not None else None

    def __contains__(self, router_id: str) -> bool:
        with self._lock:
            return router_id in self._entries

    def drafts(self) -> list[Draft]:
        """Of all routers that the server described in this life."""
        with self._lock:
            return [entry.draft for entry in self._entries.values() if entry.draft is not None]

    def draft(self, router_id: str) -> Draft | None:
        """The router as the server described it last, None if it has not in this life."""
        with self._lock:
            entry = self._entries.get(router_id)
            return entry.draft if entry is not None else None

    def error(self, router_id: str) -> DocumentError | None:
        """Why the router's newest document cannot be used, None if it can."""
        with self._lock:
            entry = self._entries.get(router_id)
            return entry.error if entry is not None else None

    def is_good(self, router_id: str) -> bool:
        """True if the router's newest document can be used."""
        with self._lock:
            entry = self._entries.get(router_id)
            return entry is not None and entry.document is not None and entry.error is None

    def may_build(self, router_id: str) -> bool:
        """False if the router is of a kind that this agent leaves alone."""
        router = self.router(router_id)
        return router is None or (router.distributed and not router.ha)

    def with_network(self, network_id: str) -> list[str]:
        """Ids of the routers with a port in a network; a bad document may have one, so it counts."""
        with self._lock:
            return [
                router_id
                for router_id, entry in self._entries.items()
                if entry.error is not None or entry.document is None or network_id in entry.document.router.networks
            ]

    def with_gateway(self, network_id: str) -> list[str]:
        """Ids of the routers that have, or may have, their gateway in an external network."""
        with self._lock:
            return [
                router_id
                for router_id, entry in self._entries.items()
                if entry.error is not None or entry.document is None or _gateway_in(entry.document.router, network_id)
            ]

    def counts(self) -> Counts:
        """Routers that this agent builds, and what they have."""
        with self._lock:
            routers = [entry.document.router for entry in self._entries.values() if entry.document is not None]
        routers = [router for router in routers if router.distributed and not router.ha]
        return Counts(
            len(routers),
            sum(router.gateway is not None for router in routers),
            sum(len(router.interfaces) for router in routers),
            sum(len(router.floating_ips) for router in routers),
        )

    def status(self) -> dict[str, Any]:
        """For the admin socket."""
        with self._lock:
            bad = {e.error.document: str(e.error) for e in self._entries.values() if e.error is not None}
            return {"documents": len(self._entries) - len(bad), "bad": bad, "error": self._failure or None}


def _gateway_in(router: Router, network_id: str) -> bool:
    return router.gateway is not None and router.gateway.network_id == network_id
