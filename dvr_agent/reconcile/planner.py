"""Plans the changes that a router's document needs on this host.  The planner cannot write, by type: see ``reader``.

Read :meth:`Planner.plan_router` first: choose, allocate, compute the desired state, observe (``draft``), compare.
Choices on the way (agent gateway ports, allocations, routes) go to the host memory, so that the plans of several
routers agree.  Used by the reconciler, which carries the plans out, and alone by ``dvrctl plan``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from dvr_agent.desired import names
from dvr_agent.desired.fip import empty_slice
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, left_alone_reason
from dvr_agent.model.router import Router
from dvr_agent.plural import count
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.draft import Draft, Drafts
from dvr_agent.reconcile.fip_networks import SharedPart, device_of
from dvr_agent.reconcile.fip_slices import device_removal, slice_removal, without_staying
from dvr_agent.reconcile.hindrances import HostHindrances, RouterHindrances
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.reader import AttachReader, KernelReader, ServiceReader
from dvr_agent.reconcile.stale import Stale, find_stale, stale_routers
from dvr_agent.state.diff import Action, Change, Changes, diff, with_new_mac
from dvr_agent.state.link import Link, Port
from dvr_agent.state.missing import Missing, Paths
from dvr_agent.state.namespace import NamespaceState, without_device
from dvr_agent.state.ownership import FIP_TABLE, Ownership


@dataclass(frozen=True, slots=True)
class RouterJob:
    """Plan of one router, with its jobs for the executor, one per namespace in the order of their dependencies.

    :ivar draft: desired and observed state behind the jobs; the host memory notes it when the jobs are done
    :ivar paths: how the namespaces are connected
    """

    plan: Plan
    jobs: Sequence[NamespaceJob]
    draft: Draft
    paths: Paths

    @property
    def repairs_ports(self) -> bool:
        """True if a port is repaired: its device may be made anew, without addresses and routes."""
        return any(job.repair for job in self.jobs)

    def done(self, missing: Missing) -> Plan:
        """Return the plan without what was refused or skipped."""
        if not missing:
            return self.plan
        changes, ports = _changes_of([job.done(missing) for job in self.jobs])
        return replace(self.plan, changes=changes, ports=ports)


class Planner:
    """Plans routers, their removal and the removal of stale objects.

    :param memory: of the host; :meth:`HostMemory.load` comes before the first plan
    :ivar hindrances: finds what stops traffic in the namespaces of single routers
    """

    def __init__(
        self,
        kernel: KernelReader,
        attach: AttachReader,
        services: ServiceReader,
        settings: HostSettings,
        memory: HostMemory,
    ) -> None:
        self.services = services
        self._kernel, self._attach, self._memory = kernel, attach, memory
        self._drafts = Drafts(kernel, settings, memory)
        self.hindrances = RouterHindrances(kernel)
        self._host_hindrances = HostHindrances(kernel, attach, memory)

    def load(self) -> None:
        """Read state files and kernel once: which slices there are, which pairs and priorities are in use.

        :raises StateFileError: descriptors or memory are short; a retry may succeed
        """
        self._memory.load(self._kernel)

    def declare(self, documents: Iterable[tuple[str, Router]]) -> None:
        """Declare all (name, router) before the first is planned, so that their order does not matter."""
        self._drafts.declare(documents)

    def why_left_alone(self, router: Router) -> str:
        """Return why this agent neither builds nor removes the router on this host; empty if it does."""
        return left_alone_reason(router, self._drafts.settings)

    def has_left(self, router: Router) -> bool:
        """Return True if the router is left alone, and this host has what it built when the router was distributed."""
        if router.distributed or not self.why_left_alone(router):
            return False
        desired = self._memory.router(router.id).desired
        was_distributed = desired is not None and desired[0].distributed
        # Only distributed routers have a slice of a fip namespace: an agent that has started since sees it.
        return was_distributed or bool(self._memory.networks_of(router.id))

    def plan(self, router: Router) -> Plan:
        """Return the plan of a router, with a warning for each port that could not be plugged now.

        :raises NotSupportedError: the router is left alone
        :raises KernelError: the kernel could not be read
        """
        job = self.plan_router(router)
        port = job.draft.view.agent_gateway
        if port is not None:  # later plans count with the routes that this plan would make
            self._memory.networks.note_paths(port.network_id, router.id, [device_of(port)])
        warnings = [f"{device} could not be plugged: {why}" for device, why in sorted(self.obstacles(job).items())]
        return replace(job.plan, warnings=(*job.plan.warnings, *warnings))

    def obstacles(self, job: RouterJob) -> dict[str, str]:
        """Return why ports that the job would plug cannot be plugged now: device → text."""
        return self._attach.obstacles([port for part in job.jobs for port in part.new_ports])

    def host_hindrances(self) -> tuple[str, ...]:
        """Return what stops the traffic of many routers without being ours.

        :raises DvrError: it could not be read
        """
        return self._host_hindrances.find()

    def learn(self, router: Router) -> None:
        """Read a router's routes, so that :meth:`plan_stale` keeps the devices which they use.

        :raises DvrError: as :meth:`plan`
        """
        self.plan_router(router)

    def plan_router(
        self, router: Router, in_resync: bool = False, document: str = "", trusting: bool = False
    ) -> RouterJob:
        """Plan a job: choose, allocate, compute the desired state, observe, compare.

        :param in_resync: read the slice from the resync's snapshot, and skip a shared part that the resync has checked
        :param document: name of the router's document
        :param trusting: do not read what events of the kernel vouch for (:mod:`.trust`)
        :raises DvrError: as :meth:`plan`
        """
        draft = self._drafts.make(router, document)
        if not (trusting and self._drafts.trust(draft)):
            self._drafts.observe(draft, in_resync)
            if self._drafts.correct(draft):
                self._drafts.observe(draft)
        vouched = draft.vouched
        unchanged = vouched is not None and vouched.state is draft.state and self._attach.is_told_by_links
        jobs = [] if unchanged else self._jobs(draft, in_resync)
        draft.hindrances = (
            vouched.hindrances
            if vouched is not None
            else self.hindrances.find((draft.qrouter, draft.snat), draft.known)
        )
        plan = Plan(
            f"router {router.id}",
            *_changes_of(jobs),
            warnings=draft.state.warnings,
            services=self.services.plan(draft.served, draft.place),
            omitted=draft.state.omitted,
            hindrances=(*draft.hindrances, *self._attach.hindrances(router.networks)),
            held=_held_text(draft),
        )
        return RouterJob(plan, jobs, draft, _paths(draft.view))

    def plan_remove(self, router_id: str) -> Plan:
        """Return the plan of a router's removal."""
        return self.removal_plan(router_id, self.removal_jobs(router_id))

    def removal_plan(self, router_id: str, jobs: Sequence[NamespaceJob]) -> Plan:
        """Return the plan of a router's :meth:`removal_jobs`."""
        changes = tuple(job.changes for job in jobs)
        return Plan(f"router {router_id}", changes, services=self.services.plan_remove(router_id))

    def removal_jobs(self, router_id: str, trusting: bool = False) -> list[NamespaceJob]:
        """Return the jobs that remove a router's namespaces and its slices.

        :param trusting: as in :meth:`plan_router`
        """
        networks = self._memory.networks_of(router_id)
        jobs = [self._leave_network(network, router_id, trusting) for network in networks]
        exists = self._kernel.namespaces.exists
        own = [prefix + router_id for prefix in (names.QROUTER, names.SNAT) if exists(prefix + router_id)]
        if names.QROUTER + router_id in own:
            jobs = [job.without_devices() for job in jobs]
        jobs += [NamespaceJob(Changes(name, remove=True)) for name in own]
        return [job for job in jobs if job.changes]

    def plan_stale(self, known: Collection[str]) -> Plan:
        """Return the plan of the removal of stale objects.

        :param known: ids of all routers with a document
        """
        return self.find_stale(known).plan

    def find_stale(self, known: Collection[str]) -> Stale:
        """Return all objects of ours, in the kernel and the state files, that belong to no known router."""
        return find_stale(self._kernel, self._attach, self.services, known, self._memory)

    def stale_routers(self, known: Collection[str]) -> tuple[Sequence[str], int]:
        """Return (ids of routers present in the kernel that are not known, number of all routers present)."""
        return stale_routers(self._kernel, known)

    def idle_bridges(self, networks: Collection[str], plan: Plan) -> list[str]:
        """Return the names of bridges of ours that nothing uses after a plan, and that are of none of the networks."""
        return list(self._attach.idle(networks, {one.namespace for one in plan.changes if one.remove}))

    def _jobs(self, draft: Draft, in_resync: bool) -> list[NamespaceJob]:
        """Return one job per namespace, in the order in which the namespaces depend on each other."""
        state, view = draft.state, draft.view
        moving_out, moving_in = self._moving_ports(draft)
        half_inside, half_outside = self._half_pairs(draft)
        trusted = draft.vouched is not None and self._attach.is_told_by_links
        own = [self._job(draft.qrouter, state.qrouter, (*moving_out, *half_inside), trusted)]
        if state.slice is not None:
            job = self._job(draft.slice, state.slice, half_outside)
            changes = self._memory.routes.take_over(job.changes)
            own.append(job if changes is job.changes else replace(job, changes=changes))
        self._plan_shared(draft, in_resync, bool(own[-1]))
        jobs = [*([draft.shared_job] if draft.shared_job is not None else []), *own]
        jobs += [self._leave_network(network, view.router.id) for network in self._memory.left_networks(view)]
        if state.snat is not None:
            jobs.append(self._job(draft.snat, state.snat, (), trusted))
        elif (draft.vouched is None or draft.snat is not None) and self._kernel.namespaces.exists(view.snat):
            jobs.append(NamespaceJob(Changes(view.snat, remove=True), moving_in, port_prefixes=names.PORT_PREFIXES))
        return jobs

    def _moving_ports(self, draft: Draft) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
        """Return the removal of ports that the router's other namespace gets: the router is of another kind now.

        A port can be in one place only.  The draft's observed state loses those of the qrouter namespace.

        :returns: removals in the qrouter namespace, removals in the snat namespace
        """
        state, snat = draft.state, draft.view.snat
        if state.snat is not None:
            moving: list[Change] = []
            for name in sorted(link.name for link in state.snat.links):
                moving += device_removal(draft.qrouter, name)
                draft.qrouter = _without_moving(draft.qrouter, name)
            return tuple(moving), ()
        present = {link.name for link in draft.qrouter.links} if draft.qrouter is not None else set()
        new = frozenset(link.name for link in state.qrouter.links) - present
        if draft.view.router.distributed or not new or not self._kernel.namespaces.exists(snat):
            return (), ()
        found = self._kernel.interfaces.observe(snat, Ownership(devices=new), ())
        return (), tuple(change for device in sorted(new) for change in device_removal(found, device))

    def _plan_shared(self, draft: Draft, in_resync: bool, is_needed: bool) -> None:
        """Plan the part of the fip namespace that all routers share, unless it need not be looked at.

        :param is_needed: the slice changes, and may need what the shared part lacks
        """
        base, gateway, router_id = draft.state.base, draft.view.agent_gateway, draft.view.router.id
        if base is None or gateway is None:
            return
        networks, network = self._memory.networks, gateway.network_id
        part = draft.shared = networks.shared_part(base, network, router_id)
        if draft.slice is not None:
            if in_resync and networks.is_checked(network, part):
                return
            if draft.vouched is not None and self._attach.is_told_by_links and networks.is_vouched(network, part):
                return
            if not is_needed and networks.is_left_to_another(network, part, router_id):
                return
        draft.shared_job = self._announcing(self._shared_job(part), network)

    def _job(
        self,
        observed: NamespaceState | None,
        desired: NamespaceState,
        first: tuple[Change, ...] = (),
        trusted: bool = False,
    ) -> NamespaceJob:
        """Compare one namespace, and check the outer sides of its unchanged ports.

        :param trusted: ``observed`` is what events vouch for: ports that are as they were then need no check
        """
        changes = diff(observed, desired)
        ports = [link.origin for link in desired.links if isinstance(link.origin, Port)]
        if ports:
            new = {change.item.name for change in changes.items if isinstance(change.item, Link)}
            vouched = {link.origin for link in observed.links} if trusted and observed is not None else ()
            ports = [port for port in ports if port.device not in new and port not in vouched]
        wrong = self._attach.check(ports) if ports and observed is not None else {}
        repair = tuple((port, wrong[port.device]) for port in ports if port.device in wrong)
        return NamespaceJob(changes, first, repair, names.PORT_PREFIXES)

    def _announcing(self, job: NamespaceJob, network: str) -> NamespaceJob:
        """Return the job of a shared part; if neighbours may know a MAC that goes, it announces all routers' addresses.

        It is that of an ``fg-`` that gets another one, or of an earlier port's, which is removed: what was announced
        when its successor came may have been lost, since layer 2 was not ready yet.
        """
        changes = job.changes
        removed = any(one.action is Action.REMOVE and isinstance(one.item, Link) for one in changes.items)
        if not removed and not with_new_mac(changes.items):
            return job
        states = map(self._memory.desired_of, self._memory.routers_on(network))
        slices = [state.slice for state in states if state is not None and state.slice is not None]
        current = self._memory.networks.gateways.get(network)
        here = self._memory.allocations.has_floating_ip  # another host may have one whose router's job has failed
        answered = (
            one
            for state in slices
            for one in state.announcements
            if one.device == current and (":" in one.address or here(one.address))
        )
        found = {(one.device, one.address): one for one in (*changes.announcements, *answered)}
        return replace(job, changes=replace(changes, announcements=tuple(found.values())))

    def _shared_job(self, part: SharedPart) -> NamespaceJob:
        """Return the job for the part of a fip namespace that all routers share."""
        desired = {route.key for route in part.state.routes}
        return self._job(without_staying(self._drafts.read(part.state), part.staying, desired), part.state)

    @staticmethod
    def _half_pairs(draft: Draft) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
        """Return the removal of an end of the router's veth pair whose other end is missing or in another namespace.

        The draft's observed state loses that end, so that the whole pair is made anew.

        :returns: removals in the qrouter namespace, removals in the fip namespace
        """
        view = draft.view
        inside, outside = device_removal(draft.qrouter, view.rfp), device_removal(draft.slice, view.fpr)
        if draft.state.slice is None or bool(inside) == bool(outside):
            return (), ()
        draft.qrouter = without_device(draft.qrouter, view.rfp) if draft.qrouter is not None else None
        draft.slice = without_device(draft.slice, view.fpr) if draft.slice is not None else None
        return inside, outside

    def _leave_network(self, network: str, router_id: str, trusting: bool = False) -> NamespaceJob:
        """Return the job that removes a router's slice of a fip namespace, or the namespace with its last slice."""
        namespace = names.FIP + network
        if self._memory.networks.is_last(network, router_id):
            return NamespaceJob(Changes(namespace, remove=self._kernel.namespaces.exists(namespace)))
        pair = self._memory.allocations.pair(router_id)
        vouched = self._memory.trust.of(router_id) if trusting else None
        if vouched is not None and vouched.state.slice is not None and vouched.state.slice.name == namespace:
            return NamespaceJob(diff(vouched.state.slice, empty_slice(namespace, router_id, pair)))
        return slice_removal(self._kernel.interfaces, namespace, router_id, pair)


def _changes_of(jobs: Sequence[NamespaceJob]) -> tuple[tuple[Changes, ...], tuple[tuple[str, str], ...]]:
    """Return the changes of jobs, and the lines about their ports, as a plan has them."""
    changes = tuple(job.changes for job in jobs if job.changes)
    return changes, tuple(line for job in jobs for line in job.port_lines)


def _without_moving(state: NamespaceState | None, device: str) -> NamespaceState | None:
    """Return an observed state without a device; its limits stay in it, since their table outlives the device."""
    return replace(without_device(state, device), limits=state.limits) if state is not None else None


def _held_text(draft: Draft) -> str:
    """Return what VRRP holds in a namespace of the router, as text for the operator; empty: nothing."""
    place = draft.place
    if place.state is None:
        return ""
    role = "this host is the master" if place.is_master else "another host is the master, or none yet"
    numbers = f"{count(1 + len(place.state.addresses), 'address')}, {count(len(place.state.routes), 'route')}"
    return f"namespace {place.namespace}: held by VRRP ({role}): {numbers}"


def _paths(view: HostView) -> Paths:
    """Return which addresses are one unit, and where table 16 leads."""
    leads = {(view.qrouter, FIP_TABLE): view.fip} if view.fip is not None else {}
    subnets = ((subnet, subnet) for subnet in view.same_scope_subnets)
    return Paths((*view.local_pairs, *view.central_pairs, *subnets), leads)
