"""Keeps a record of each router: newest document, state, next retry.  Belongs to the hub's thread.

A record is a frozen value.  Only :class:`RouterRecords` replaces one; ``schedule`` calls its methods, all other modules
read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.job_texts import HINDERED
from dvr_agent.reconcile.api import Result
from dvr_agent.sources.api import Document
from dvr_agent.state.sets import compact

T = TypeVar("T")

HELD_BACK = "it has no document any more; its removal is held back"


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """One router.

    :ivar document: its newest good document; None if there has been none since the start
    :ivar bad: the error of its newest document, empty if that one is good
    :ivar job_state: state after the last job; PENDING before the first job and after a change
    :ivar reason: why the router is degraded or not supported
    :ivar deleted: its document was deleted explicitly; the record is dropped when the data plane is gone
    :ivar held_back: it has no document, and the guard of the stale sweep refused its removal
    :ivar failures: failed tries in a row
    :ivar partly: the last try failed, and made everything but what was refused: the rest agrees with the document
    :ivar retry_at: time of the next try, by the monotonic clock; None: no retry is scheduled
    :ivar hindrances: what the last job found to stop the router's traffic without being ours
    :ivar vrrp: ``master`` or ``backup``, of an HA router by its last job; empty: this host takes no part in its VRRP
    :ivar logged: warnings and omissions of the last job, which are in the log already
    """

    id: str
    name: str = ""
    document: Document | None = None
    bad: str = ""
    job_state: RouterState = RouterState.PENDING
    reason: str = ""
    deleted: bool = False
    held_back: bool = False
    failures: int = 0
    partly: bool = False
    vrrp: str = ""
    retry_at: float | None = None
    logged: frozenset[str] = frozenset()
    hindrances: tuple[str, ...] = ()
    last_change: float | None = None
    last_counts: Mapping[str, int] = field(default_factory=dict)
    last_seconds: float | None = None

    @property
    def state(self) -> RouterState:
        """The state that the status shows."""
        return RouterState.BAD if self.bad else self.job_state

    @property
    def has_work(self) -> bool:
        """True if a job can be made of the record: update by its document, or removal."""
        return self.document is not None or self.deleted

    @property
    def auditable(self) -> bool:
        """True if the kernel is expected to agree with the document, so that a difference is drift.

        A router that is degraded because objects of its document cannot be built is auditable too.
        """
        agrees = self.job_state is RouterState.IN_SYNC or (self.job_state is RouterState.DEGRADED and not self.failures)
        return self.document is not None and agrees and not self.deleted

    @property
    def repairable(self) -> bool:
        """True if drift of the router is repaired when it is heard, also while a refused object waits for its retry."""
        return self.auditable or (self.partly and self.document is not None and not self.deleted)

    def to_json(self, now: float) -> dict[str, object]:
        """Return the record for the admin socket; ``now`` is the monotonic clock, ``next_retry`` counts from it."""
        reasons = (self.bad, self.reason, HELD_BACK if self.held_back else "")
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "reason": "; ".join(text for text in reasons if text),
            "vrrp": self.vrrp,
            "failures": self.failures,
            "next_retry": None if self.retry_at is None else round(max(self.retry_at - now, 0.0), 1),
            "last_change": iso_time(self.last_change),
            "last_counts": dict(self.last_counts),
            "last_seconds": self.last_seconds,
        }


class RouterRecords:
    """All records by router id, and the only place that changes them."""

    def __init__(self) -> None:
        self._records: dict[str, RouterRecord] = {}
        self._hindrances: Counter[str] = Counter()  # text → number of routers
        self._states: Counter[RouterState] = Counter()

    def __iter__(self) -> Iterator[RouterRecord]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, router_id: str) -> bool:
        return router_id in self._records

    def get(self, router_id: str) -> RouterRecord | None:
        """Return the record of a router, None if there is none."""
        return self._records.get(router_id)

    @property
    def ids(self) -> Set[str]:
        """Ids of all routers."""
        return self._records.keys()

    @property
    def states(self) -> dict[RouterState, int]:
        """Number of routers in each state."""
        return dict(self._states)

    @property
    def hindrance(self) -> str:
        """What stops traffic of routers without being ours, as one text; empty if there is nothing."""
        found = list(self._hindrances)
        more = f" (and {len(found) - 1} more, see the log)" if len(found) > 1 else ""
        return f"{HINDERED}{found[0]}{more}" if found else ""

    def document_changed(self, document: Document) -> tuple[RouterRecord, RouterRecord]:
        """Store a new good document; returns the record before and after."""
        before = self._get_or_make(document.router.id)
        after = replace(_pending(before), document=document, name=document.router.name, deleted=False)
        return before, self._store(after)

    def document_deleted(self, router_id: str) -> RouterRecord:
        """Note an explicit deletion; returns the record."""
        return self._store(replace(_pending(self._get_or_make(router_id)), deleted=True))

    def document_bad(self, router_id: str, error: str) -> None:
        """Note that the newest document cannot be used; the last good one stays in force."""
        self._store(replace(self._get_or_make(router_id), bad=error))

    def hindrances_found(self, router_id: str, found: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Store what a job found to stop the router's traffic; returns what no router had before, and none has now.

        A bridge concerns all routers on it.
        """
        record = self._records.get(router_id)
        if record is None or record.hindrances == found:
            return [], []
        had = record.hindrances
        begun = [text for text in found if text not in self._hindrances]
        self._store(replace(record, hindrances=found))
        return begun, [text for text in had if text not in self._hindrances]

    def job_done(self, router_id: str, result: Result) -> None:
        """Store changes, warnings and duration of a job; :meth:`job_ended` or :meth:`job_failed` stores the state."""
        record = self._records.get(router_id)
        if record is None:
            return
        record = replace(
            record,
            logged=compact((*result.plan.warnings, *result.plan.omitted)),
            vrrp="" if result.is_master is None else "master" if result.is_master else "backup",
            last_seconds=round(result.seconds, 6),
        )
        if result.plan:
            record = replace(record, last_change=time.time(), last_counts=_shared(tuple(result.plan.counts().items())))
        self._store(record)

    def job_ended(self, router_id: str, result: JobResult) -> None:
        """Store the state after a job that needs no retry."""
        record = self._get_or_make(router_id)
        logged = record.logged | {result.reason} if result.state is RouterState.NOT_SUPPORTED else record.logged
        self._store(replace(_done(record, result), failures=0, logged=logged))

    def job_failed(self, router_id: str, result: JobResult) -> RouterRecord:
        """Store the state after a job that is to be repeated, and count the failure; returns the record."""
        record = self._get_or_make(router_id)
        partly = result.reconciled is not None
        return self._store(replace(_done(record, result), failures=record.failures + 1, partly=partly))

    def set_retry(self, router_id: str, when: float | None) -> None:
        """Note when the next try is due, by the monotonic clock; None: no retry is scheduled."""
        record = self._records.get(router_id)
        if record is not None and record.retry_at != when:
            self._store(replace(record, retry_at=when))

    def hold_back(self, router_ids: Set[str]) -> None:
        """Mark exactly these routers as held back by the guard."""
        for record in self:
            if record.held_back != (record.id in router_ids):
                self._store(replace(record, held_back=not record.held_back))

    def drop(self, router_id: str) -> None:
        """Forget a router that is gone."""
        record = self._records.pop(router_id, None)
        if record is not None:
            self._count(record, None)

    def _get_or_make(self, router_id: str) -> RouterRecord:
        return self._records.get(router_id) or RouterRecord(router_id)

    def _store(self, record: RouterRecord) -> RouterRecord:
        self._count(self._records.get(record.id), record)
        self._records[record.id] = record
        return record

    def _count(self, before: RouterRecord | None, now: RouterRecord | None) -> None:
        """Keep the numbers of :attr:`states` and hindrances, which are asked for every few seconds."""
        _recount(self._states, (before.state,) if before else (), (now.state,) if now else ())
        _recount(self._hindrances, before.hindrances if before else (), now.hindrances if now else ())


@lru_cache(maxsize=256)
def _shared(counts: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    """Return the counts: one object for all routers that are alike."""
    return dict(counts)


def _recount(numbers: Counter[T], before: Sequence[T], now: Sequence[T]) -> None:
    """Let things that one record had before, and has now, count once each; what nobody has any more goes."""
    if before == now:
        return
    numbers.update(now)
    numbers.subtract(before)
    for one in before:
        if not numbers[one]:
            del numbers[one]


def _pending(record: RouterRecord) -> RouterRecord:
    """Return the record without results of earlier tries, for the first try of a new document or of a removal."""
    done = _done(record, JobResult(RouterState.PENDING))
    return replace(done, bad="", failures=0, held_back=False)


def _done(record: RouterRecord, result: JobResult) -> RouterRecord:
    """Return the record with the state that a result says, and without a retry."""
    return replace(record, job_state=result.state, reason=result.reason, partly=False, retry_at=None)


def iso_time(seconds: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
