"""The routers of this host as the server last described them, and the only place where events are made.

Four threads write: ``neutron-fetch`` offers documents and ends full syncs, threads of the bus delete routers,
``neutron-fallback`` offers cached documents, ``neutron-report`` reports that the server cannot be reached.

Each query to the server gets a number from :meth:`RouterStore.begin_query`; an answer is dropped if its query is older
than the router's deletion, or than a query that is answered already (two may be under way at a time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from threading import Lock
from typing import Any

from dvr_agent.errors import DocumentError, SourceError
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Bad, Changed, Deleted, Document, Event, Failed, Synced
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.documents import RouterDraft


class OfferResult(Enum):
    """The store's answer to a document that was offered."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    BAD = "bad"
    GONE = "gone"
    """The router was deleted after the query began."""
    LATE = "late"
    """The answer to a newer query came first."""


@dataclass(frozen=True, slots=True)
class StoredRouter:
    """One router; replaced as a whole when anything changes.

    :ivar document: the document of the last Changed event; ``digest`` may be of a newer text of an equal router
    :ivar error: why the newest document cannot be used, None if it can
    :ivar digest: hash of the newest good document
    :ivar draft: the draft that the newest document was made of; None for a cached document
    :ivar query: number of the query that it answers, 0 for a cached document
    """

    document: Document | None = None
    error: DocumentError | None = None
    digest: bytes = b""
    draft: RouterDraft | None = None
    query: int = 0

    @property
    def router(self) -> Router | None:
        """The router of the newest good document: the object that the last Changed event carried."""
        return self.document.router if self.document is not None else None

    @property
    def is_good(self) -> bool:
        """True if the newest document can be used."""
        return self.document is not None and self.error is None

    @property
    def may_be_distributed(self) -> bool:
        """False for a router that has nothing in a fip namespace."""
        router = self.router
        return router is None or router.distributed

    def may_have_port_in(self, network_id: str) -> bool:
        """Return True if the router has a port in a network, or a bad document, which may have one."""
        router = self.router
        return self.error is not None or router is None or network_id in router.networks

    def may_have_gateway_in(self, network_id: str) -> bool:
        """Return True if the router's gateway is in an external network, or may be, since its document is bad."""
        router = self.router
        if self.error is not None or router is None:
            return True
        return router.gateway is not None and router.gateway.network_id == network_id


class RouterStore:
    """Routers by id, with one lock; documents are parsed in the caller's thread, outside the lock.

    :param emit: takes the events, in order; called with the lock, so it must not block
    :param max_size: bytes of the largest document
    """

    def __init__(self, emit: Callable[[Event], None], max_size: int) -> None:
        self._emit, self._max_size = emit, max_size
        self._lock = Lock()
        self._routers: dict[str, StoredRouter] = {}
        self._deleted: dict[str, int] = {}
        """Router id → number of the last query that began before the deletion."""
        self._query = 0
        self._failure = ""
        self._synced = False

    # Answers of the server

    def begin_query(self) -> int:
        """Return the number of a query that is about to be sent."""
        with self._lock:
            self._query += 1
            return self._query

    def offer(self, draft: RouterDraft, text: bytes, query: int, rebuilt: bool = False) -> OfferResult:
        """Store a document that was made of the server's answer, and emit Changed or Bad.

        :param rebuilt: only its neighbours are new, which does not confirm that the router is still of this host
        """
        name, router_id = documents.document_name(draft.router_id), draft.router_id
        digest = documents.digest(text)
        with self._lock:
            if (reason := self._why_dropped(router_id, query)) is not None:
                return reason
            known = self._routers.get(router_id)
            if known is not None and known.is_good and known.digest == digest:
                self._routers[router_id] = replace(known, draft=draft, query=known.query if rebuilt else query)
                return OfferResult.UNCHANGED
        try:
            router = parse_document(text, name, self._max_size)
        except DocumentError as exc:
            return self.offer_bad(router_id, exc, query, draft)
        return self._accept(Document(name, router, digest), draft, query, rebuilt)

    def offer_bad(
        self, router_id: str, error: DocumentError, query: int, draft: RouterDraft | None = None
    ) -> OfferResult:
        """Store the error of a document that cannot be used, and emit Bad; the router stays known."""
        with self._lock:
            if (reason := self._why_dropped(router_id, query)) is not None:
                return reason
            known = self._routers.get(router_id, StoredRouter())
            self._routers[router_id] = replace(known, error=error, query=query, draft=draft or known.draft)
            if known.error is None or str(known.error) != str(error):
                self._emit(Bad(error.document, router_id, error))
            return OfferResult.BAD

    def _accept(self, document: Document, draft: RouterDraft, query: int, rebuilt: bool) -> OfferResult:
        router_id = document.router.id
        with self._lock:
            if (reason := self._why_dropped(router_id, query)) is not None:
                return reason
            known = self._routers.get(router_id)
            if known is None and rebuilt:
                return OfferResult.GONE
            known = known or StoredRouter()
            same = known.document is not None and known.document.router == document.router
            announced = known.document if same and known.document is not None else document
            self._routers[router_id] = StoredRouter(
                announced, None, document.digest, draft, known.query if rebuilt else query
            )
            if same and known.error is None:
                return OfferResult.UNCHANGED
            self._emit(Changed(announced))
            return OfferResult.CHANGED

    def _why_dropped(self, router_id: str, query: int) -> OfferResult | None:
        """Return why an answer must be dropped; None if it counts."""
        if self._is_deleted_since(router_id, query):
            return OfferResult.GONE
        known = self._routers.get(router_id)
        return OfferResult.LATE if known is not None and known.query > query else None

    def _is_deleted_since(self, router_id: str, query: int) -> bool:
        return self._deleted.get(router_id, -1) >= query

    def is_late(self, router_id: str, query: int) -> bool:
        """Return True if an answer to this query must be dropped as far as it is about the router."""
        with self._lock:
            return self._why_dropped(router_id, query) is not None

    def delete(self, router_id: str) -> bool:
        """Delete a router explicitly, and emit Deleted; returns True if it was known."""
        with self._lock:
            self._deleted[router_id] = self._query
            known = self._routers.pop(router_id, None)
            # Before the first full sync the kernel may hold something of a router that is not known here.
            if known is not None or not self._synced:
                self._emit(Deleted(router_id, documents.document_name(router_id)))
            return known is not None

    def confirm(self, listed: Iterable[str], query: int, complete: bool, why: str = "") -> frozenset[str]:
        """End a full sync: forget routers that were not listed, emit Synced; returns the ids of all known routers.

        :param listed: routers that the server described, well or badly
        :param query: the first one of this sync; routers of later queries are known, listed or not
        """
        with self._lock:
            known = {router_id for router_id in listed if not self._is_deleted_since(router_id, query)}
            known |= {router_id for router_id, stored in self._routers.items() if stored.query > query}
            known &= self._routers.keys()
            for router_id in self._routers.keys() - known:
                del self._routers[router_id]
            self._deleted = {gone: last for gone, last in self._deleted.items() if last >= query}
            self._synced, self._failure = True, ""
            found = frozenset(known)
            self._emit(Synced(found, complete, why))
            return found

    def fail(self, reason: str) -> None:
        """Emit Failed: the server cannot be asked; once as long as the reason is the same."""
        with self._lock:
            if reason != self._failure:
                self._failure = reason
                self._emit(Failed(SourceError(reason)))

    # Cached documents

    @property
    def synced(self) -> bool:
        """True after the first full sync."""
        return self._synced

    def offer_cached(self, document: Document) -> bool:
        """Store a document that an earlier process cached; returns False if the server has answered before."""
        with self._lock:
            router_id = document.router.id
            if self._synced or router_id in self._deleted or router_id in self._routers:
                return False
            self._routers[router_id] = StoredRouter(document, None, document.digest)
            self._emit(Changed(document))
            return True

    def confirm_cached(self, why: str) -> bool:
        """Emit Synced, incomplete, after all cached documents; returns False if a full sync has ended before."""
        with self._lock:
            if self._synced:
                return False
            self._emit(Synced(frozenset(self._routers), False, why))
            return True

    # Reading

    def get(self, router_id: str) -> StoredRouter | None:
        """Return a router, None if it is not known."""
        with self._lock:
            return self._routers.get(router_id)

    def all(self) -> dict[str, StoredRouter]:
        """Return all routers by id."""
        with self._lock:
            return dict(self._routers)

    def drafts(self) -> list[RouterDraft]:
        """Return the drafts of all routers that the server has described in this process."""
        return [stored.draft for stored in self.all().values() if stored.draft is not None]

    def bad_documents(self) -> dict[str, str]:
        """Return name → error of each document that cannot be used."""
        with self._lock:
            return self._bad()

    def _bad(self) -> dict[str, str]:
        return {one.error.document: str(one.error) for one in self._routers.values() if one.error is not None}

    def status(self) -> dict[str, Any]:
        """Return documents, bad documents and the failure, for the admin socket."""
        with self._lock:
            bad = self._bad()
            return {"documents": len(self._routers) - len(bad), "bad": bad, "error": self._failure or None}
