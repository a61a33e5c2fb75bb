"""Stale objects: objects of ours, in the kernel or the state files, that belong to no known router.

The planner finds them (:func:`find_stale`), the reconciler removes them (:class:`StaleRemoval`,
:func:`remove_bridges`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

from dvr_agent.attach.api import AttachDriver, OuterPort
from dvr_agent.desired import names
from dvr_agent.desired.host_allocations import new_fip_pair
from dvr_agent.desired.ndp_proxy import EVERYTHING
from dvr_agent.errors import DvrError, KernelError, NamespaceGoneError, ServiceError
from dvr_agent.kernel.api import NamespaceManager
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.executor import Executor
from dvr_agent.reconcile.fip_networks import FipNetworks
from dvr_agent.reconcile.fip_slices import slice_removal
from dvr_agent.reconcile.inventory import Inventory, take_inventory
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.reader import AttachReader, KernelReader, ServiceReader
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE
from dvr_agent.services.bundle import Services
from dvr_agent.state.diff import Action, Change, Changes, diff
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership

_PROXIES = Ownership(devices=frozenset({"lo"}), proxied=EVERYTHING)
TEARDOWN_SECONDS = 5.0
"""How long the kernel may take to tear down removed namespaces, with the ports in them."""


@dataclass(frozen=True, slots=True)
class Stale:
    """All stale objects of the host.

    :ivar plan: all of them, for the operator
    :ivar jobs: the removals in namespaces, and of namespaces
    :ivar outer: layer 2 sides of ports without a namespace
    :ivar slices: (network, stem) of the slices that are removed
    :ivar served: ids of stale routers with services, which end before the namespaces are removed
    :ivar files: names of ours in ``/run/netns`` without a namespace
    """

    plan: Plan
    jobs: tuple[NamespaceJob, ...]
    outer: tuple[OuterPort, ...]
    slices: tuple[tuple[str, str], ...]
    served: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class StaleRemoval:
    """Removes stale objects of all kinds: services first, since their processes keep the namespace alive.

    What is refused stays, and everything else goes: a namespace that cannot be changed is no reason to keep another.

    :ivar errors: one for each object that was refused, in order
    """

    def __init__(self, stale: Stale) -> None:
        self.stale = stale
        self.errors: list[DvrError] = []
        self._done: list[NamespaceJob] = []
        self._staying: set[str] = set()
        """Namespaces that may have stale objects still."""
        self._served: set[str] = set()
        """Ids of routers with a service that did not end."""
        self._lines: set[tuple[str, str]] = set()
        """Lines of the plan about what stays outside of namespaces."""

    def plan(self, staying: Collection[str]) -> Plan:
        """Return what was removed.

        :param staying: :meth:`owners`, whose entries in the state files stay
        """
        lines = self._lines | {(PAIRS_FILE, f"- {router_id}") for router_id in staying}
        return replace(
            self.stale.plan,
            changes=tuple(job.changes for job in self._done if job.changes),
            ports=tuple(line for line in self.stale.plan.ports if line not in lines),
            services=tuple(one for one in self.stale.plan.services if one.router_id not in self._served),
        )

    @property
    def slices(self) -> list[tuple[str, str]]:
        """(Network, stem) of the slices that are gone."""
        return [one for one in self.stale.slices if names.FIP + one[0] not in self._staying]

    def owners(self, allocated: Iterable[str]) -> set[str]:
        """Return the ids of routers of which something stays.

        :param allocated: ids of routers that may be the owner of a slice
        """
        networks = {network for network, _stem in self.stale.slices if names.FIP + network in self._staying}
        stems = {stem for network, stem in self.stale.slices if network in networks}
        parsed = filter(None, map(names.parse_namespace, self._staying))
        own = {object_id for prefix, object_id in parsed if prefix != names.FIP}
        return own | {router_id for router_id in allocated if names.router_stem(router_id) in stems}

    def end_services(self, services: Services) -> None:
        """End the services of stale routers; a namespace that a service keeps alive stays."""
        for router_id in self.stale.served:
            try:
                services.remove(router_id)
            except ServiceError as exc:
                self.errors.append(exc)
                self._staying.add(names.QROUTER + router_id)
                self._served.add(router_id)

    def carry_out(self, executor: Executor) -> None:
        """Remove what is in namespaces, and namespaces."""
        for job in self.stale.jobs:
            name = job.changes.namespace
            if job.changes.remove and name in self._staying:
                continue
            try:
                missing = executor.carry_out([job])
            except NamespaceGoneError:  # with all that was stale in it
                continue
            except KernelError as exc:
                self._note(exc)
                self._staying.add(name)
                continue
            if missing:
                self._staying.add(name)
            for error in missing.errors:
                self._note(error)
            self._done.append(job.done(missing))

    def remove_rest(self, namespaces: NamespaceManager, attach: AttachDriver) -> None:
        """Remove objects outside of namespaces: outer sides of ports, and names without a namespace."""
        if self.stale.outer and not self._try(partial(attach.unplug_outer, self.stale.outer)):
            for port in self.stale.outer:
                if not self._try(partial(attach.unplug_outer, [port])):
                    self._lines.add(_port_line(port))
        for name in self.stale.files:
            if not self._try(partial(namespaces.remove_file, name)):
                self._lines.add(_file_line(name))

    def _try(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except KernelError as exc:
            self._note(exc)
            return False
        return True

    def _note(self, error: DvrError) -> None:
        if str(error) not in map(str, self.errors):
            self.errors.append(error)


def remove_bridges(
    namespaces: NamespaceManager, attach: AttachDriver, networks: Collection[str], await_teardown: bool
) -> list[str]:
    """Remove bridges of ours that nothing uses; returns their names.

    :param networks: bridges of these stay: an instance that is about to start may count on them
    :param await_teardown: first wait until the kernel has torn down the ports of namespaces that were removed
    """
    deadline = time.monotonic() + TEARDOWN_SECONDS
    while await_teardown and _has_orphans(namespaces, attach) and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(attach.tidy(networks))


def _has_orphans(namespaces: NamespaceManager, attach: AttachDriver) -> bool:
    """Return True if an outer side has no namespace any more: the kernel has not torn the port down yet."""
    existing = set(namespaces.list())
    return any(port.namespace not in existing for port in attach.list())


def stale_routers(kernel: KernelReader, known: Collection[str]) -> tuple[list[str], int]:
    """Return (ids of routers present in the kernel that are not known, number of all routers present)."""
    present = take_inventory(kernel).routers
    return sorted(present - set(known)), len(present)


def find_stale(
    kernel: KernelReader,
    attach: AttachReader,
    services: ServiceReader,
    known: Collection[str],
    memory: HostMemory,
) -> Stale:
    """Find all stale objects.

    :param known: ids of all routers with a document
    :param memory: knows the external networks of the known routers, and what is allocated to them
    """
    found = take_inventory(kernel)
    entries = memory.allocations.stale_entries(known)
    jobs, slices = _fip_jobs(kernel, found, memory.networks, known)
    jobs += _remaining_jobs(kernel, found, memory, known)
    jobs += _proxy_jobs(kernel, found, memory, known)
    for router_id in sorted(found.routers - set(known)):
        for name in (names.QROUTER + router_id, names.SNAT + router_id):
            if kernel.namespaces.exists(name):
                jobs.append(NamespaceJob(Changes(name, remove=True)))
    jobs = [job for job in jobs if job.changes]
    outer = _outer_sides(kernel, attach, jobs)
    files = tuple(name for name in kernel.namespaces.empty_files() if names.parse_namespace(name))
    served = tuple(sorted(services.routers() - set(known)))
    plan = Plan(
        "stale objects",
        tuple(job.changes for job in jobs),
        _lines(outer, files, entries),
        services=tuple(line for router_id in served for line in services.plan_remove(router_id)),
    )
    return Stale(plan, tuple(jobs), tuple(outer), tuple(slices), served, files)


def _lines(
    outer: Collection[OuterPort], files: Collection[str], entries: tuple[list[str], list[str]]
) -> tuple[tuple[str, str], ...]:
    """Return lines of the plan, as in ``Plan.ports``, for stale objects outside of namespaces."""
    return (
        *map(_port_line, outer),
        *map(_file_line, files),
        *((PAIRS_FILE, f"- {router_id}") for router_id in entries[0]),
        *((PRIORITIES_FILE, f"- {fip}") for fip in entries[1]),
    )


def _port_line(port: OuterPort) -> tuple[str, str]:
    return "(host)", f"- port {port.outer} of {port.namespace or 'no namespace'}"


def _file_line(name: str) -> tuple[str, str]:
    return "(host)", f"- name {name} without a namespace"


def _fip_jobs(
    kernel: KernelReader, found: Inventory, networks: FipNetworks, known: Collection[str]
) -> tuple[list[NamespaceJob], list[tuple[str, str]]]:
    """Return (jobs that remove stale slices, devices and whole fip namespaces, (network, stem) of the slices)."""
    jobs: list[NamespaceJob] = []
    slices: list[tuple[str, str]] = []
    in_use = networks.of_routers(known)
    stems = {names.router_stem(router_id) for router_id in known}
    for network, subnets in sorted(found.slices.items()):
        namespace = names.FIP + network
        stale = {stem: subnet for stem, subnet in sorted(subnets.items()) if stem not in stems}
        slices += [(network, stem) for stem in stale]
        if len(stale) == len(subnets) and network not in in_use:
            jobs.append(NamespaceJob(Changes(namespace, remove=True)))
            continue
        for stem, subnet in stale.items():
            pair = new_fip_pair(stem, subnet) if subnet else None
            jobs.append(slice_removal(kernel.interfaces, namespace, stem, pair))
        jobs += _gateway_jobs(kernel, found, network, networks, stems)
    return jobs, slices


def _remaining_jobs(
    kernel: KernelReader, found: Inventory, memory: HostMemory, known: Collection[str]
) -> list[NamespaceJob]:
    """Return the jobs that remove what is left of slices without their device: a rule, and routes of its table.

    A known router's slice may lack its device for now; in a network that the router has left it has no slice.
    """
    jobs = []
    stems = {names.router_stem(router_id) for router_id in known}
    used = memory.allocations.subnets_of(known)
    for network, remains in sorted(found.remains.items()):
        for stem, subnet in sorted(remains.items()):
            if stem not in stems or not memory.networks.has_slice(network, stem):
                is_own = subnet is not None and subnet not in used and subnet not in found.slices[network].values()
                pair = new_fip_pair(stem, subnet) if is_own and subnet is not None else None
                jobs.append(slice_removal(kernel.interfaces, names.FIP + network, stem, pair))
    return jobs


def _proxy_jobs(
    kernel: KernelReader, found: Inventory, memory: HostMemory, known: Collection[str]
) -> list[NamespaceJob]:
    """Return the jobs that remove proxied neighbours of slices without device: nothing else says whose they were.

    None in a network with a router whose desired state is not known, and in one in which no router can have any.
    """
    jobs = []
    for network in sorted(found.gateways):
        namespace = names.FIP + network
        here = [one for one in known if memory.networks.has_slice(network, names.router_stem(one))]
        desired = [memory.desired_of(router_id) for router_id in here]
        slices = [one.slice for one in desired if one is not None and one.slice is not None]
        if len(slices) < len(here) or not any(one.ownership.proxied for one in slices):
            continue
        wanted = frozenset(proxy for one in slices for proxy in one.proxy_neighbours)
        observed = kernel.interfaces.observe(namespace, _PROXIES, ())
        stale = sorted(observed.proxy_neighbours - wanted) if observed is not None else []
        changes = tuple(Change(Action.REMOVE, one, one) for one in stale)
        jobs.append(NamespaceJob(Changes(namespace, items=changes)))
    return jobs


def _gateway_jobs(
    kernel: KernelReader, found: Inventory, network: str, networks: FipNetworks, known: Collection[str]
) -> list[NamespaceJob]:
    """Return the job that removes the ``fg-`` devices of earlier agent gateway ports; none if the port is not known.

    :param known: stems of the known routers: a device that their routes still use stays
    """
    current = networks.gateways.get(network)
    if current is None:
        return []
    stale = {device for device in found.gateways.get(network, {}) if device != current}
    stale = {device for device in stale if not networks.is_busy(network, device, known)}
    if not stale:
        return []
    ownership = Ownership(devices=frozenset(stale), main_only=True)
    observed = kernel.interfaces.observe(names.FIP + network, ownership, ())
    if observed is None:
        return []
    changes = diff(observed, NamespaceState(names.FIP + network, ownership))
    return [NamespaceJob(changes, port_prefixes=(names.AGENT_GATEWAY,))]


def _outer_sides(kernel: KernelReader, attach: AttachReader, jobs: list[NamespaceJob]) -> list[OuterPort]:
    """Return the outer sides of ports without a namespace; outer sides of removed namespaces vanish by themselves."""
    removed = {job.changes.namespace for job in jobs if job.changes.remove}
    existing = set(kernel.namespaces.list())
    return [port for port in attach.list() if port.namespace not in existing and port.namespace not in removed]
