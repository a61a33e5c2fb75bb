"""The daemon from start to stop: builds the objects and keeps them running.  Start reading at :func:`run`.

Each object gets what it needs in its constructor, and imports go the same way, from left to right::

    source ──► source_reader ──► resync, listing ──► schedule (records, queue, retries)
                                                         ▲  │
    service, layer 2 ──► watches ────────────────────────┘  ▼
    dispatcher ──► worker (native thread) ──► reconciler ──► kernel
         └──► host_jobs ──► resync ──► stale_sweep, idle_bridges;  announcements
    admin socket, systemd ──► status (reads all of them)
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from functools import partial

from oslo_config import cfg

from dvr_agent import __version__, config, config_check, l3_agent_options, stale_files
from dvr_agent.config import Settings
from dvr_agent.daemon import admin_resources, eventlet_shim, gc_freeze, kept_events
from dvr_agent.daemon.admin import AdminServer
from dvr_agent.daemon.announcements import AnnouncementRepeater
from dvr_agent.daemon.audits import Audits
from dvr_agent.daemon.counters import DaemonCounters
from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.drift_watch import DriftWatch
from dvr_agent.daemon.fights import Fights
from dvr_agent.daemon.floating_ip_counts import FloatingIpCounts
from dvr_agent.daemon.health import Health
from dvr_agent.daemon.history import History
from dvr_agent.daemon.host_hindrances import HostHindranceWatch
from dvr_agent.daemon.host_jobs import HostJobs
from dvr_agent.daemon.http_resources import ResourceTable
from dvr_agent.daemon.idle_bridges import IdleBridges
from dvr_agent.daemon.l3_agent_check import check_no_l3_agent
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.metrics.exposition import Exposition
from dvr_agent.daemon.metrics.textfile import TextfileWriter
from dvr_agent.daemon.metrics_server import MetricsServer
from dvr_agent.daemon.parts import Parts
from dvr_agent.daemon.reload import Reload
from dvr_agent.daemon.report_section import ReportSection
from dvr_agent.daemon.report_signal import ReportSignal
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.signals import Signals
from dvr_agent.daemon.source_reader import SourceReader
from dvr_agent.daemon.stale_sweep import StaleSweep
from dvr_agent.daemon.start import Start
from dvr_agent.daemon.state_files import StateFiles
from dvr_agent.daemon.status import DaemonStatus
from dvr_agent.daemon.systemd import SystemdReports
from dvr_agent.daemon.table_lock import TableLock
from dvr_agent.daemon.traffic_watch import TrafficWatch
from dvr_agent.daemon.watches import Layer2Watch, ServiceWatch
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.history.file import history_path
from dvr_agent.history.writer import HistoryWriter
from dvr_agent.lock import AgentLock
from dvr_agent.notify import Notifier
from dvr_agent.plural import count

LOG = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""Time that a stop waits for the running job."""
HISTORY_SECONDS = 2.0
"""Time that a stop waits for the disk of the history."""
SWITCH_SECONDS = 0.001
"""Time that the worker thread may keep the interpreter while the hub wants it (sys.setswitchinterval)."""

_NOT_STARTED = "the agent has not read kernel and state files yet"

OpenParts = Callable[[Settings], Parts]


def run(conf: cfg.ConfigOpts, open_parts: OpenParts) -> int:
    """Run the daemon until a signal ends it; logging is set up already.

    :returns: the process's exit code: 0 stopped by a signal, 1 an internal error
    :raises ConfigError: an option cannot be used
    :raises LockedError: another agent runs here, dvr-agent or neutron-l3-agent
    :raises KernelError: this kernel lacks a function that the agent needs
    """
    settings = config.make_settings(conf)
    for finding in config_check.find_unknown(settings.files):
        LOG.warning("%s", finding)
    if settings.source.kind == "neutron":
        check_no_l3_agent()
        l3_agent_options.log_ignored(settings.files)
    with AgentLock(str(settings.state_path), settings.host):
        removed = stale_files.remove(settings)
        if removed:
            LOG.info("stale temporary files removed: %s", ", ".join(removed))
        return Service(conf, settings, open_parts(settings)).run()


class Service:
    """One run of the daemon.

    :param conf: for oslo.reports and for SIGHUP; everything else goes by ``settings``
    """

    def __init__(self, conf: cfg.ConfigOpts, settings: Settings, parts: Parts) -> None:
        eventlet_shim.use_epoll()
        self._conf, self._settings, self._parts = conf, settings, parts
        daemon = settings.daemon
        self._ended = eventlet_shim.GreenEvent()
        self._worker = worker = WorkerThread()
        self._schedule = schedule = Schedule(daemon.retry)
        self._counters = DaemonCounters(FloatingIpCounts(settings.dataplane))
        self._listing = listing = RouterListing()
        self._start = Start(parts.reconciler, worker, daemon.retry)
        self._state_files = StateFiles(parts.reconciler, worker)
        path = history_path(settings.state_path, settings.host)
        self._history = history = History(HistoryWriter(path, daemon.history_entries, daemon.history_file_size))
        sweep = StaleSweep(parts, worker, schedule, listing, daemon.allow_mass_removal, history)
        bridges = IdleBridges(parts.reconciler, worker, schedule, listing, sweep, history)
        fights = Fights()
        self._resync = Resync(schedule, listing, sweep, bridges, self._state_files, fights)
        hears_events = parts.drift is not None
        self._audits = Audits(
            daemon.audit_interval, hears_events, self._resync, schedule, worker, parts.reconciler, self._recognised
        )
        self._reader = SourceReader(parts.source, worker, schedule, listing, self._resync)
        self._service_watch = ServiceWatch(parts.services, worker, schedule, self._crashed)
        self._layer2_watch = Layer2Watch(parts.layer2, self._resync)
        repeater = AnnouncementRepeater(parts.announce, worker, schedule)
        hindrances = HostHindranceWatch(parts.reconciler, worker)
        host_jobs = HostJobs(parts.reconciler, worker, self._resync, bridges, repeater, hindrances)
        self._drift_watch = drift = DriftWatch(parts.drift, worker, schedule, self._resync, fights)
        self._table_lock = lock = TableLock(schedule)
        self._dispatcher = Dispatcher(
            parts, worker, schedule, host_jobs, self._state_files, self._counters, drift, lock, history
        )
        self._status = DaemonStatus(
            settings.host, settings.dataplane.mode.value, time.time(), parts, self._start, schedule, listing,
            self._reader, sweep, self._resync, self._dispatcher, self._state_files, self._counters, fights,
            lock, hindrances,
        )  # fmt: skip
        self._health = health = Health(worker, schedule, self._dispatcher, settings.stuck_timeout)
        counted = settings.metrics.floating_ips_interval
        self._traffic = traffic = TrafficWatch(counted, parts.reconciler, worker, schedule)
        self._exposition = exposition = Exposition(self._status, health, lambda: traffic.text)
        resources = admin_resources.make_table(
            self._status, self._request_resync, self._sync_router, history.writer, health, exposition
        )
        self._admin = AdminServer(daemon.admin_socket, resources)
        monitoring = admin_resources.monitoring(self._status, health, exposition, exposition.recent_text)
        self._metrics = MetricsServer(settings.metrics.listen, ResourceTable(monitoring))
        self._textfile = TextfileWriter(settings.metrics.textfile, settings.metrics.textfile_interval, exposition)
        self._notifier = Notifier()
        self._systemd = SystemdReports(self._notifier, self._status, self._resync, health, daemon.ready_timeout)
        self._report = ReportSignal(conf, ReportSection(self._status, health))
        self._signals = Signals(self._stop, Reload(conf, self._notifier, self._status).run)

    def run(self) -> int:
        """Work until stopped; returns the exit code.  For the main thread."""
        sys.setswitchinterval(SWITCH_SECONDS)
        gc_freeze.end_start()
        LOG.info("dvr-agent %s starts: host %s, %s", __version__, self._settings.host, self._status.mode)
        self._admin.start()
        try:
            self._metrics.start()
            self._signals.install(self._crashed)
            self._report.begin()
            self._worker.start(self._crashed)
            self._history.writer.start()
            systemd = self._systemd
            probe = partial(self._counters.probe_hub, self._health.watch)
            self._spawn(self._follow_source, self._dispatcher.run, probe)
            self._spawn(self._follow_first_resync)
            self._spawn(systemd.become_ready, systemd.report_status, systemd.feed_watchdog)
            self._spawn(self._textfile.write_periodically)
            code: int = self._ended.wait()
            self._shut_down()
            return code
        finally:
            self._admin.close()

    def _spawn(self, *tasks: Callable[[], None]) -> None:
        for task in tasks:
            eventlet_shim.spawn(task, self._crashed)

    def _crashed(self) -> None:
        """End the daemon with an error: systemd's restart is better than a daemon without one of its tasks."""
        self._ended.set(1)

    def _follow_source(self) -> None:
        """Read the kernel first, then follow source, services and layer 2."""
        daemon = self._settings.daemon
        self._start.run()
        self._spawn(self._reader.rescan_periodically, self._reader.watch)
        self._spawn(self._traffic.read_periodically)
        self._spawn(self._layer2_watch.watch, self._service_watch.watch, self._drift_watch.watch)
        if daemon.check_services_interval:
            self._spawn(partial(self._service_watch.check_periodically, daemon.check_services_interval))
        if daemon.audit_interval:
            self._spawn(self._audits.audit_periodically, self._audits.check_tables_periodically)

    def _follow_first_resync(self) -> None:
        self._resync.first_done.wait()
        self._history.starting = False
        if self._recognised():
            LOG.info("%s not read: nothing has changed there since the last stop", count(self._recognised(), "router"))
        # The libraries that no job needs, while there are descriptors to read them.  Not in this thread: the admin
        # socket would not be served meanwhile.
        self._worker.call(self._exposition.load)
        self._worker.call(self._report.load)
        self._report.complete()

    def _recognised(self) -> int:
        """Return the number of routers that were not read since an earlier process has kept them."""
        return self._parts.drift.recognised if self._parts.drift is not None else 0

    def _request_resync(self) -> int | str:
        """Rescan and begin a resync, for the admin socket; returns the number of routers, or why it cannot be done."""
        if not self._start.done.is_set():
            return _NOT_STARTED
        if not self._reader.rescan():
            return self._listing.error
        return self._resync.begin(trusting=False)

    def _sync_router(self, router_id: str) -> str:
        """Fetch a router's document again and queue the router; returns why it cannot be done, or nothing."""
        if not self._start.done.is_set():
            return _NOT_STARTED
        if not self._reader.fetch_again(router_id):
            return self._listing.error
        self._schedule.requeue(router_id, Priority.RETRY)
        return ""

    def _stop(self) -> None:
        self._ended.set(0)

    def _shut_down(self) -> None:
        """Wait for the running job and write state files; the data plane stays unchanged."""
        LOG.info("dvr-agent stops; routers unchanged")
        self._notifier.stopping()
        deadline = time.monotonic() + STOP_SECONDS
        self._dispatcher.stop()
        self._dispatcher.finished.wait(STOP_SECONDS)
        flushed = eventlet_shim.GreenEvent()
        if self._dispatcher.finished.is_set():

            def flush() -> None:
                self._state_files.flush()
                if self._parts.drift is not None:
                    leave = partial(kept_events.leave, self._settings, self._parts.drift)
                    self._worker.try_call(leave, "events of the kernel cannot be left to the next process")
                flushed.set()

            eventlet_shim.spawn(flush)
            flushed.wait(max(deadline - time.monotonic(), 1.0))
        if not flushed.is_set():
            LOG.warning("the running job did not end within %.0f s: abandoned", STOP_SECONDS)
        self._parts.source.close()
        if flushed.is_set():  # else the worker thread may still use them
            self._parts.services.close()
        self._history.writer.flush(HISTORY_SECONDS)
