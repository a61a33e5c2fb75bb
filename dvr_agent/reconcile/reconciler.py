"""One router at a time from document to kernel: read :meth:`RouterReconciler.reconcile` first.

The planner reads and compares (``planner``), the executor writes (``executor``), the host memory saves work between
jobs (``memory``).  Blocking code for one thread.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from oslo_utils import excutils

from dvr_agent.attach.api import AttachDriver
from dvr_agent.desired import names
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView
from dvr_agent.errors import AttachError, DvrError, KernelError, NotSupportedError, TablesLockedError
from dvr_agent.kernel.api import GratuitousArp, Kernel
from dvr_agent.model.router import Router
from dvr_agent.reconcile.allocation_files import AllocationFiles
from dvr_agent.reconcile.api import RefusedError, Result, Traffic
from dvr_agent.reconcile.contradictions import states_of
from dvr_agent.reconcile.draft import Draft
from dvr_agent.reconcile.executor import Executor
from dvr_agent.reconcile.fip_slices import read_slice
from dvr_agent.reconcile.inventory import floating_ips
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.planner import Planner, RouterJob
from dvr_agent.reconcile.stale import StaleRemoval, remove_bridges
from dvr_agent.reconcile.table_check import TableCheck
from dvr_agent.reconcile.takeover import log_takeover
from dvr_agent.reconcile.traffic import read_traffic
from dvr_agent.reconcile.trust import Vouched
from dvr_agent.services.bundle import Services
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.link import Link, Port
from dvr_agent.state.missing import Missing
from dvr_agent.state.sysctl import Sysctl

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
        self.table_check = TableCheck(kernel.packet_filter, kernel.interfaces, self.memory)
        self._files = AllocationFiles(state_path)

    def load(self) -> None:
        """Read state files and kernel into the host memory."""
        self.planner.load()
        self._files.check(self.memory.allocations)

    def begin_resync(self, documents: Iterable[tuple[str, Router]] = (), trusting: bool = True) -> None:
        """Forget what a resync reads once for all routers, and declare their documents."""
        if not trusting:
            self.memory.distrust_all()
        self.memory.begin_resync()
        self.planner.declare(documents)

    def reconcile(self, router: Router, in_resync: bool = False, document: str = "", trusting: bool = True) -> Result:
        """Make the kernel agree with a router's document."""
        with self.kernel.namespaces.job():  # reading and writing share their sockets
            try:
                return self._reconcile(router, in_resync, document, trusting)
            except (RefusedError, TablesLockedError):  # it has them in its result; the job comes again at once
                raise
            except DvrError as exc:
                exc.affected = tuple(sorted(self.memory.take_affected(router.id)))
                raise

    def _reconcile(self, router: Router, in_resync: bool, document: str, trusting: bool) -> Result:
        started = time.perf_counter()
        # A resync builds many routers, and each of their broadcasts reaches all of them.
        arp = GratuitousArp.REQUEST if in_resync else GratuitousArp.BOTH
        self._settle_doubts()
        try:
            job = self.planner.plan_router(router, in_resync, document, trusting)
        except NotSupportedError:
            self.memory.networks.resign(router.id)
            raise
        self.memory.trust.withdraw(router.id)
        first, repaired = job, Missing()
        post_commit = self.memory.post_commit(router.id)
        self.memory.claim_slice(job.draft.view)
        try:
            if self.services.leave_vrrp(job.draft.place):  # its addresses may have gone
                self._restore_link_locals(job.draft)
                first = job = self.planner.plan_router(router, in_resync, document)
            with self.memory.doubting(lambda: self.memory.slices_of(router.id)):
                with self._tables_reserved(job.jobs):
                    missing = repaired = self._executor.apply(job.jobs, post_commit, job.paths, arp)
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
        # Of other routers' addresses nobody here knows whether they still have them when it is time to repeat.
        sent = post_commit.take_sent()
        own = {one for state in states_of(job.draft.state) for one in state.announcements} if sent else set()
        announced = tuple(one for one in sent if one[1] in own)
        affected: tuple[str, ...] = ()
        if not missing:
            affected = self._in_sync(job)
        else:
            self._note_refused_part(job.draft, missing)
            self._read_left_slices(job.draft.view)
            affected = self.memory.note_partly(job.draft.view, job.draft.state, missing.held)
        plan = first.done(repaired)
        log_takeover(plan)
        there = not missing.lacks_namespace(job.draft.view.qrouter)  # they serve from inside
        trouble = self.services.apply(job.draft.served, job.draft.place) if there else ()
        if trouble or not there:  # which of their changes were made is not known
            plan = replace(plan, services=())
        rivals = tuple(sorted(self.memory.claims.take_rivals()))
        seconds = time.perf_counter() - started
        undone = frozenset(missing.undone | repaired.undone)
        built = job.draft.view.router
        is_master = job.draft.place.is_master if job.draft.place.state is not None else None
        result = Result(
            plan, seconds, announced, deleted, trouble, affected, rivals, built, undone, arp=arp, is_master=is_master
        )
        if missing:
            raise RefusedError(missing.errors, missing.held, result)
        return result

    def _in_sync(self, job: RouterJob) -> tuple[str, ...]:
        """Note that a job has made everything; returns the other routers to reconcile again."""
        draft, router_id = job.draft, job.draft.view.router.id
        self.memory.post_commit_done(router_id)
        affected = self.memory.note_in_sync(draft.view, draft.state, draft.shared, draft.shared_job is not None)
        self._mark_ports(draft.state.qrouter.links)
        if not draft.allocated.found_proxies:  # these are known from reading only
            new = [one.changes.namespace for one in job.jobs if one.changes.create]
            self.memory.trust.vouch(router_id, Vouched(draft.state, draft.hindrances), new)
        return affected

    def _restore_link_locals(self, draft: Draft) -> None:
        """Have the kernel make the link-local addresses of a namespace again, which only VRRP's master has."""
        state = draft.observed(draft.place.namespace)
        if state is None:
            return
        devices = ["default", *sorted(link.name for link in state.links)]
        changes = [Change(Action.CHANGE, Sysctl(f"ipv6/conf/{name}/addr_gen_mode", "0")) for name in devices]
        # A device that is too small for IPv6 has no such parameter.
        self.kernel.interfaces.apply(state.name, changes, Missing())

    def _mark_ports(self, links: Iterable[Link]) -> None:
        """Have the attach driver record what a later job needs to know; without it everything works today."""
        try:
            self.attach.mark([link.origin for link in links if isinstance(link.origin, Port)])
        except AttachError as exc:
            LOG.debug("ports could not be marked, the next job tries again: %s", exc)

    def find_changed_tables(self, router_ids: Collection[str]) -> list[str]:
        """Return the routers of these whose packet filter tables are not as desired."""
        return self.table_check.find_changed(router_ids)

    def read_traffic(self, router_ids: Collection[str]) -> list[Traffic]:
        """Return the bytes of the floating IPs of these routers."""
        return read_traffic(self.kernel, self.memory, router_ids)

    def _note_refused_part(self, draft: Draft, missing: Missing) -> None:
        """Note if something of the shared part was refused: one router is degraded by it, and tries it again."""
        gateway, changes = draft.view.agent_gateway, draft.shared_job and draft.shared_job.changes
        if gateway is None or draft.shared is None or not changes:
            return
        refused = any((changes.namespace, change.item) in missing.refused for change in changes.items)
        if refused or (changes.tables and missing.lacks_tables(changes.namespace)):
            self.memory.networks.note_refused(gateway.network_id, draft.shared, draft.view.router.id)

    def _read_left_slices(self, view: HostView) -> None:
        """Note which slices of former networks are gone, though the job was refused something."""
        stem = names.router_stem(view.router.id)
        self.memory.doubt((network, stem) for network in self.memory.left_networks(view))
        self._settle_doubts()

    def _settle_doubts(self) -> None:
        """Read the slices of which a job that broke off may have changed any part; a read that fails is repeated."""
        for network, stem in sorted(self.memory.doubts):
            with contextlib.suppress(KernelError):
                self.memory.settle(network, stem, read_slice(self.kernel.interfaces, network, stem))

    def _tables_reserved(self, jobs: Sequence[NamespaceJob]) -> AbstractContextManager[None]:
        """Take the lock of iptables programs if the jobs change tables: before the first write, or not at all.

        :raises TablesLockedError: another program holds it
        """
        changes = any(job.changes.tables for job in jobs if not job.changes.remove)
        return self.kernel.packet_filter.reserve() if changes else nullcontext()

    def remove(self, router_id: str) -> Result:
        """Remove a router's own objects, and shared parts that no router uses any more."""
        started = time.perf_counter()
        self._settle_doubts()
        jobs = self.planner.removal_jobs(router_id, trusting=True)
        self.memory.trust.withdraw(router_id)
        plan = self.planner.removal_plan(router_id, jobs)
        self.services.remove(router_id)
        if not self.memory.allocations.knows_floating_ips(router_id):  # not in sync once since this process began
            self.memory.allocations.note_floating_ips(router_id, floating_ips(self.kernel, router_id))
        slices = self.memory.slices_of(router_id)
        with self.memory.doubting(lambda: slices):
            missing = self._executor.carry_out(jobs)
        if missing:
            self.memory.doubt(slices)
            plan = self.planner.removal_plan(router_id, [job.done(missing) for job in jobs])
            raise RefusedError(missing.errors, missing.held, Result(plan, time.perf_counter() - started))
        affected = self.memory.forget_router(router_id)
        return Result(plan, time.perf_counter() - started, affected=tuple(sorted(affected)))

    def remove_stale(self, known: Collection[str]) -> Result:
        """Remove all objects of ours that belong to no known router."""
        started = time.perf_counter()
        self.memory.snapshot.clear()  # a resync, if there was one, has read its slices
        self._settle_doubts()
        removal = StaleRemoval(self.planner.find_stale(known))
        with self.memory.doubting(lambda: removal.stale.slices):
            removal.end_services(self.services)
            removal.carry_out(self._executor)
        removal.remove_rest(self.kernel.namespaces, self.attach)
        staying = removal.owners(self.memory.allocations.stale_entries(known)[0])
        affected = self.memory.forget_stale({*known, *staying}, removal.slices)
        result = Result(removal.plan(staying), time.perf_counter() - started, affected=tuple(sorted(affected)))
        if removal.errors:
            self.memory.doubt(one for one in removal.stale.slices if one not in removal.slices)
            raise RefusedError(removal.errors, (), replace(result, staying=frozenset(staying)))
        return result

    def remove_bridges(self, networks: Collection[str] = (), await_teardown: bool = False) -> list[str]:
        """Remove idle bridges of ours."""
        return remove_bridges(self.kernel.namespaces, self.attach, networks, await_teardown)

    def flush(self) -> None:
        """Write state files that changed."""
        self._files.flush(self.memory.allocations)
