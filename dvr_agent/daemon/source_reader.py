"""Reads events of the source and turns them into jobs and listings.

Documents are read and parsed in the worker thread, or in threads of the source; events are processed in the hub's
thread.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from dvr_agent import backoff
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.errors import SourceError
from dvr_agent.repeats import Repeats
from dvr_agent.sources.api import Bad, Changed, Deleted, Event, Failed, Source, Synced

LOG = logging.getLogger(__name__)

FAILED_PAUSE = 0.5
"""Seconds between two polls of a source that has failed, even if its descriptor is readable."""
EVENTS_AT_ONCE = 200
"""Number of events after which other green threads have their turn: a directory may have 100,000 files."""


class SourceReader:
    """Polls and rescans the source; one call at a time, so that the order of events is kept.

    :param listing: changed by this class only
    """

    def __init__(
        self, source: Source, worker: WorkerThread, schedule: Schedule, listing: RouterListing, resync: Resync
    ) -> None:
        self._source, self._worker, self._schedule = source, worker, schedule
        self._listing, self._resync = listing, resync
        self._lock = eventlet_shim.Semaphore(1)
        self._bad: dict[str, str] = {}
        self._repeats = Repeats()

    def rescan_periodically(self) -> None:
        """Rescan at the source's interval, after a failure sooner, from one second on.  Never returns."""
        failures = 0
        while True:
            if self.rescan(periodic=True):
                failures = 0
                eventlet_shim.sleep(self._source.rescan_interval)
            else:
                failures += 1
                eventlet_shim.sleep(backoff.delay(failures, 1.0, self._source.rescan_interval))

    def watch(self) -> None:
        """Poll whenever the source's descriptor is readable; never returns if there is a descriptor."""
        fd = self._source.fileno()
        if fd is None:
            return
        while True:
            eventlet_shim.wait_readable(fd)
            self.poll()
            if self._listing.error:
                eventlet_shim.sleep(FAILED_PAUSE)

    def poll(self) -> None:
        """Poll the source and process its events; a source that reads files is polled in the worker thread."""
        self._read(self._poll_in_worker if self._source.poll_blocks else self._source.poll)

    def rescan(self, periodic: bool = False) -> bool:
        """List all documents, or have the source begin to list them; False if that failed."""
        self._read(lambda: self._worker.call(lambda: self._source.rescan(periodic)))
        return not self._listing.error

    def fetch_again(self, router_id: str) -> bool:
        """Have the newest document of one router fetched; False if documents cannot be listed.

        A source that cannot do that for one router lists all documents.
        """
        return self._source.ask_again(router_id) or self.rescan()

    @property
    def has_bad_documents(self) -> bool:
        """True while there are documents that cannot be used."""
        return bool(self._bad)

    def floating_ips(self, router_id: str) -> Mapping[str, Mapping[str, str | None]]:
        """Return the statuses of a router's floating IPs: see :meth:`dvr_agent.sources.api.Source.floating_ips`."""
        return self._source.floating_ips(router_id)

    @property
    def bad_number(self) -> int:
        """Number of documents that cannot be used."""
        return len(self._bad)

    def status(self) -> dict[str, Any]:
        """Return the state of the source, for the admin socket."""
        listing = self._listing
        state = "failed" if listing.error else "ok" if listing.is_known else "starting"
        bad = ({"name": name, "error": text} for name, text in sorted(self._bad.items()))
        incomplete = listing.incomplete if listing.is_known else ""
        return {**self._source.status(), "state": state, "error": listing.error, "incomplete": incomplete, "bad": bad}

    @property
    def not_kept(self) -> str:
        """Documents that the source cannot store for the next start, and why; empty if it can."""
        return str(self._source.status().get("not_kept") or "")

    def _poll_in_worker(self) -> list[Event]:
        return self._worker.call(self._source.poll)

    def _read(self, read: Callable[[], list[Event]]) -> None:
        started = time.monotonic()
        with self._lock:
            try:
                events = read()
            except Exception as exc:
                if self._repeats.is_due(type(exc).__name__):
                    LOG.exception("the source failed by an unexpected exception: this is a bug")
                events = [Failed(SourceError(f"{type(exc).__name__}: {exc}"))]
            # What several documents claim is decided when all are known: no job before the first listing is complete.
            with contextlib.nullcontext() if self._listing.is_known else self._schedule.paused():
                for number, event in enumerate(events, 1):
                    self._take(event, started)
                    if number % EVENTS_AT_ONCE == 0:
                        eventlet_shim.sleep(0)
            self._bad = dict(self._source.bad_documents)

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, Changed):
            self._listing.add(event.document.router.id)
            first = self._listing.last_sync is None
            self._schedule.document_changed(event.document, now, Priority.RESYNC if first else Priority.EVENT)
        elif isinstance(event, Deleted):
            self._listing.discard(event.router_id)
            self._schedule.document_deleted(event.router_id, event.name, now)
        elif isinstance(event, Bad):
            self._take_bad(event)
        elif isinstance(event, Failed):
            if str(event.error) != self._listing.error:
                LOG.error("router documents cannot be listed, routers unchanged: %s", event.error)
            self._listing.failed(str(event.error))
        else:
            self._take_listing(event)

    def _take_bad(self, event: Bad) -> None:
        if event.second:
            LOG.error("bad document, its router has another one, which stays in force: %s", event.error)
            return
        if event.router_id is None:
            self._listing.found_unreadable_id()
            LOG.error("bad document without a readable router id: %s", event.error)
            return
        self._listing.add(event.router_id)
        LOG.error("router %s: bad document, router unchanged: %s", event.router_id, event.error)
        self._schedule.document_bad(event.router_id, str(event.error))

    def _take_listing(self, event: Synced) -> None:
        if self._listing.error and not event.why:
            LOG.info("recovered: router documents are listed again")
        self._listing.synced(event)
        self._resync.listed()
