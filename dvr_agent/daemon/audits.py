"""Decides when routers are compared with the kernel, for drift of which no event told.

=============  ====================  =================================================================================
an audit       reads everything      within ``audit_interval`` seconds all routers, in portions; later where that would
                                     take more than :data:`SHARE` of a processor
a table check  reads packet filter   within ``audit_interval`` seconds all routers, in portions; later likewise.  The
               tables only           kernel tells no events of legacy tables.  At once for routers that a start has not
                                     read
=============  ====================  =================================================================================

Where the events of the kernel cannot be heard, audits are all there is: they are not put off, and check the tables too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.router_records import RouterRecord
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.reconcile.api import Reconciler

PORTION, MAX_PORTIONS = 64, 8
"""An audit's routers are taken in portions of some 64.  Each reads whole fip namespaces, so there are few of them."""
SHARE = 0.0015
"""Share of one processor that audits may take, and table checks."""
CHEAP = 0.05
"""Processor seconds: a portion that takes less is not put off, however short the interval."""
LONGEST = 20
"""An audit is put off to so many times the interval at most."""


class Audits:
    """Begins audits and table checks.  All methods belong to the hub's thread.

    :param interval: seconds
    :param hears_events: whether the kernel's events tell of most drift
    :param unread: returns the number of routers that the first resync has not read
    """

    def __init__(
        self,
        interval: float,
        hears_events: bool,
        resync: Resync,
        schedule: Schedule,
        worker: WorkerThread,
        reconciler: Reconciler,
        unread: Callable[[], int] = lambda: 0,
    ) -> None:
        self._unread = unread
        self._interval, self._hears_events = interval, hears_events
        self._resync, self._schedule = resync, schedule
        self._worker, self._reconciler = worker, reconciler

    def audit_periodically(self) -> None:
        """Audit every router again and again, from one interval after the first resync on; never returns."""
        self._resync.first_done.wait()
        while True:
            portions = self._portions()
            for number, ids in enumerate(portions, start=1):
                cost = self._resync.audit_cost if self._hears_events else 0.0
                pause = pause_after(self._interval, len(portions), cost)
                self._resync.next_audit = time.time() + pause
                eventlet_shim.sleep(pause)
                self._resync.audit(ids, is_last=number == len(portions))

    def check_tables_periodically(self) -> None:
        """Check the tables of every router again and again; returns only where audits do it."""
        if not self._hears_events:
            return
        self._resync.first_done.wait()
        cost: float | None = None
        waits = not self._unread()  # no event has told of their legacy tables
        while True:
            portions = self._portions()
            for ids in portions:
                eventlet_shim.sleep(pause_after(self._interval, len(portions), cost) if waits else 0.0)
                cost = self._check_tables(ids)
            waits = True

    def _check_tables(self, ids: set[str]) -> float:
        """Queue the routers of these whose tables have changed; returns the processor seconds that it took."""
        wanted = sorted(ids & self._resync.auditable())
        check = partial(_timed_check, self._reconciler, wanted)
        found = self._worker.try_call(check, "packet filter tables cannot be checked") if wanted else None
        if found is None:
            return 0.0
        changed, seconds = found
        for router_id in changed:
            self._schedule.drift_found(router_id)
        return seconds

    def _portions(self) -> list[set[str]]:
        """Split the auditable routers: those of one external network together, since its fip namespace is read once."""
        ids = self._resync.auditable()
        records = [record for record in self._schedule.records if record.id in ids]
        ordered = [record.id for record in sorted(records, key=_network_and_id)]
        count = min(max(-(-len(ordered) // PORTION), 1), MAX_PORTIONS)
        size = -(-len(ordered) // count)
        return [set(ordered[size * number : size * (number + 1)]) for number in range(count)]


def pause_after(interval: float, portions: int, cost: float | None) -> float:
    """Return the seconds from one portion to the next.

    :param cost: processor seconds of the last portion; None: there was none, and a start has just compared everything
    """
    if cost is None:
        return interval
    shortest = interval / portions
    return shortest if cost < CHEAP else min(max(shortest, cost / SHARE), shortest * LONGEST)


def _timed_check(reconciler: Reconciler, router_ids: list[str]) -> tuple[list[str], float]:
    """Check tables in the worker thread; returns the routers with changes, and the processor seconds it took."""
    started = time.thread_time()
    return reconciler.find_changed_tables(router_ids), time.thread_time() - started


def _network_and_id(record: RouterRecord) -> tuple[str, str]:
    """Return the key by which an audit orders routers: external network and id."""
    router = record.document.router if record.document is not None else None
    gateway = router.gateway if router is not None else None
    return (gateway.network_id if gateway is not None else "", record.id)
