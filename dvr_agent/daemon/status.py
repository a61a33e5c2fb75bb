"""Makes the daemon's status as JSON-ready values, for the admin socket and systemd.

It reads the parts of the daemon and never blocks; belongs to the hub's thread.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass

from dvr_agent import __version__
from dvr_agent.daemon.counters import DaemonCounters
from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.fights import Fights
from dvr_agent.daemon.host_hindrances import HostHindranceWatch
from dvr_agent.daemon.job_result import RouterState
from dvr_agent.daemon.job_texts import HINDERED
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.parts import Parts
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.router_records import RouterRecord, iso_time
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.source_reader import SourceReader
from dvr_agent.daemon.stale_sweep import StaleSweep
from dvr_agent.daemon.start import Start
from dvr_agent.daemon.state_files import StateFiles
from dvr_agent.daemon.table_lock import TableLock


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """Reads all parts of the daemon.

    :ivar started: start of the daemon, seconds since the epoch
    """

    host: str
    mode: str
    started: float
    parts: Parts
    start: Start
    schedule: Schedule
    listing: RouterListing
    source_reader: SourceReader
    stale_sweep: StaleSweep
    resync: Resync
    dispatcher: Dispatcher
    state_files: StateFiles
    counters: DaemonCounters
    fights: Fights
    table_lock: TableLock
    host_hindrances: HostHindranceWatch

    def to_json(self) -> dict[str, object]:
        """Return the whole status.  Times are ISO 8601 in UTC or null, ``next_retry`` seconds from now.

        ``routers`` and ``source.bad`` are iterators over what there is now: there may be many, see ``json_portions``.
        """
        now = time.monotonic()
        routers = sorted(self.schedule.records, key=lambda record: record.id)
        return {
            "version": __version__,
            "host": self.host,
            "mode": self.mode,
            "pid": os.getpid(),
            "started": iso_time(self.started),
            "state": self.state,
            "progress": self.resync.progress,
            "last_sync": iso_time(self.listing.last_sync),
            "last_audit": iso_time(self.resync.last_audit),
            "next_audit": iso_time(self.resync.next_audit),
            "queue_depth": self.queue_depth,
            "working_on": self.dispatcher.working_on,
            "guard": self.stale_sweep.guard,
            "troubles": [*self.troubles, *self._hindrances],
            "fights": self.fights.to_json(now),
            "source": self.source_reader.status(),
            "services": self.parts.services.status(),
            "counters": {
                **self.counters.to_json(),
                "events": self._events,
                "writes": dataclasses.asdict(self.parts.writes),
            },
            "states": {state.value: number for state, number in self.schedule.records.states.items()},
            "routers": (self._router(record, now) for record in routers),
        }

    def router(self, router_id: str) -> dict[str, object] | None:
        """Return the status of one router, None if there is no such router."""
        record = self.schedule.records.get(router_id)
        if record is None:
            return None
        statuses = {fip_id: dict(state) for fip_id, state in self.source_reader.floating_ips(router_id).items()}
        return {**self._router(record, time.monotonic()), "floating_ips": statuses}

    def _router(self, record: RouterRecord, now: float) -> dict[str, object]:
        queued = self.schedule.is_queued(record.id) or record.id in self.table_lock
        return {**record.to_json(now), "queued": queued}

    @property
    def troubles(self) -> list[str]:
        """Troubles of the host as a whole: services that fail, what cannot be written or removed, a held lock."""
        return [text for texts in self.trouble_by_part.values() for text in texts if text]

    @property
    def trouble_by_part(self) -> dict[str, list[str]]:
        """Troubles by the part of the host that has them; the parts are always the same."""
        state_files = f"state files cannot be kept: {self.state_files.error}" if self.state_files.error else ""
        found = {
            "services": self.parts.services.troubles,
            "state_files": [state_files],
            "source": [self.source_reader.not_kept],
            "table_lock": [self.table_lock.trouble],
            "stale_sweep": [self.stale_sweep.trouble],
        }
        return {part: [text for text in texts if text] for part, texts in found.items()}

    @property
    def queue_depth(self) -> int:
        """Number of jobs that wait or are worked on."""
        return self.schedule.depth + self.table_lock.waiting

    @property
    def oldest_seconds(self) -> float:
        """Age of the event that has waited longest for its job; 0: no job waits."""
        oldest = self.schedule.oldest
        return 0.0 if oldest is None else max(time.monotonic() - oldest, 0.0)

    @property
    def obstacle(self) -> str:
        """Why kernel or documents cannot be read now; empty if they can."""
        return self.start.obstacle or self.listing.error

    @property
    def ready(self) -> bool:
        """True if kernel and documents were compared once, and documents can be listed."""
        return self.resync.first_done.is_set() and not self.obstacle

    @property
    def state(self) -> str:
        """State of the daemon: ``starting``, ``degraded``, ``pending`` or ``in sync``."""
        if not self.resync.first_done.is_set():
            return "starting"
        states = self.schedule.records.states
        if self._host_degraded() or {RouterState.DEGRADED, RouterState.BAD} & set(states):
            return RouterState.DEGRADED.value
        if RouterState.PENDING in states:
            return RouterState.PENDING.value
        return RouterState.IN_SYNC.value

    @property
    def line(self) -> str:
        """One line for ``systemctl status``."""
        if self.obstacle:
            return f"{self.state}: {self.obstacle}"
        states = self.schedule.records.states
        text = ", ".join(f"{number} {state.value}" for state, number in sorted(states.items())) or "no routers"
        if not self.listing.is_known:
            text = "router documents are not listed yet"
        parts = (self.state, self.resync.progress or text, self.stale_sweep.guard, *self.troubles, *self._hindrances)
        return "; ".join(part for part in parts if part)

    @property
    def _events(self) -> int | None:
        """Number of the kernel's events that were read; None: they are not heard."""
        return None if self.parts.drift is None else self.parts.drift.events.heard

    @property
    def _hindrances(self) -> list[str]:
        """What others have set that may stop traffic: not a fault of ours, so the daemon is not degraded by it."""
        texts = [f"{HINDERED}{text}" for text in self.host_hindrances.found]
        text = self.schedule.records.hindrance
        return [*texts, text] if text else texts

    def _host_degraded(self) -> bool:
        listing = self.listing
        documents = listing.error or listing.incomplete or self.source_reader.has_bad_documents
        return bool(documents or self.stale_sweep.guard or self.troubles)
