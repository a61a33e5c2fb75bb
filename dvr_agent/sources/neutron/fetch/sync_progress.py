"""Progress of a full sync: routers described, subnets asked for; ``full_sync`` makes one for each sync."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from dvr_agent.sources.neutron.crossing.router_store import OfferResult


@dataclass(slots=True)
class SyncProgress:
    """A full sync under way.

    :ivar query: number of its first query
    :ivar serve_updates: does other work that has come meanwhile; called before each question
    :ivar request: ``FetchInbox.syncs_requested`` when it began
    :ivar pulled: subnets whose ports were asked for
    :ivar known: routers that the server described, well or badly
    """

    query: int
    serve_updates: Callable[[], None]
    request: int = 0
    began: float = field(default_factory=time.monotonic)
    pulled: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    counts: dict[OfferResult, int] = field(default_factory=lambda: dict.fromkeys(OfferResult, 0))

    def go_on(self, unfinished: SyncProgress, present: Collection[str]) -> None:
        """Take over what a sync that was not answered to its end has brought, unless another one was requested since.

        Notifications have kept it up to date, as in a sync that takes as long.

        :param present: routers that are listed now, and have a document
        """
        if unfinished.request == self.request:
            self.began, self.counts, self.pulled = unfinished.began, unfinished.counts, unfinished.pulled
            self.known = unfinished.known.intersection(present)

    def count(self, router_id: str, result: OfferResult) -> None:
        """Count a router that the server described."""
        self.known.add(router_id)
        self.counts[result] += 1
