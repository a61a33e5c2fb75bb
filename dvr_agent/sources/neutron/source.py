"""The source that asks a neutron-server, as the daemon uses it; makes the threads of the source.

Thread: the daemon's (``rescan`` in its worker, all other methods in its main thread).  No method waits for the
network, nor for another thread, but :meth:`NeutronSource.close`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from threading import Timer
from typing import Any

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.sources.api import Document, Event, JobReport
from dvr_agent.sources.neutron.api import Bus
from dvr_agent.sources.neutron.crossing.fetch_inbox import Reason
from dvr_agent.sources.neutron.crossing.notification_handler import NotificationHandler
from dvr_agent.sources.neutron.crossing.shared import make_shared
from dvr_agent.sources.neutron.fallback import use_cached_documents
from dvr_agent.sources.neutron.fetch.fetcher import Fetcher
from dvr_agent.sources.neutron.objects import pushed_types
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.report.reporter import Reporter
from dvr_agent.threads import make_thread

BATCH = 128
"""Events of one poll at most; they are parsed already."""


class NeutronSource:
    """Implements :class:`dvr_agent.sources.api.Source` by neutron-server."""

    is_authority = True
    poll_blocks = False
    """Events are parsed already, in threads of the source."""

    def __init__(self, bus: Bus, settings: HostSettings, options: NeutronOptions) -> None:
        self._bus, self._options = bus, options
        self._shared = shared = make_shared(bus.plugin, settings, options)
        self._handler = NotificationHandler(shared.fetch_inbox, shared.routers, options.jitter)
        self._fallback = Timer(options.fallback_after, use_cached_documents, (shared,))
        self._fallback.name, self._fallback.daemon = "neutron-fallback", True
        self._threads = (
            make_thread("neutron-report", Reporter(shared).run),
            make_thread("neutron-fetch", Fetcher(shared).run),
            self._fallback,
        )
        self._started = self._closed = False

    @property
    def rescan_interval(self) -> float:
        """Seconds until the next full sync; differs a little each time, so that hosts do not ask all at once."""
        return self._options.resync_interval * random.uniform(0.9, 1.1)

    def fileno(self) -> int:
        """Return the descriptor that is readable while there are events."""
        return self._shared.events.fileno()

    def poll(self) -> list[Event]:
        """Take events off the queue; documents in them are parsed already, so it never blocks."""
        return self._shared.events.take(BATCH)

    def rescan(self, periodic: bool = False) -> list[Event]:
        """Request a full sync; the first call connects to the bus and starts the threads."""
        if self._closed or (periodic and self._shared.fetch_inbox.is_syncing()):
            return []
        if self._started:
            self._shared.fetch_inbox.sync()
            return []
        self._started = True
        self._bus.listen(self._handler.handle, pushed_types(self._shared.host.extensions))
        for thread in self._threads:
            thread.start()
        return []

    def ask_again(self, router_id: str) -> bool:
        """Have the server asked for a router."""
        self._shared.fetch_inbox.ask([router_id], Reason.UPDATED)
        return True

    def document(self, router_id: str) -> Document | None:
        """Return the newest good document of a router."""
        stored = self._shared.routers.get(router_id)
        return stored.document if stored is not None else None

    @property
    def bad_documents(self) -> Mapping[str, str]:
        """Name → error of each document that cannot be used."""
        return self._shared.routers.bad_documents()

    def status(self) -> dict[str, Any]:
        """Return number and errors of documents, and the state of server and message bus.

        ``asking``: the server is asked, or will be, or its answers have not been taken yet.
        """
        shared = self._shared
        server = {**shared.server.values(), "pending": shared.fetch_inbox.pending()}
        not_kept = {"not_kept": shared.files.problem}
        more = {"server": server, "bus": self._bus.status(), "asking": shared.is_asking()}
        return {"source": "neutron", **shared.routers.status(), **not_kept, **more}

    def floating_ips(self, router_id: str) -> Mapping[str, Mapping[str, str | None]]:
        """Return the statuses of a router's floating IPs, as this host wants them and as the server has them."""
        return self._shared.fip_states.of(router_id)

    def job_ended(self, report: JobReport) -> None:
        """Pass the report of a job to the report thread; ask again for routers that claim the same as this one."""
        if report.rivals:
            self._shared.fetch_inbox.ask(report.rivals, Reason.UPDATED)
        self._shared.report_inbox.put(report)

    def close(self) -> None:
        """End threads and connections; what does not end in time is left to the end of the process."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + self._options.timing.close
        self._fallback.cancel()
        self._shared.fetch_inbox.close()
        self._shared.report_inbox.close()
        self._bus.close()
        if self._started:
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._shared.files.close()
        self._shared.events.close()
