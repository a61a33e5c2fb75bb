"""Progress of a full sync: routers described, subnets asked for; ``full_sync`` makes one for each sync."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dvr_agent.sources.neutron.crossing.router_store import OfferResult


@dataclass(slots=True)
class SyncProgress:
    """A full sync under way, or to be gone on with: the server has not answered it to its end.

    Notifications keep what it has brought up to date, however long it takes.

    :ivar query: number of its first query
    :ivar serve_updates: does other work that has come meanwhile; called before each question
    :ivar request: ``FetchInbox.syncs_requested`` when it began
    :ivar listed: ids of all routers of this host
    :ivar has_invalid: the list has an entry that is no router id
    :ivar pulled: subnets whose ports were asked for
    :ivar known: routers that the server described, well or badly
    :ivar known_before: how many there were when the last try began
    """

    query: int
    serve_updates: Callable[[], None]
    request: int
    listed: list[str] = field(default_factory=list)
    has_invalid: bool = False
    began: float = field(default_factory=time.monotonic)
    pulled: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    known_before: int = 0
    counts: dict[OfferResult, int] = field(default_factory=lambda: dict.fromkeys(OfferResult, 0))

    def count(self, router_id: str, result: OfferResult) -> None:
        """Count a router that the server described."""
        self.known.add(router_id)
        self.counts[result] += 1
