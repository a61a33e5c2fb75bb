"""A random walk: a host, and recorded documents that change at random, one after the other.

Each change is followed by the jobs that a daemon does.  Used by tests that differ in what else happens to the host.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.attach.api import AttachDriver
from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.daemon import failure_reasons
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import DocumentError
from dvr_agent.extensions import Extension
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.reconcile.statefile import PRIORITIES_FILE
from tests.support import lab, mutated_documents, ovs
from tests.support.daemon_jobs import DaemonJobs
from tests.support.daemon_site import RECORDED, neighbour_router
from tests.support.ovs_rig import open_driver
from tests.support.recorded_documents import MODES, parse


class Host:
    """A new host with the jobs of a daemon, which can be started again.

    :param make: makes a process's reconciler; what it opens is closed at the end
    """

    def __init__(self, make: Callable[[], RouterReconciler], monkeypatch: pytest.MonkeyPatch, hears: bool) -> None:
        self._make, self._monkeypatch, self._hears = make, monkeypatch, hears
        self.jobs = self._start()

    def _start(self, *routers: Router) -> DaemonJobs:
        jobs = DaemonJobs(self._make(), self._monkeypatch, self._hears)
        jobs.put(*routers)
        jobs.resync()
        return jobs

    def restart(self, killed: bool = False) -> None:
        """Start the daemon again.

        :param killed: it was killed, and has not written its state files
        """
        routers = self.jobs.routers
        if not killed:
            self.jobs.reconciler.flush()
        self.jobs.close()
        self.jobs = self._start(*routers)


class Walk:
    """One or two routers, and what was done to their documents.

    :ivar originals: the recorded documents; the second is that of a router like the first, on the same external network
    :ivar log: for a test that fails
    """

    def __init__(self, seed: int, state_path: Path, monkeypatch: pytest.MonkeyPatch, has_ovs: bool) -> None:
        dice = self.dice = random.Random(seed)
        self.originals = [RECORDED, neighbour_router(1)]
        name = "b2_dvr_snat_node_with_vms-compute1"
        if dice.random() < 0.6:
            name = dice.choice(mutated_documents.NAMES)
            self.originals = [json.loads(mutated_documents.DOCUMENTS[name])]
        self.routers = [parse(document) for document in self.originals]
        host = name.rpartition("-")[2]
        extensions = frozenset(Extension) if dice.random() < 0.7 else frozenset()
        mode = dice.choice([MODES[host], MODES[host], *AgentMode])
        self._settings = HostSettings(host, mode, extensions=extensions, metadata=dice.random() < 0.3)
        first = self.routers[0]
        gateways = [*first.agent_gateways, *([first.gateway] if first.gateway else [])]
        networks = sorted({port.network_id for port in gateways})
        self._bridges = {network: f"br-ex{number}" for number, network in enumerate(networks)}
        self._state_path, self._monkeypatch = state_path, monkeypatch
        self._hears = dice.random() < 0.7
        self._documents = [*self.originals]
        self._has_ovs, self._use_veth = has_ovs, dice.random() < 0.5
        self._retried: set[str] = set()
        self.log = [f"seed {seed}: {name}, {len(self.routers)} routers, mode {mode.value}"]

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[Host]:
        """Give a new host."""
        path = self._state_path / name
        path.mkdir()
        with lab.fresh_host() as host, contextlib.ExitStack() as stack:
            for bridge in self._bridges.values():
                host.bridge(bridge)
            switch = stack.enter_context(ovs.open_vswitch()) if self._has_ovs else None

            def make() -> RouterReconciler:
                kernel = open_kernel()
                if switch is None:
                    return self._reconciler(kernel, BridgeDriver(self._bridges, kernel.counters), path)
                driver = open_driver(switch, path / "ovs.conf", kernel, self._use_veth)
                stack.callback(driver.close)
                return self._reconciler(kernel, driver, path)

            made = Host(make, self._monkeypatch, self._hears)
            try:
                yield made
            finally:
                made.jobs.close()

    def _reconciler(self, kernel: Kernel, driver: AttachDriver, path: Path) -> RouterReconciler:
        """Make the reconciler of a process."""
        return RouterReconciler(kernel, driver, self._settings, path)

    def next(self) -> Router | None:
        """Change a document, or a recorded one; None if it is refused."""
        number = self.dice.randrange(len(self.originals))
        document = (self.originals if self.dice.random() < 0.3 else self._documents)[number]
        for _ in range(self.dice.choice([1, 1, 2, 3])):
            document, text = mutated_documents.mutate(document, self.dice, *self._documents)
            self.log.append(f"{number}: {text}")
        try:
            router = parse(document)
        except DocumentError as exc:
            self.log.append(f"  refused: {exc}")
            return None
        first = self.routers[number]
        if router.id != first.id or router.ha != first.ha:
            return None  # an HA router has its addresses by VRRP, which does not run here
        if router.distributed != first.distributed and (router.ha or self._has_ovs):
            return None  # with Open vSwitch it takes five seconds
        self._documents[number] = document
        return router

    def put(self, jobs: DaemonJobs, *routers: Router) -> None:
        """Give the daemon documents; a look that reads everything must find nothing to do if it says so itself."""
        jobs.put(*routers)
        try:
            jobs.run()
        except AssertionError:
            if not jobs.results[-1][1].retry:  # else the kernel refuses something, and it is tried for ever
                raise
        assert all(result.cause is not failure_reasons.BUG for _, result in jobs.results), jobs.results
        last = dict(jobs.results)
        self.log += [f"  {router_id[:8]} {result.state}: {result.reason}" for router_id, result in last.items()]
        self._retried = (self._retried - last.keys()) | {one for one, result in last.items() if result.retry}
        if not self._retried:
            differing = [f"{name}: {plan!r}" for name, plan in jobs.differing().items() if not _is_tidying(plan)]
            assert not differing, "\n".join(differing)

    def step(self, host: Host) -> None:
        """Change a document, or start the daemon again."""
        if self.dice.random() < 0.15:
            self.log.append("  started again")
            host.restart()
            self.put(host.jobs)
        elif (router := self.next()) is not None:
            self.put(host.jobs, router)


def _is_tidying(plan: Plan) -> bool:
    """True if all there is to do is what a resync does: to remove entries of floating IPs that are gone."""
    return not plan.changes and bool(plan.ports) and {place for place, _ in plan.ports} == {PRIORITIES_FILE}
