"""One router at a time from document to kernel: read :meth:`RouterReconciler.reconcile` first.

The planner reads and compares (``planner``), the executor writes (``executor``), the host memory saves work between
jobs (``memory``).  Blocking code for one thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from oslo_utils import excutils

from dvr_agent.attach.api import AttachDriver
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.errors import DvrError
from dvr_agent.kernel.api import GratuitousArp, Kernel
from dvr_agent.model.router import Router
from dvr_agent.reconcile.allocation_files import AllocationFiles
from dvr_agent.reconcile.api import RefusedError, Result
from dvr_agent.reconcile.executor import Executor
from dvr_agent.reconcile.inventory import floating_ips
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.planner import Planner
from dvr_agent.reconcile.stale import StaleRemoval, remove_bridges
from dvr_agent.reconcile.takeover import log_takeover
from dvr_agent.services.bundle import Services

LOG = logging.getLogger(__name__)


class RouterReconciler:
    """Implements :class:`dvr_agent.reconcile.api.Reconciler`, whose docstrings are the contract.

    :param state_path: directory of the state files
    :param services: metadata and radvd of the routers; default: none
    :param newer_wins: of two documents that claim one thing the newer has it: their source is an authority
    """

    def __init__(
        self,
        kernel: Kernel,
        attach: AttachDriver,
        settings: HostSettings,
        state_path: Path,
        services: Services | None = None,
        newer_wins: bool = False,
    ) -> None:
        self.kernel, self.attach = kernel, attach
        self.services = services if services is not None else Services()
        self.memory = HostMemory.empty(kernel, state_path, newer_wins)
        self.planner = Planner(kernel, attach, self.services, settings, self.memory)
        self._executor = Executor(kernel, attach)
        self._files = AllocationFiles(state_path)

    def load(self) -> None:
        """Read state files and kernel into the host memory."""
        self.planner.load()
        self._files.check(self.memory.allocations)

    def begin_resync(self, documents: Iterable[tuple[str, Router]] = ()) -> None:
        """Forget what a resync reads once for all routers, and declare their documents."""
        self.memory.begin_resync()
        self.planner.declare(documents)

    def reconcile(self, router: Router, in_resync: bool = False, document: str = "") -> Result:
        """Make the kernel agree with a router's document."""
        started = time.perf_counter()
        # A resync builds many routers, and each of their broadcasts reaches all of them.
        arp = GratuitousArp.REQUEST if in_resync else GratuitousArp.BOTH
        job = self.planner.plan_router(router, in_resync, document)
        plan = job.plan
        post_commit = self.memory.post_commit(router.id)
        self.memory.claim_slice(job.draft.view)
        try:
            with self._tables_reserved(job.jobs):
                missing = self._executor.apply(job.jobs, post_commit, job.paths, arp)
            if job.repairs_ports:  # a port that was made anew has lost its addresses and routes
                job = self.planner.plan_router(router)
                with self._tables_reserved(job.jobs):
                    missing = self._executor.apply(job.jobs, post_commit, job.paths, arp)
            deleted = post_commit.delete_connections(self.kernel, missing.held)
        except DvrError:
            with excutils.save_and_reraise_exception(logger=LOG):
                LOG.debug(
                    "router %s: failed half way; changes made so far stay, the next try makes the rest", router.id
                )
        post_commit.announce(self.kernel, arp, missing)  # also what an earlier job has left
        announced = tuple(post_commit.take_sent())
        affected: tuple[str, ...] = ()
        if not missing:
            self.memory.post_commit_done(router.id)
            affected = self.memory.note_in_sync(job.draft.view, job.draft.state, job.draft.shared)
        else:
            affected = self.memory.note_partly(job.draft.view, job.draft.state, missing.held)
        log_takeover(plan)
        there = not missing.lacks_namespace(job.draft.view.qrouter)  # they serve from inside
        trouble = self.services.apply(job.draft.served) if there else ()
        rivals = tuple(sorted(self.memory.claims.take_rivals(router.id)))
        seconds = time.perf_counter() - started
        result = Result(plan, seconds, announced, deleted, trouble, affected, rivals, job.draft.view.router, arp)
        if missing:
            raise RefusedError(missing.errors, missing.held, result)
        return result

    def _tables_reserved(self, jobs: Sequence[NamespaceJob]) -> AbstractContextManager[None]:
        """Take the lock of iptables programs if the jobs change tables: before the first write, or not at all.

        :raises TablesLockedError: another program holds it
        """
        changes = any(job.changes.tables for job in jobs if not job.changes.remove)
        return self.kernel.iptables.reserve() if changes else nullcontext()

    def remove(self, router_id: str) -> Result:
        """Remove a router's own objects, and shared parts that no router uses any more."""
        started = time.perf_counter()
        jobs = self.planner.removal_jobs(router_id)
        plan = self.planner.removal_plan(router_id, jobs)
        self.services.remove(router_id)
        if not self.memory.allocations.knows_floating_ips(router_id):  # not in sync once since this process began
            self.memory.allocations.note_floating_ips(router_id, floating_ips(self.kernel, router_id))
        missing = self._executor.carry_out(jobs)
        if missing:
            raise RefusedError(missing.errors, missing.held, Result(plan, time.perf_counter() - started))
        affected = self.memory.forget_router(router_id)
        return Result(plan, time.perf_counter() - started, affected=tuple(sorted(affected)))

    def remove_stale(self, known: Collection[str]) -> Result:
        """Remove all objects of ours that belong to no known router."""
        started = time.perf_counter()
        removal = StaleRemoval(self.planner.find_stale(known))
        missing = self._executor.carry_out(removal.end_services(self.services))
        if missing:
            result = Result(removal.stale.plan, time.perf_counter() - started)
            raise RefusedError(missing.errors, missing.held, result)
        removal.remove_rest(self.kernel.namespaces, self.attach)
        affected = self.memory.forget_stale(known, removal.stale.slices)
        removal.raise_errors()
        return Result(removal.stale.plan, time.perf_counter() - started, affected=tuple(sorted(affected)))

    def remove_bridges(self, networks: Collection[str] = (), await_teardown: bool = False) -> list[str]:
        """Remove idle bridges of ours."""
        return remove_bridges(self.kernel.namespaces, self.attach, networks, await_teardown)

    def flush(self) -> None:
        """Write state files that changed."""
        self._files.flush(self.memory.allocations)
