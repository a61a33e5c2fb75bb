"""The daemon's state as JSON-ready values.  Reads, never blocks; belongs to the hub's thread."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass

from dvr_agent import __version__
from dvr_agent.daemon.counters import Counters
from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.resync import Passes
from dvr_agent.daemon.routers import State, iso_time
from dvr_agent.daemon.source_reader import Feed
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.services.bundle import Services


@dataclass(slots=True)
class Status:
    """Looks at all parts of the daemon.

    :ivar obstacle: what keeps the daemon from its first look at the kernel, empty if nothing does
    """

    host: str
    mode: str
    started: float
    dispatcher: Dispatcher
    feed: Feed
    passes: Passes
    counters: Counters
    writes: WriteCounters
    services: Services
    obstacle: str = ""

    def to_json(self) -> dict[str, object]:
        """Everything.  Times are ISO 8601 in UTC or null, ``next_retry`` seconds from now."""
        now = time.monotonic()
        routers = sorted(self.dispatcher.routers, key=lambda record: record.id)
        return {
            "version": __version__,
            "host": self.host,
            "mode": self.mode,
            "pid": os.getpid(),
            "started": iso_time(self.started),
            "state": self.state,
            "progress": self.passes.progress,
            "last_sync": iso_time(self.feed.last_sync),
            "last_audit": iso_time(self.passes.last_audit),
            "next_audit": iso_time(self.passes.next_audit),
            "queue_depth": len(self.dispatcher.queue) + len(self.dispatcher.queue.busy),
            "working_on": self.dispatcher.working_on,
            "guard": self.passes.guard,
            "troubles": self.troubles,
            "source": self.feed.status(),
            "services": self.services.status(),
            "counters": {**self.counters.to_json(), "writes": dataclasses.asdict(self.writes)},
            "states": {state.value: number for state, number in self.dispatcher.routers.states.items()},
            "routers": [record.to_json(now) for record in routers],
        }

    def router(self, router_id: str) -> dict[str, object] | None:
        """One router, None if there is no such."""
        record = self.dispatcher.routers.get(router_id)
        return None if record is None else record.to_json(time.monotonic())

    @property
    def troubles(self) -> list[str]:
        """What is wrong with the host as a whole: services, and files that cannot be kept."""
        not_kept = f"state files cannot be kept: {self.dispatcher.not_kept}" if self.dispatcher.not_kept else ""
        return [text for text in (*self.services.troubles, not_kept, self.feed.not_kept) if text]

    @property
    def state(self) -> str:
        """The daemon in one word: ``starting``, ``degraded``, ``pending`` or ``in sync``."""
        if not self.passes.first_sync_done.is_set():
            return "starting"
        states = self.dispatcher.routers.states
        feed = self.feed
        trouble = feed.error or feed.bad or self.passes.guard or not feed.complete or self.troubles
        if trouble or {State.DEGRADED, State.BAD} & set(states):
            return State.DEGRADED.value
        if State.PENDING in states:
            return State.PENDING.value
        return State.IN_SYNC.value

    @property
    def line(self) -> str:
        """For ``systemctl status``."""
        if self.obstacle or self.feed.error:
            return f"{self.state}: {self.obstacle or self.feed.error}"
        states = self.dispatcher.routers.states
        text = ", ".join(f"{number} {state.value}" for state, number in sorted(states.items())) or "no routers"
        if self.feed.known is None:
            text = "router documents are not listed yet"
        parts = (self.state, self.passes.progress or text, self.passes.guard, *self.troubles)
        return "; ".join(part for part in parts if part)
