"""Caches router documents on this host for a start without Neutron: one ``<router id>.json`` each, 0600.

Beside them is a note for each router whose newest document cannot be used, so that ``dvrctl plan`` can say so, and a
marker of the last complete set.  ``crossing.document_files`` writes, ``fallback`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from dvr_agent.sources.cached_documents import MARKER, REFUSED, SUFFIX
from dvr_agent.sources.neutron.api import Json
from dvr_agent.sources.neutron.crossing.document_files import DocumentFiles


class DocumentCache:
    """The newest good document of each router, and why a newer one is refused."""

    def __init__(self, files: DocumentFiles) -> None:
        self._files = files
        self._refused: dict[str, str] | None = None
        """Router id → reason in its note, empty if it is of an earlier process; None: the directory is not read yet."""

    def write(self, router_id: str, text: bytes) -> None:
        """Write a document.  A failure is logged once, and changes nothing else."""
        self._files.write(router_id + SUFFIX, text)
        self.accept(router_id)

    def read(self, router_id: str) -> Json | None:
        """Return a cached document, as an earlier process may have written it; None: there is none that can be read."""
        try:
            found = json.loads(self._files.read(router_id + SUFFIX))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def remove(self, router_id: str) -> None:
        """Remove the document of a router that is gone."""
        self._files.remove(router_id + SUFFIX)
        self.accept(router_id)

    def refuse(self, router_id: str, reason: str) -> None:
        """Write a note: the router's newest document cannot be used, so the cached one is older."""
        refused = self._refusals()
        if refused.get(router_id) != reason:
            refused[router_id] = reason
            self._files.write(router_id + REFUSED, reason.encode())

    def accept(self, router_id: str) -> None:
        """Remove the note about the router's newest document, which can be used now."""
        refused = self._refusals()
        if router_id in refused and self._files.remove(router_id + REFUSED):
            del refused[router_id]

    def with_document(self) -> set[str]:
        """Return the ids of the routers that have a cached document."""
        return self._files.router_ids(SUFFIX)

    def with_any_file(self) -> set[str]:
        """Return the ids of the routers that have a cached document or a note."""
        return self.with_document() | self._refusals().keys()

    def complete(self, gone: Collection[str]) -> None:
        """Remove the files of these routers, then mark the set as complete."""
        for router_id in gone:
            self.remove(router_id)
        self._files.write_last(MARKER, b"")

    def _refusals(self) -> dict[str, str]:
        if self._refused is None:
            self._refused = dict.fromkeys(self._files.router_ids(REFUSED), "")
        return self._refused
