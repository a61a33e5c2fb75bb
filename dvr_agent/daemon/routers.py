"""What the daemon remembers about each router: its newest document, its state, and when it is tried again.

Belongs to the hub's thread.  It decides nothing: ``service`` changes it, ``status`` prints it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dvr_agent.daemon import eventlet_shim
from dvr_agent.sources.api import Document


class State(StrEnum):
    """Where a router stands; the words appear in the status."""

    IN_SYNC = "in sync"
    PENDING = "pending"
    DEGRADED = "degraded"
    BAD = "bad document"
    NOT_SUPPORTED = "not supported"
    ADMIN_DOWN = "admin down"


@dataclass(slots=True)
class Record:
    """One router.

    :ivar document: its newest good document; None if there never was one since the start
    :ivar bad: what is wrong with its document now, empty if it is good
    :ivar result: how the last try ended: IN_SYNC, DEGRADED, NOT_SUPPORTED or ADMIN_DOWN; PENDING before the first
        and after a change
    :ivar reason: why, where that is not obvious
    :ivar deleted: the source said so; the record goes when the data plane is gone
    :ivar failures: tries that failed in a row
    :ivar retry: the timer of the next try
    :ivar retry_at: when it strikes, by the monotonic clock
    :ivar warned: warnings and omissions of the last job, which were logged
    """

    id: str
    name: str = ""
    document: Document | None = None
    bad: str = ""
    result: State = State.PENDING
    reason: str = ""
    deleted: bool = False
    failures: int = 0
    retry: eventlet_shim.Timer | None = None
    retry_at: float | None = None
    warned: set[str] = field(default_factory=set)
    last_change: float | None = None
    last_counts: Mapping[str, int] = field(default_factory=dict)
    last_seconds: float | None = None

    @property
    def state(self) -> State:
        return State.BAD if self.bad else self.result

    @property
    def auditable(self) -> bool:
        """True if the kernel is expected to agree with the document: what differs then is drift.

        So it is with a router that is degraded since its document has objects that cannot be built.
        """
        agrees = self.result is State.IN_SYNC or (self.result is State.DEGRADED and not self.failures)
        return self.document is not None and agrees and not self.deleted

    def cancel_retry(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
        self.retry = self.retry_at = None

    def to_json(self, now: float) -> dict[str, object]:
        """For the admin socket; ``now`` is the monotonic clock, ``next_retry`` is in seconds from it."""
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "reason": "; ".join(text for text in (self.bad, self.reason) if text),
            "failures": self.failures,
            "next_retry": None if self.retry_at is None else round(max(self.retry_at - now, 0.0), 1),
            "last_change": iso_time(self.last_change),
            "last_counts": dict(self.last_counts),
            "last_seconds": self.last_seconds,
        }


class Routers:
    """All records, by router id."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, router_id: str) -> bool:
        return router_id in self._records

    def get(self, router_id: str) -> Record | None:
        return self._records.get(router_id)

    def ensure(self, router_id: str) -> Record:
        """The record of this router, made if there is none."""
        return self._records.setdefault(router_id, Record(router_id))

    def drop(self, router_id: str) -> None:
        record = self._records.pop(router_id, None)
        if record is not None:
            record.cancel_retry()

    @property
    def states(self) -> dict[State, int]:
        """How many routers are in each state."""
        counts: dict[State, int] = {}
        for record in self._records.values():
            counts[record.state] = counts.get(record.state, 0) + 1
        return counts


def iso_time(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
