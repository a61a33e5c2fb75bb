"""The source that asks a neutron-server: what the daemon sees of it.

Nothing here waits for the network.  What is made of what::

    bus ── notifications ──► requests ──► fetcher (thread) ──► store ──► events ──► poll
                                             │   documents, neighbours, supplements, kept
    daemon ── settled ──► reporter (thread) ─┴─► the server's L3 plugin
"""

from __future__ import annotations

import random
import time
from threading import Timer
from typing import Any

from oslo_log import log as logging

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.sources.api import Document, Event, Settled
from dvr_agent.sources.neutron.api import (
    AgentUpdated,
    Bus,
    Notification,
    Reconnected,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
)
from dvr_agent.sources.neutron.crossing.event_queue import EventQueue
from dvr_agent.sources.neutron.crossing.fetch_inbox import Reason, Requests
from dvr_agent.sources.neutron.crossing.gateway_port_refs import NetworkUses
from dvr_agent.sources.neutron.crossing.router_store import Store
from dvr_agent.sources.neutron.crossing.server_reachability import Contact
from dvr_agent.sources.neutron.documents import canonical_id
from dvr_agent.sources.neutron.fetch.fetcher import Fetcher
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.report.reporter import Reporter
from dvr_agent.sources.neutron.store.document_cache import KeptDocuments

LOG = logging.getLogger(__name__)

BATCH = 128
"""Events of one poll at most; they are parsed already."""


class NeutronSource:
    """See :class:`dvr_agent.sources.api.Source`."""

    def __init__(self, bus: Bus, settings: HostSettings, options: NeutronOptions) -> None:
        self._bus, self._options = bus, options
        self._events = EventQueue()
        self._store = Store(self._events.put, options.max_document_size)
        self._requests = Requests()
        self._contact = Contact()
        self._kept = KeptDocuments(options.documents, options.max_document_size)
        uses = NetworkUses()
        self._reporter = Reporter(bus.plugin, settings, options, self._store, self._requests, uses, self._contact)
        self._fetcher = Fetcher(
            bus.plugin, settings, options, self._store, self._requests, self._reporter, uses, self._kept, self._contact
        )
        self._fallback = Timer(options.fallback_after, self._fall_back)
        self._fallback.name, self._fallback.daemon = "neutron-fallback", True
        self._started = self._closed = False

    @property
    def rescan_interval(self) -> float:
        return self._options.resync_interval * random.uniform(0.9, 1.1)

    def fileno(self) -> int:
        return self._events.fileno()

    def poll(self) -> list[Event]:
        return self._events.take(BATCH)

    def rescan(self) -> list[Event]:
        if self._closed:
            return []
        if self._started:
            self._requests.sync()
            return []
        self._started = True
        self._bus.listen(self._notify)
        for thread in (self._reporter.thread, self._fetcher.thread, self._fallback):
            thread.start()
        return []

    def document(self, router_id: str) -> Document | None:
        return self._store.document(router_id)

    def status(self) -> dict[str, Any]:
        server = {
            "away": self._contact.away,
            **self._reporter.status(),
            **self._fetcher.status(),
            "pending": self._requests.pending(),
        }
        kept = {"not_kept": self._kept.trouble}
        return {"source": "neutron", **self._store.status(), **kept, "server": server, "bus": self._bus.status()}

    def settled(self, report: Settled) -> None:
        self._reporter.settled(report)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + self._options.timing.close
        self._fallback.cancel()
        self._requests.close()
        self._reporter.close()
        self._bus.close()
        if self._started:
            for thread in (self._reporter.thread, self._fetcher.thread, self._fallback):
                thread.join(max(0.0, deadline - time.monotonic()))
        self._kept.close()
        self._events.close()

    def _notify(self, what: Notification) -> None:
        """In a thread of the bus."""
        if isinstance(what, RoutersUpdated):
            ids = [canonical_id(router_id) for router_id in what.router_ids]
            self._requests.routers([router_id for router_id in ids if router_id], Reason.UPDATED)
        elif isinstance(what, RouterDeleted):
            self._deleted(what.router_id)
        elif isinstance(what, RouterRemoved):
            router_id = canonical_id(what.router_id)
            if router_id:
                self._requests.routers([router_id], Reason.REMOVED)
        elif isinstance(what, AgentUpdated):
            LOG.info("an operator switched this agent %s: full sync", "on" if what.admin_state_up else "off")
            self._requests.sync()
        elif isinstance(what, Reconnected):
            LOG.info("the message bus is back: full sync")
            self._requests.sync(self._options.jitter, back=True)
        else:
            self._requests.note(what)

    def _deleted(self, text: str) -> None:
        router_id = canonical_id(text)
        if router_id is None:
            return
        self._requests.forget(router_id)
        self._store.delete(router_id)
        self._requests.note(RouterDeleted(router_id))  # files, and ports of routers, are the fetch thread's

    def _fall_back(self) -> None:
        """The server has not answered for some time: use the documents from last time, in a thread of its own."""
        since = self._kept.since()
        if self._fetcher.synced or since is None:
            return
        number = 0
        for document in self._kept.load():
            if self._closed:
                return
            number += self._store.offer_kept(document)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        if self._store.confirm_kept(f"the server has not answered yet; documents are those kept from {when}"):
            LOG.warning("no answer from neutron-server yet: using %d documents kept from %s", number, when)
