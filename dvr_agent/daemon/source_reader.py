"""Drives the source: waits for its notifications, rescans it, and turns its events into work.

Documents are read and parsed in the worker thread; what they say is taken over in the hub's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from dvr_agent.daemon import backoff, eventlet_shim
from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import Worker
from dvr_agent.errors import SourceError
from dvr_agent.sources.api import Bad, Changed, Deleted, Event, Failed, Source, Synced

LOG = logging.getLogger(__name__)

BAD_DOCUMENT = "there is a bad document of which nobody knows whose it is"
FAILED_PAUSE = 0.5
"""Seconds between questions to a source that has failed, whatever its descriptor says."""


class Feed:
    """What the source knows, as far as it has told.

    :ivar known: ids of all routers that have a document, good or bad; None before the first complete listing
    :ivar complete: False while ``known`` may lack a router
    :ivar incomplete_because: why it may
    :ivar suspect: why routers that are not in ``known`` must not be removed without confirmation, empty if they may
    :ivar error: why documents cannot be listed now, empty if they can
    :ivar on_synced: called after each complete listing was taken over
    """

    def __init__(self, source: Source, worker: Worker, dispatcher: Dispatcher) -> None:
        self._source, self._worker, self._dispatcher = source, worker, dispatcher
        self._rescan_interval = source.rescan_interval
        self._turn = eventlet_shim.Semaphore(1)
        self._bad: dict[str, str] = {}
        self.known: set[str] | None = None
        self.complete = False
        self.incomplete_because = BAD_DOCUMENT
        self.suspect = ""
        self.error = ""
        self.last_sync: float | None = None
        self.on_synced: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Rescan for ever; while that fails, with growing intervals from one second on."""
        failures = 0
        while True:
            if self.rescan():
                failures = 0
                eventlet_shim.sleep(self._rescan_interval)
            else:
                failures += 1
                eventlet_shim.sleep(backoff.delay(failures, 1.0, self._rescan_interval))

    def watch(self) -> None:
        """Follow the source's notifications for ever."""
        fd = self._source.fileno()
        if fd is None:
            return
        while True:
            eventlet_shim.wait_readable(fd)
            self._ask(self._source.poll, in_worker=self._source.poll_blocks)
            if self.error:
                eventlet_shim.sleep(FAILED_PAUSE)

    @property
    def bad(self) -> bool:
        """True while there are documents that cannot be used."""
        return bool(self._bad)

    def rescan(self) -> bool:
        """List everything now, or have the source begin with it; False if that failed."""
        self._ask(self._source.rescan)
        return not self.error

    def status(self) -> dict[str, Any]:
        """For the admin socket."""
        state = "failed" if self.error else "starting" if self.known is None else "ok"
        bad = [{"name": name, "error": text} for name, text in sorted(self._bad.items())]
        why = "" if self.complete or self.known is None else self.incomplete_because
        return {**self._source.status(), "state": state, "error": self.error, "incomplete": why, "bad": bad}

    @property
    def not_kept(self) -> str:
        """What the source cannot keep for the next start, and why; empty if all is well."""
        return str(self._source.status().get("not_kept") or "")

    def _ask(self, question: Callable[[], list[Event]], in_worker: bool = True) -> None:
        """Ask the source and take over the answer; one question at a time, so that order is kept."""
        asked = time.monotonic()
        with self._turn:
            try:
                events = self._worker.call(question) if in_worker else question()
            except Exception as exc:
                LOG.exception("the source failed by an error that should not happen")
                events = [Failed(SourceError(f"{type(exc).__name__}: {exc}"))]
            for event in events:
                self._take(event, asked)
            reported = self._source.status().get("bad")
            if isinstance(reported, dict):
                self._bad = {str(name): str(text) for name, text in reported.items()}

    def _take(self, event: Event, asked: float) -> None:
        if isinstance(event, Changed):
            if self.known is not None:
                self.known.add(event.document.router.id)
            first = self.last_sync is None
            self._dispatcher.changed(event.document, asked, Priority.SYNC if first else Priority.EVENT)
        elif isinstance(event, Deleted):
            if self.known is not None:
                self.known.discard(event.router_id)
            self._dispatcher.deleted(event.router_id, event.name, asked)
        elif isinstance(event, Bad):
            self._take_bad(event)
        elif isinstance(event, Failed):
            if str(event.error) != self.error:
                LOG.error("router documents cannot be listed, nothing is changed: %s", event.error)
            self.error = str(event.error)
        else:
            self._take_sync(event)

    def _take_bad(self, event: Bad) -> None:
        if event.second:
            LOG.error("bad document, its router has another one, which stays in force: %s", event.error)
            return
        if event.router_id is None:
            self.complete, self.incomplete_because = False, BAD_DOCUMENT
            LOG.error("bad document, and nobody knows whose: %s", event.error)
            return
        if self.known is not None:
            self.known.add(event.router_id)
        LOG.error("router %s: bad document, it keeps what it has: %s", event.router_id, event.error)
        self._dispatcher.bad(event.router_id, str(event.error))

    def _take_sync(self, event: Synced) -> None:
        if self.error and not event.why:
            LOG.info("router documents can be listed again")
            self.error = ""
        self.known, self.complete = set(event.known), event.complete
        self.incomplete_because, self.suspect = event.why or BAD_DOCUMENT, event.suspect
        self.last_sync = time.time()
        self.on_synced()
