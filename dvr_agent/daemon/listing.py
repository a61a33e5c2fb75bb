"""Holds the source's newest complete listing: ids of all routers that have a document.

Belongs to the hub's thread.  Only ``source_reader`` calls methods that change it; the stale sweep and the status read
it.
"""

from __future__ import annotations

import time
from collections.abc import Set

from dvr_agent.sources.api import Synced

NO_ROUTER_ID = "a malformed document has no readable router id"


class RouterListing:
    """Routers that have a document, and how far the list can be trusted.

    :ivar incomplete: why ``known`` may lack a router, empty if it cannot
    :ivar suspect: why routers that are not in ``known`` must not be removed without an operator's confirmation,
        empty if they may
    :ivar error: why documents cannot be listed now, empty if they can
    :ivar last_sync: time of the newest complete listing, seconds since the epoch; None before the first
    """

    def __init__(self) -> None:
        self._known: set[str] | None = None
        self.incomplete = NO_ROUTER_ID
        self.suspect = ""
        self.error = ""
        self.last_sync: float | None = None

    @property
    def known(self) -> Set[str]:
        """Ids of all routers that have a document, good or bad; empty before the first complete listing."""
        return self._known or frozenset()

    @property
    def is_known(self) -> bool:
        """True after the first complete listing."""
        return self._known is not None

    @property
    def usable(self) -> bool:
        """True if a router that is not in ``known`` has no document for certain."""
        return self.is_known and not self.error and not self.incomplete

    def synced(self, event: Synced) -> None:
        """Replace the listing by a new complete one."""
        self._known = set(event.known)
        self.incomplete = "" if event.complete else event.why or NO_ROUTER_ID
        self.suspect = event.suspect
        if not event.why:
            self.error = ""
        self.last_sync = time.time()

    def add(self, router_id: str) -> None:
        """Add a router whose document appeared since the listing."""
        if self._known is not None:
            self._known.add(router_id)

    def discard(self, router_id: str) -> None:
        """Remove a router whose document was deleted since the listing."""
        if self._known is not None:
            self._known.discard(router_id)

    def found_unreadable_id(self) -> None:
        """Note a document without a readable router id: any router may be the one it describes."""
        self.incomplete = NO_ROUTER_ID

    def failed(self, error: str) -> None:
        """Note that documents cannot be listed; ``known`` stays."""
        self.error = error
