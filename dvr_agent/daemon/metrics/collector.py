"""Reads the parts of the daemon and makes metrics of them.

Everything that is read is in memory and bounded, so nothing blocks; belongs to the hub's thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dvr_agent import __version__
from dvr_agent.daemon.failure_reasons import REASONS
from dvr_agent.daemon.health import Health
from dvr_agent.daemon.job_result import RouterState
from dvr_agent.daemon.jobs import JOB_KINDS
from dvr_agent.daemon.metrics.definitions import FIP_STATUSES, HOST_JOBS, OBJECTS, STATES, WRITES
from dvr_agent.daemon.metrics.families import Families, Labels
from dvr_agent.daemon.status import DaemonStatus


class Collector:
    """Implements prometheus_client's collector: :meth:`collect`."""

    def __init__(self, status: DaemonStatus, health: Health) -> None:
        self._status, self._health = status, health

    def collect(self) -> Iterable[Any]:
        """Return all families."""
        out = Families()
        self._state(out)
        self._routers(out)
        self._jobs(out)
        self._progress(out)
        _services(out, self._status.parts.services.status())
        _source(out, self._status.source_reader.status())
        return out

    def _state(self, out: Families) -> None:
        status = self._status
        out.gauges("build_info", {(__version__, status.host, status.mode): 1})
        out.gauge("in_sync", status.state == RouterState.IN_SYNC.value)
        out.gauge("ready", status.ready and self._health.ok)
        out.gauge("healthy", self._health.ok)
        out.gauge("source_up", not status.listing.error)
        out.gauges("trouble", {(part,): bool(text) for part, text in status.trouble_by_part.items()})
        out.gauge("removal_refused", bool(status.stale_sweep.guard))
        out.gauge("fights", status.fights.number(time.monotonic()))
        out.gauge("bad_documents", status.source_reader.bad_number)
        out.gauge("last_listing_timestamp_seconds", status.listing.last_sync)

    def _routers(self, out: Families) -> None:
        records = self._status.schedule.records
        states = {state.value.replace(" ", "_"): number for state, number in records.states.items()}
        out.gauges("routers", _complete(STATES, states))
        fips = self._status.counters.floating_ips
        fips.keep_only(records.ids)
        out.gauges("floating_ips", _complete(FIP_STATUSES, fips.numbers))
        vrrp = {record.id: record.vrrp for record in records if record.vrrp}
        out.gauges("vrrp_routers", _complete(("master", "backup"), Counter(vrrp.values())))
        out.gauges("vrrp_master", {(router_id,): state == "master" for router_id, state in vrrp.items()})

    def _jobs(self, out: Families) -> None:
        counters, parts = self._status.counters, self._status.parts
        apply, waited = counters.apply, counters.waited
        out.histograms("apply_seconds", {(kind,): apply[kind] for kind in (*JOB_KINDS, *HOST_JOBS)})
        out.histograms("job_wait_seconds", {(kind,): waited[kind] for kind in JOB_KINDS})
        out.counters("failures_total", _complete(tuple(REASONS), counters.failed))
        out.counters("drift_repaired_total", _complete(OBJECTS, _with_underscores(counters.repaired)))
        out.counters("objects_changed_total", _complete(OBJECTS, _with_underscores(counters.changed)))
        writes = {kind: getattr(parts.writes, kind) for kind in WRITES}
        out.counters("kernel_writes_total", _complete(WRITES, writes))
        if parts.drift is not None:
            out.counter("kernel_events_total", parts.drift.events.heard)

    def _progress(self, out: Families) -> None:
        status, health = self._status, self._health
        out.gauge("queue_depth", status.queue_depth)
        out.gauge("queue_oldest_seconds", status.oldest_seconds)
        out.histograms("round_seconds", {(name,): one for name, one in status.resync.round_seconds.items()})
        out.gauge("last_resync_timestamp_seconds", status.resync.last_resync)
        out.gauge("last_audit_timestamp_seconds", status.resync.last_audit)
        out.histograms("hub_lateness_seconds", {(): status.counters.lateness})
        out.gauge("worker_busy_seconds", health.busy_seconds)
        out.gauge("worker_stuck_seconds", health.stuck_seconds)
        out.counter("worker_calls_total", health.calls)


def _services(out: Families, services: Mapping[str, object]) -> None:
    found: dict[str, Mapping[str, Any]] = {name: one for name, one in services.items() if isinstance(one, Mapping)}
    out.gauges("service_routers", {(name,): one.get("routers") or 0 for name, one in found.items()})
    helpers = {name: one for name, one in found.items() if "died" in one}
    restarts: dict[Labels, float] = {(name,): one["died"] for name, one in helpers.items()}
    out.counters("service_restarts_total", restarts)
    out.gauges("service_waiting", {(name,): len(one.get("waiting") or ()) for name, one in helpers.items()})


def _source(out: Families, source: Mapping[str, Any]) -> None:
    """Add what only the source neutron has."""
    server, bus = source.get("server"), source.get("bus")
    if server is None or bus is None:
        return
    out.gauge("bus_connected", bool(bus.get("connected")))
    out.counter("bus_reconnects_total", bus.get("reconnects") or 0)
    out.counter("bus_notifications_total", bus.get("notifications") or 0)
    out.gauge("server_up", not server.get("away"))
    out.gauge("last_report_timestamp_seconds", server.get("last_report"))
    out.gauge("statuses_not_sent", server.get("statuses_not_sent") or 0)
    syncs = server.get("full_syncs") or {}
    out.summaries("full_sync_seconds", [((), syncs.get("number", 0), syncs.get("seconds", 0.0))])
    out.gauge("last_full_sync_timestamp_seconds", (server.get("last_full_sync") or {}).get("at"))
    callers = [bus[name] for name in ("calls", "objects", "reports") if name in bus]
    times = [
        ((method,), one["answers"], one["total"]) for caller in callers for method, one in caller["seconds"].items()
    ]
    out.summaries("rpc_seconds", times)
    failed: dict[Labels, float] = {}
    for caller in callers:
        failed.update({(method,): number for method, number in caller["failures"].items()})
    out.counters("rpc_failures_total", failed)


def _complete(values: tuple[str, ...], found: Mapping[str, float]) -> dict[Labels, float]:
    """Return a number for every value of a label: a series that appears with its first event hides that event."""
    return {(value,): found.get(value, 0) for value in (*values, *sorted(found.keys() - set(values)))}


def _with_underscores(found: Mapping[str, int]) -> dict[str, int]:
    return {kind.replace(" ", "_"): number for kind, number in found.items()}
