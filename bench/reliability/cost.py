"""What many routers on one external network cost in processor time: build, audit, restart, and the idle daemon.

The promises are about ratios within one run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import documents, states
from bench.reliability.api import Figure, Options
from bench.reliability.load_host import open_daemon
from bench.reliability.processor_time import seconds_of, share_of
from dvr_agent.daemon.gc_freeze import GcFreeze
from dvr_agent.kernel.iptables.libiptc import library
from dvr_agent.model.router import Router
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.waiting import wait_for

MODE = "dvr_snat"
STATE_PATH = Path("/run/cost-state")
AUDIT_GROWTH, BUILD_GROWTH, RESTART_GROWTH = 4.0, 1.8, 4.5
"""Allowed: an audit and a restart of 1,000 routers ÷ of 300; the build of one of the later 700 ÷ of the first 300."""
IDLE_LIMIT, AUDIT_LIMIT = 0.005, 0.01
"""Shares of one processor that an idle daemon may take between audits, and with them."""
SETTLE_SECONDS = 8.0
"""Announcements are repeated for some seconds after a start."""


def prepare() -> None:
    """Make the external bridge of this host."""
    lab.run("ip", "link", "set", "lo", "up")
    lab.Host().bridge(documents.EXTERNAL_BRIDGE)
    library(4)  # the daemon, too, loads libiptc at its start


def make(mode: str = MODE) -> RouterReconciler:
    """Make a reconciler that knows nothing."""
    networks = {documents.EXTERNAL_NETWORK: documents.EXTERNAL_BRIDGE}
    return make_reconciler(states.settings(mode), networks, STATE_PATH)


def build(reconciler: RouterReconciler, routers: Iterable[Router]) -> None:
    """Build routers as a first resync does."""
    heap, routers = GcFreeze(), list(routers)
    # Without the documents a start would take all routers for undeclared ones, and read what they have.
    reconciler.begin_resync([(router.id, router) for router in routers])
    for router in routers:
        reconciler.reconcile(router, in_resync=True)
        heap.router_changed()
    reconciler.flush()


def audit(reconciler: RouterReconciler, routers: Iterable[Router]) -> None:
    """Audit routers."""
    reconciler.begin_resync()
    for router in routers:
        reconciler.reconcile(router, in_resync=True)
    reconciler.flush()


def restart(routers: Iterable[Router]) -> None:
    """Do what a new process does on a host where all is in sync."""
    reconciler = make()
    reconciler.load()
    build(reconciler, routers)


class _Costs:
    """Processor seconds of both sizes: all routers of the smaller, and of the bigger one."""

    def __init__(self, few: int, many: int) -> None:
        prepare()
        routers = states.parse(states.raw_documents(MODE, many))
        reconciler = make()
        reconciler.load()
        self.few, self.many = few, many
        self.build = [seconds_of(lambda: build(reconciler, routers[:few])) / few]
        self.audit = [self._audited(reconciler, routers[:few])]
        self.restart = [seconds_of(lambda: restart(routers[:few]))]
        self.build.append(seconds_of(lambda: build(reconciler, routers[few:])) / (many - few))
        self.audit.append(self._audited(reconciler, routers))
        self.restart.append(seconds_of(lambda: restart(routers)))
        self.writes = reconciler.kernel.counters.total() - self._written

    def _audited(self, reconciler: RouterReconciler, routers: Sequence[Router]) -> float:
        audit(reconciler, routers)  # tables are met for the first time after a build
        self._written = reconciler.kernel.counters.total()
        return seconds_of(lambda: audit(reconciler, routers))


def sizes(options: Options) -> tuple[int, int]:
    """Return the two numbers of routers."""
    return (20, 60) if options.quick else (300, 1000)


def measure_growth(options: Options) -> Figure:
    """Measure how the cost of build, audit and restart grows with the number of routers on a network."""
    costs = _Costs(*sizes(options))
    linear = costs.many / costs.few
    audited, built, restarted = (found[1] / found[0] for found in (costs.audit, costs.build, costs.restart))
    kept = audited <= AUDIT_GROWTH * linear / (1000 / 300) and restarted <= RESTART_GROWTH * linear / (1000 / 300)
    text = (
        f"{costs.few} → {costs.many:,} routers, processor time: audit {costs.audit[0]:.2f} → {costs.audit[1]:.2f} s "
        f"({audited:.1f} ×, linear {linear:.1f} ×), restart {costs.restart[0]:.2f} → {costs.restart[1]:.2f} s "
        f"({restarted:.1f} ×); build of one {costs.build[0] * 1000:.1f} → {costs.build[1] * 1000:.1f} ms "
        f"({built:.2f} ×)"
    )
    details = [] if built <= BUILD_GROWTH else [f"the build of one router grows by more than {BUILD_GROWTH} ×"]
    if costs.writes:
        details.append(f"{costs.writes} writes by an audit of routers in sync")
    return Figure(text, kept and not details, tuple(details))


@contextmanager
def _daemon(count: int) -> Iterator[Daemon]:
    """Have a daemon configured for many routers; it is not started yet, and killed at the end."""
    with tempfile.TemporaryDirectory(prefix="dvr-cost-") as base:
        daemon = open_daemon(Path(base), MODE)
        for number, raw in enumerate(states.raw_documents(MODE, count)):
            (daemon.routers / f"{number}.json").write_bytes(raw)
        try:
            yield daemon
        finally:
            daemon.kill()


def _settled(daemon: Daemon) -> bool:
    states_found = {one["state"] for one in daemon.status()["routers"]}
    return states_found == {"in sync"} and not daemon.status()["queue_depth"]


def _idle_share(daemon: Daemon, audit_interval: int, seconds: float) -> float:
    """Return the share of a processor that the daemon takes once all its routers are in sync."""
    daemon.configure(dvr_agent={"audit_interval": audit_interval})
    daemon.start()
    wait_for(lambda: _settled(daemon), "all routers are in sync", 600, every=1.0)
    time.sleep(SETTLE_SECONDS)
    assert daemon.process is not None
    share = share_of(daemon.process.pid, seconds)
    daemon.stop()
    return share


def measure_between_audits(options: Options) -> Figure:
    """Measure what a daemon takes that only listens."""
    count, seconds = (20, 2.0) if options.quick else (300, 30.0)
    with _daemon(count) as daemon:
        share = _idle_share(daemon, 0, seconds)
    return Figure(f"{share:.2%} of a processor with {count} routers", share < IDLE_LIMIT)


def measure_idle(options: Options) -> Figure:
    """Measure what a daemon takes that has nothing to do."""
    counts = (20,) if options.quick else (300, 1000)
    between, audits, interval = (2.0, 4.0, 2) if options.quick else (30.0, 240.0, 60)
    parts, kept = [], True
    for count in counts:
        with _daemon(count) as daemon:
            idle, audited = _idle_share(daemon, 0, between), _idle_share(daemon, interval, audits)
        kept = kept and idle < IDLE_LIMIT and audited < AUDIT_LIMIT
        parts.append(f"{count:,} routers: {idle:.2%} of a processor between audits, {audited:.2%} with them")
    return Figure(f"{'; '.join(parts)} (every {interval} s)", kept)
