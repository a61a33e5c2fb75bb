"""Hosts of the model: how dvr-agent and neutron-l3-agent ask a server for their routers after a power cut.

Of ours, chunk sizes, time-outs and delays are the source's own code.  What ``fetch.full_sync``, ``fetch.answers`` and
``report.reporter`` do is told again here without threads; ``tests/unit/test_scale_model.py`` compares the calls with
those of the real source.  The other agent is neutron/agent/l3/agent.py with neutron_lib/rpc.py, 29.0.0.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.scale.clock import Box, Clock
from bench.scale.costs import Costs, Site
from bench.scale.server import Server
from dvr_agent.backoff import delay
from dvr_agent.sources.neutron.api import Json, ServerAwayError, ServerError, ServerTimeoutError
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchInbox
from dvr_agent.sources.neutron.crossing.router_store import RouterStore
from dvr_agent.sources.neutron.fetch.chunked_fetch import CHUNK_MAX, CHUNK_MIN, ChunkedFetch
from dvr_agent.sources.neutron.fetch.errors import IncompleteSyncError
from dvr_agent.sources.neutron.fetch.full_sync import CHUNK_FAILURES
from dvr_agent.sources.neutron.options import Timing
from dvr_agent.sources.neutron.wire.rpc_client import Timeouts

FALLBACK_AFTER, FUZZY, PERIODIC = 20.0, 5.0, 40.0
"""Defaults of ``fallback_after``, ``periodic_fuzzy_delay``, ``periodic_interval``."""
REFERENCE_THREADS, REFERENCE_TRIES = 32, 5


@dataclass
class Cloud:
    """What all hosts share.

    :ivar described: when a router's document came to its host for the first time
    :ivar built: when a router was in its host's kernel
    :ivar active: when the server had the statuses of a router's floating IPs
    :ivar synced: when a host had all routers of a sync
    :ivar dropped: routers that an agent has given up
    """

    clock: Clock
    server: Server
    costs: Costs
    site: Site
    described: list[float] = field(default_factory=list)
    built: list[float] = field(default_factory=list)
    active: list[float] = field(default_factory=list)
    synced: list[float] = field(default_factory=list)
    dropped: int = 0

    def host_routers(self, number: int) -> list[str]:
        """Return the ids of a host's routers."""
        return [str(uuid.UUID(int=number << 64 | router)) for router in range(1, self.site.routers + 1)]


class Host:
    """dvr-agent on one host."""

    def __init__(self, cloud: Cloud, number: int) -> None:
        self._cloud, self._ids = cloud, cloud.host_routers(number)
        self._timeouts = Timeouts(cloud.site.timeout, cloud.site.max_timeout)
        self._fetch = ChunkedFetch(
            self._sync_routers, RouterStore(lambda _: None, 0), FetchInbox(), clock=lambda: cloud.clock.now
        )
        self._timing = Timing()
        self._greeted = self._listed = self._synced = False
        self._described: dict[str, None] = {}
        self._known: set[str] = set()
        self._queued: set[str] = set()
        self._built: set[str] = set()
        self._to_build: Box[str] = Box(cloud.clock)
        self._to_report: Box[str] = Box(cloud.clock)

    def start(self, when: float) -> None:
        """Begin at a time."""
        clock = self._cloud.clock
        for run in (self._ask, self._build, self._report):
            clock.start(run, when)
        if self._cloud.site.cached:
            clock.at(when + FALLBACK_AFTER, self._fall_back)

    def _call(self, method: str, work: float) -> None:
        timeout, began = self._timeouts.of(method), self._cloud.clock.now
        try:
            self._cloud.server.call(method, work, timeout)
        except ServerTimeoutError:
            self._timeouts.timed_out(method, timeout)
            raise
        self._timeouts.answered(method, self._cloud.clock.now - began)

    def _sync_routers(self, router_ids: Sequence[str]) -> list[Json]:
        self._call("sync_routers", self._cloud.costs.describing(len(router_ids)))
        return [{"id": router_id} for router_id in router_ids]

    def _ask(self) -> None:
        """Make full syncs until one is complete, as ``fetcher.Fetcher`` does."""
        failures = 0
        while not self._synced:
            try:
                self._full_sync()
            except ServerError:
                failures += 1
                self._cloud.clock.sleep(delay(failures, self._timing.sync_first, self._timing.sync_max))

    def _full_sync(self) -> None:
        other, costs = self._cloud.costs.other, self._cloud.costs
        if not self._greeted:
            self._call("get_service_plugin_list", other)
            self._call("get_host_ha_router_count", other)
            self._greeted = True
        if not self._listed:
            self._call("get_router_ids", costs.listing(len(self._ids)))
            self._listed = True
        failures = 0
        for answer in self._fetch.ask([router_id for router_id in self._ids if router_id not in self._known]):
            if answer.failed is not None:
                failures += 1
                if failures >= CHUNK_FAILURES:
                    break
                continue
            for router_id in answer.routers:
                for _ in range(self._cloud.site.subnets):
                    self._call("get_ports_by_subnet", costs.ports)
                self._known.add(router_id)
                self._document(router_id)
        if failures:
            raise IncompleteSyncError("not all chunks were answered")
        self._synced = True
        self._cloud.synced.append(self._cloud.clock.now)

    def _document(self, router_id: str) -> None:
        if router_id not in self._described:
            self._described[router_id] = None
            self._cloud.described.append(self._cloud.clock.now)
            self._queue([router_id])

    def _fall_back(self) -> None:
        if not self._synced:
            self._queue(router_id for router_id in self._ids if router_id not in self._queued)

    def _queue(self, router_ids: Iterable[str]) -> None:
        for router_id in router_ids:
            if router_id not in self._queued:
                self._queued.add(router_id)
                self._to_build.put(router_id)
            elif router_id in self._built:
                self._to_report.put(router_id)

    def _build(self) -> None:
        clock = self._cloud.clock
        while True:
            router_id = self._to_build.take()
            clock.sleep(self._cloud.costs.build)
            self._cloud.built.append(clock.now)
            self._built.add(router_id)
            if router_id in self._described:
                self._to_report.put(router_id)

    def _report(self) -> None:
        clock, failures = self._cloud.clock, 0
        while True:
            self._to_report.take()
            while True:
                try:
                    self._call("update_floatingip_statuses", self._cloud.costs.statuses)
                    break
                except ServerAwayError:
                    failures += 1
                    clock.sleep(delay(failures, self._timing.retry_first, self._timing.retry_max))
            failures = 0
            self._cloud.active.append(clock.now)


class ReferenceHost:
    """neutron-l3-agent on one host."""

    def __init__(self, cloud: Cloud, number: int) -> None:
        self._cloud, self._ids = cloud, cloud.host_routers(number)
        self._grown: dict[str, float] = {}
        self._chunk = CHUNK_MAX
        self._built: set[str] = set()
        self._queued: set[str] = set()
        self._described: set[str] = set()
        self._to_do: Box[str] = Box(cloud.clock)
        self._cores: Box[int] = Box(cloud.clock)

    def start(self, when: float) -> None:
        """Begin at a time."""
        for core in range(self._cloud.site.cores):
            self._cores.put(core)
        self._cloud.clock.start(self._ask, when)
        for _ in range(REFERENCE_THREADS):
            self._cloud.clock.start(self._process, when)

    def _call(self, method: str, work: float) -> None:
        """Call as ``BackingOffClient`` does: the time-out is doubled for good, and a pause follows it."""
        site = self._cloud.site
        timeout = self._grown.get(method, site.timeout)
        try:
            self._cloud.server.call(method, work, timeout)
        except ServerTimeoutError:
            pause = random.uniform(0, min(self._grown.get(method, site.timeout), site.timeout))
            self._grown[method] = max(self._grown.get(method, site.timeout), min(2 * timeout, site.max_timeout))
            self._cloud.clock.sleep(pause)
            raise

    def _sync_routers(self, router_ids: Sequence[str]) -> None:
        self._call("sync_routers", self._cloud.costs.describing(len(router_ids)))

    def _ask(self) -> None:
        clock, other = self._cloud.clock, self._cloud.costs.other
        while not self._worked(lambda: self._call("get_host_ha_router_count", other)):
            pass
        clock.sleep(random.uniform(0, FUZZY))
        began = clock.now
        while not self._worked(self._full_sync):
            clock.sleep(max(0.0, began + PERIODIC - clock.now))
            began = clock.now
        self._cloud.synced.append(clock.now)

    def _worked(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except ServerTimeoutError:
            return False
        return True

    def _full_sync(self) -> None:
        """Make one full sync; a time-out ends it, and the next one begins with the first router."""
        self._call("get_router_ids", self._cloud.costs.listing(len(self._ids)))
        try:
            for chunk in _chunks(self._ids, self._chunk):
                self._sync_routers(chunk)
                self._queue(chunk)
        except ServerTimeoutError:
            self._chunk = max(self._chunk // 2, CHUNK_MIN)
            raise
        self._chunk = min(self._chunk + CHUNK_MIN, CHUNK_MAX)

    def _queue(self, router_ids: Iterable[str]) -> None:
        for router_id in router_ids:
            if router_id not in self._described:
                self._described.add(router_id)
                self._cloud.described.append(self._cloud.clock.now)
            if router_id not in self._queued:
                self._queued.add(router_id)
                self._to_do.put(router_id)

    def _process(self) -> None:
        while True:
            router_id = self._to_do.take()
            for attempt in range(REFERENCE_TRIES + 1):
                if self._worked(partial(self._build, router_id, bool(attempt))):
                    break
            else:
                self._cloud.dropped += 1

    def _build(self, router_id: str, asks: bool) -> None:
        """Process a router; one that has failed is asked for again, alone."""
        cloud = self._cloud
        if asks:
            self._sync_routers([router_id])
        for _ in range(cloud.site.subnets):
            self._call("get_ports_by_subnet", cloud.costs.ports)
        core = self._cores.take()
        cloud.clock.sleep(cloud.costs.reference_build)
        self._cores.put(core)
        if router_id not in self._built:
            self._built.add(router_id)
            cloud.built.append(cloud.clock.now)
        self._call("update_floatingip_statuses", cloud.costs.statuses)
        cloud.active.append(cloud.clock.now)


def _chunks(router_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(router_ids), size):
        yield router_ids[first : first + size]
