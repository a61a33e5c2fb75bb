"""The daemon from start to stop: puts the parts together and keeps them running.  Start reading at :func:`run`.

What it is made of::

    source ──► feed ──► dispatcher ──► worker (native thread) ──► reconciler ──► kernel
                 ▲        ▲   queue, routers
      rescans ───┘        └── passes (full sync, audit, stale sweep)
    signals ──► service ◄── admin socket, systemd
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from oslo_config import cfg

from dvr_agent import __version__, config, leftover_files, logs, neutron_options
from dvr_agent.attach.api import AttachDriver
from dvr_agent.daemon import backoff, eventlet_shim, guru_meditation
from dvr_agent.daemon.admin import AdminServer
from dvr_agent.daemon.announcements import Announce
from dvr_agent.daemon.counters import Counters
from dvr_agent.daemon.dispatcher import Dispatcher, RetryPolicy
from dvr_agent.daemon.l3_agent_check import check_no_rival
from dvr_agent.daemon.resync import Passes
from dvr_agent.daemon.signals import Signals
from dvr_agent.daemon.source_reader import Feed
from dvr_agent.daemon.status import Status
from dvr_agent.daemon.worker import Worker
from dvr_agent.errors import DvrError, ServiceFatalError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.lock import AgentLock
from dvr_agent.notify import Notifier
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.sources.api import Source

LOG = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""How long a stop waits for the job that is being done."""
STATUS_SECONDS = 5.0
OUTSIDE_SECONDS = 0.5
"""Open vSwitch comes back in many small steps: they are looked at together."""
SWITCH_SECONDS = 0.001
"""How long the worker may keep the interpreter while the hub wants it (sys.setswitchinterval)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon drives.

    :ivar announce: sends announcements once more; blocks, for the worker
    :ivar outside: tells when the layer 2 side of ports may have changed by itself; None: nobody can tell
    """

    reconciler: Reconciler
    source: Source
    announce: Announce
    writes: WriteCounters
    outside: AttachDriver | None = None


def run(conf: cfg.ConfigOpts) -> int:
    """Be the daemon until a signal ends it; logging is set up already.

    :returns: the process's exit code: 0 stopped by a signal, 1 broken
    :raises ConfigError: an option cannot be used
    :raises LockedError: another agent runs here, ours or Neutron's
    :raises KernelError: this kernel lacks something the agent needs
    """
    if config.source_name(conf) == "neutron":
        check_no_rival()
        neutron_options.tell(conf)
    with AgentLock(conf.state_path, conf.host):
        removed = leftover_files.remove(conf)
        if removed:
            LOG.info("temporary files of a process that was killed removed: %s", ", ".join(removed))
        return Service(conf, open_parts(conf)).run()


def open_parts(conf: cfg.ConfigOpts) -> Parts:
    """The real parts, as configured.

    :raises DvrError: something cannot be had
    """
    from dvr_agent.reconcile.factory import open_reconciler
    from dvr_agent.sources.factory import open_source

    reconciler = open_reconciler(conf)
    kernel = reconciler.kernel
    return Parts(reconciler, open_source(conf), kernel.announcer.announce, kernel.counters, reconciler.attach)


class Service:
    """One run of the daemon."""

    def __init__(self, conf: cfg.ConfigOpts, parts: Parts) -> None:
        eventlet_shim.use_epoll()
        self._conf, self._parts = conf, parts
        self._mode = config.host_settings(conf).mode.value
        options = conf.dvr_agent
        counters = Counters()
        self._worker = Worker()
        retry = RetryPolicy(options.retry_interval, options.retry_interval_max)
        self._retry = retry
        self._dispatcher = Dispatcher(parts.reconciler, parts.announce, self._worker, retry, counters)
        self._feed = Feed(parts.source, self._worker, self._dispatcher)
        self._passes = Passes(
            parts.reconciler, self._worker, self._dispatcher, self._feed, lambda: bool(options.allow_mass_removal)
        )
        self._dispatcher.report = parts.source.settled
        self._status = Status(
            conf.host,
            self._mode,
            time.time(),
            self._dispatcher,
            self._feed,
            self._passes,
            counters,
            parts.writes,
            parts.reconciler.services,
        )
        self._counters = counters
        self._admin = AdminServer(options.admin_socket, self._status, self._sync)
        self._notifier = Notifier()
        self._signals = Signals(self._stop, self._reload)
        self._ended = eventlet_shim.Event()
        self._loaded = False

    def run(self) -> int:
        """Work until stopped; returns the exit code.  For the main thread."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._dispatcher.heap.freeze()
        LOG.info("dvr-agent %s starts: host %s, %s", __version__, self._conf.host, self._mode)
        self._admin.start()
        try:
            self._signals.install(self._crashed)
            guru_meditation.install(self._conf)
            self._worker.start(self._crashed)
            tasks = (self._work, self._become_ready, self._dispatcher.run, self._counters.probe_hub, self._report)
            for task in (*tasks, self._watchdog):
                self._spawn(task)
            code: int = self._ended.wait()
            self._shut_down()
            return code
        finally:
            self._admin.close()

    def _spawn(self, task: Callable[[], None]) -> None:
        eventlet_shim.spawn(task, self._crashed)

    def _crashed(self) -> None:
        """A part of the daemon is broken: better started again by the service manager than half alive."""
        self._ended.set(1)

    def _work(self) -> None:
        """Read the kernel, then follow the source."""
        failures = 0
        while True:
            try:
                self._worker.call(self._parts.reconciler.load)
                break
            except DvrError as exc:
                failures += 1
                seconds = backoff.delay(failures, self._retry.first, self._retry.maximum)
                LOG.error("kernel and state files cannot be read, again in %.1f s: %s", seconds, exc)
                self._status.obstacle = f"kernel and state files cannot be read: {exc}"
                eventlet_shim.sleep(seconds)
        self._status.obstacle = ""
        self._loaded = True
        self._spawn(self._feed.run)
        self._spawn(self._feed.watch)
        self._spawn(self._watch_outside)
        self._spawn(self._watch_services)
        if self._conf.AGENT.check_child_processes_interval:
            self._spawn(self._check_services)
        if self._conf.dvr_agent.audit_interval:
            self._spawn(partial(self._passes.audit_for_ever, self._conf.dvr_agent.audit_interval))

    def _become_ready(self) -> None:
        """Report READY after the first full sync; after ``ready_timeout`` without one, so that no start hangs for ever.

        What is in the way stands in the status text, and is retried as ever.
        """
        seconds = self._conf.dvr_agent.ready_timeout
        self._passes.first_sync_done.wait(seconds)
        self._notifier.ready(self._status.line)
        if self._passes.first_sync_done.is_set():
            LOG.info("ready")
            return
        LOG.warning("ready after %d s without a full sync, which goes on: %s", seconds, self._status.line)
        self._passes.first_sync_done.wait()
        self._notifier.send(f"STATUS={self._status.line}")
        LOG.info("first full sync done")

    def _watch_outside(self) -> None:
        """The layer 2 side changed by itself (Open vSwitch came back): look at everything, and retry what failed."""
        outside = self._parts.outside
        fd = outside.fileno() if outside is not None else None
        if outside is None or fd is None:
            return
        self._passes.first_sync_done.wait()
        while True:
            eventlet_shim.wait_readable(fd)
            eventlet_shim.sleep(OUTSIDE_SECONDS)
            outside.acknowledge()
            LOG.info("the layer 2 side changed: looking at %d routers", self._passes.full_sync())

    def _watch_services(self) -> None:
        """A helper of a router died, or the metadata proxy went or came back."""
        services = self._parts.reconciler.services
        while True:
            eventlet_shim.wait_readable(services.fileno())
            self._note_services(services.changed)

    def _check_services(self) -> None:
        while True:
            eventlet_shim.sleep(self._conf.AGENT.check_child_processes_interval)
            self._note_services(self._parts.reconciler.services.check)

    def _note_services(self, ask: Callable[[], set[str]]) -> None:
        def look() -> set[str]:
            with logs.job_context():
                return ask()

        try:
            changed = self._worker.call(look)
        except ServiceFatalError as exc:
            reason = str(exc)
        except Exception:
            LOG.exception("services could not be looked at: this is a bug")
            eventlet_shim.sleep(STATUS_SECONDS)  # what woke us may still be there
            return
        else:
            for router_id in changed:
                self._dispatcher.look_at(router_id)
            return
        LOG.error("%s: the agent ends, as check_child_processes_action says", reason)
        self._crashed()

    def _report(self) -> None:
        """Tell systemd from time to time; during the first sync also that it shall be patient."""
        while True:
            if self._notifier.is_ready:
                self._notifier.send(f"STATUS={self._status.line}")
            else:
                self._notifier.starting(self._status.line, 6 * STATUS_SECONDS)
            eventlet_shim.sleep(STATUS_SECONDS)

    def _watchdog(self) -> None:
        while self._notifier.watchdog_seconds is not None:
            self._notifier.alive()
            eventlet_shim.sleep(self._notifier.watchdog_seconds / 3)

    def _sync(self) -> int | str:
        """Somebody asks by the admin socket: everything is looked at again.  Returns how many routers, or why not."""
        if not self._loaded:
            return "the agent has not read kernel and state files yet"
        if not self._feed.rescan():
            return self._feed.error
        return self._passes.full_sync()

    def _stop(self) -> None:
        self._ended.set(0)

    def _shut_down(self) -> None:
        """The data plane stays as it is."""
        LOG.info("dvr-agent stops; routers stay as they are")
        self._notifier.stopping()
        deadline = time.monotonic() + STOP_SECONDS
        self._dispatcher.stop()
        self._dispatcher.finished.wait(STOP_SECONDS)
        flushed = eventlet_shim.Event()
        if self._dispatcher.finished.is_set():

            def flush() -> None:
                self._dispatcher.flush()
                flushed.set()

            eventlet_shim.spawn(flush)
            flushed.wait(max(deadline - time.monotonic(), 1.0))
        if not flushed.is_set():
            LOG.warning("the job under way did not end within %.0f s: abandoned", STOP_SECONDS)
        self._parts.source.close()
        if flushed.is_set():  # else the worker may be at work with them
            self._parts.reconciler.services.close()

    def _reload(self) -> None:
        """SIGHUP: read the configuration files again and take over what may change while running."""
        if self._notifier.is_ready:
            self._notifier.reloading()
        try:
            fresh = config.load(config.config_arguments(self._conf))
            config.check(fresh)
            changed = self._conf.mutate_config_files()
            logs.set_levels(fresh)
        # oslo.config has many errors, and ends the process with some of them.  With any of them all stays as it was.
        except (Exception, SystemExit) as exc:  # noqa: BLE001
            reason = str(exc)
        else:
            reason = ""
            names = ", ".join(sorted(name for _group, name in changed)) or "no mutable option"
            LOG.info("configuration read again: %s changed; log levels set", names)
        if reason:
            LOG.error("configuration could not be read again, all stays as it was: %s", reason)
        if self._notifier.is_ready:
            self._notifier.ready(self._status.line)
