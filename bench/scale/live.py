"""The check of the model by the real source: some hosts in this process, against a server that only takes its time.

Each host is a ``NeutronSource`` with all its threads; its documents are parsed and cached as ever.  The server gives
calls to its workers in turn, and a worker answers one after the other: the model runs with one thread a worker.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.scale.costs import Costs, Site
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.sources.api import Changed, DataPlane, JobReport, Synced
from dvr_agent.sources.neutron.api import ServerTimeoutError
from dvr_agent.sources.neutron.source import NeutronSource
from dvr_agent.sources.neutron.wire.rpc_client import Timeouts
from tests.support.scripted_neutron import HOST, FakeBus, Server, neutron_options

POLL_SECONDS = 0.02
Job = tuple[float, threading.Event]


@dataclass
class Workers:
    """RPC workers that sleep instead of working; each call is given to the next one."""

    number: int
    calls: Counter[str] = field(default_factory=Counter)
    timeouts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        queues: list[queue.SimpleQueue[Job]] = [queue.SimpleQueue() for _ in range(self.number)]
        self._turns = cycle(queues)
        for one in queues:
            threading.Thread(target=self._work, args=(one,), daemon=True).start()

    def take(self, method: str, seconds: float, timeout: float) -> None:
        """Wait until a worker has worked so long.

        :raises ServerTimeoutError: none has in time; one will all the same
        """
        done = threading.Event()
        with self._lock:
            self.calls[method] += 1
            next(self._turns).put((seconds, done))
        if not done.wait(timeout):
            with self._lock:
                self.timeouts[method] += 1
            raise ServerTimeoutError("no answer came in time")

    @staticmethod
    def _work(jobs: queue.SimpleQueue[Job]) -> None:
        while True:
            seconds, done = jobs.get()
            time.sleep(seconds)
            done.set()


class Plugin(Server):
    """The L3 plugin of one host: answers after its time, or gives up as ``RpcCaller`` does."""

    def __init__(self, workers: Workers, costs: Costs, site: Site) -> None:
        super().__init__()
        self._workers, self._costs = workers, costs
        self._timeouts = Timeouts(site.timeout, site.max_timeout)

    def _answer(self, method: str, args: Any, ordinary: Callable[[], Any]) -> Any:
        if method == "report_state":
            return "alive"
        timeout, began = self._timeouts.of(method), time.monotonic()
        try:
            self._workers.take(method, self._seconds(method, args), timeout)
        except ServerTimeoutError:
            self._timeouts.timed_out(method, timeout)
            raise
        self._timeouts.answered(method, time.monotonic() - began)
        return ordinary()

    def _seconds(self, method: str, args: Any) -> float:
        costs = self._costs
        if method == "sync_routers":
            return costs.describing(len(args))
        if method == "get_router_ids":
            return costs.listing(len(self.routers))
        known = {"get_ports_by_subnet": costs.ports, "update_floatingip_statuses": costs.statuses}
        return known.get(method, costs.other)


class LiveHost:
    """A source; what it says is built at once."""

    def __init__(self, plugin: Plugin, base: Path, number: int, routers: int) -> None:
        for router in range(routers):
            router_id = plugin.add(number * 10_000 + router)
            for one in plugin.routers[router_id]["_floatingips"]:
                one["status"] = "DOWN"
        options = replace(neutron_options(base / str(number)), resync_interval=3600)
        self.source = NeutronSource(FakeBus(plugin), HostSettings(HOST, AgentMode.DVR_SNAT), options)
        self.synced = 0.0

    def take(self, now: float) -> None:
        """Process what the source says."""
        for event in self.source.poll():
            if isinstance(event, Changed):
                router = event.document.router
                self.source.job_ended(JobReport(router.id, DataPlane.IN_PLACE, router, ""))
            elif isinstance(event, Synced):
                self.synced = self.synced or now


@dataclass(frozen=True, slots=True)
class Measured:
    """When hosts had all their routers, in seconds after the first one started, and what the server was asked."""

    synced: Sequence[float]
    calls: Mapping[str, int]
    timeouts: Mapping[str, int]


def measure(site: Site, costs: Costs) -> Measured:
    """Start all hosts of a site, as :func:`bench.scale.model.run` does, and wait until each has all its routers."""
    workers = Workers(site.workers)
    with tempfile.TemporaryDirectory(prefix="dvr-scale-") as base:
        hosts = [
            LiveHost(Plugin(workers, costs, site), Path(base), number, site.routers) for number in range(site.hosts)
        ]
        began, waiting = time.monotonic(), list(hosts)
        try:
            while not all(host.synced for host in hosts):
                now = time.monotonic() - began
                while waiting and now >= site.boot * (site.hosts - len(waiting)) / site.hosts:
                    waiting.pop(0).source.rescan()
                for host in hosts:
                    host.take(now)
                time.sleep(POLL_SECONDS)
        finally:
            for host in hosts:
                host.source.close()
    return Measured(sorted(host.synced for host in hosts), dict(workers.calls), dict(workers.timeouts))
