"""Stale objects: they are ours, in the kernel or the state files, and belong to no known router.

:func:`find_stale` reads and is the planner's; :class:`StaleRemoval` and :func:`remove_bridges` are the reconciler's.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from dvr_agent.attach.api import AttachDriver, OuterPort
from dvr_agent.desired import names
from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.desired.fip import empty_slice, slice_ownership
from dvr_agent.desired.host_allocations import new_fip_pair
from dvr_agent.errors import ServiceError
from dvr_agent.kernel.api import NamespaceManager
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.fip_networks import FipNetworks
from dvr_agent.reconcile.inventory import Inventory, take_inventory
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.reader import AttachReader, KernelReader, ServiceReader
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE
from dvr_agent.services.bundle import Services
from dvr_agent.state.diff import Changes, diff
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership

TEARDOWN_SECONDS = 5.0
"""How long the kernel may take to tear down removed namespaces, with the ports in them."""


@dataclass(frozen=True, slots=True)
class Stale:
    """All stale objects of the host.

    :ivar jobs: the changes of namespaces
    :ivar outer: layer 2 sides of ports, without a namespace
    :ivar slices: (network, stem) of the slices that are removed
    :ivar served: ids of the routers whose services end before their namespaces are removed
    :ivar files: names of ours in ``/run/netns`` that have no namespace
    """

    plan: Plan
    jobs: tuple[NamespaceJob, ...]
    outer: tuple[OuterPort, ...]
    slices: tuple[tuple[str, str], ...]
    served: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class StaleRemoval:
    """Removes stale objects of all kinds; services come first, since they hold their namespace.

    :param services: ended for stale routers; if one cannot be ended, its namespace stays
    :ivar jobs: for the executor
    """

    def __init__(self, stale: Stale, services: Services) -> None:
        self.stale = stale
        self._errors: dict[str, ServiceError] = {}
        for router_id in stale.served:
            try:
                services.remove(router_id)
            except ServiceError as exc:
                self._errors[names.QROUTER + router_id] = exc
        self.jobs = [job for job in stale.jobs if job.changes.namespace not in self._errors]

    def remove_rest(self, namespaces: NamespaceManager, attach: AttachDriver) -> None:
        """Remove what is in no namespace: outer sides of ports, and names without a namespace."""
        attach.unplug_outer(self.stale.outer)
        for name in self.stale.files:
            namespaces.remove_file(name)

    def raise_errors(self) -> None:
        """Raise the first error of a service.

        :raises ServiceError: a service still holds its namespace
        """
        for error in self._errors.values():
            raise error


def remove_bridges(
    namespaces: NamespaceManager, attach: AttachDriver, networks: Collection[str], torn_down: bool
) -> list[str]:
    """Remove bridges of ours that nothing uses; returns their names.

    :param networks: bridges of these stay: an instance that is about to start may count on them
    :param torn_down: first wait until the kernel has torn down the ports of namespaces that were removed
    """
    deadline = time.monotonic() + TEARDOWN_SECONDS
    while torn_down and _has_orphans(namespaces, attach) and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(attach.tidy(networks))


def _has_orphans(namespaces: NamespaceManager, attach: AttachDriver) -> bool:
    """Return True if an outer side's namespace is gone: the kernel has not torn it down yet."""
    there = set(namespaces.list())
    return any(port.namespace not in there for port in attach.list())


def stale_routers(kernel: KernelReader, known: Collection[str]) -> tuple[list[str], int]:
    """Return (routers present and not known, number of routers present)."""
    present = take_inventory(kernel).routers
    return sorted(present - set(known)), len(present)


def find_stale(
    kernel: KernelReader,
    attach: AttachReader,
    services: ServiceReader,
    known: Collection[str],
    networks: FipNetworks,
    entries: tuple[list[str], list[str]],
) -> Stale:
    """Find all stale objects.

    :param networks: which external networks the known routers use, or failed to use so far, and by which devices
    :param entries: router ids and floating IPs in the state files that belong to no known router
    """
    found = take_inventory(kernel)
    wanted = networks.of_routers(known)
    stems = {names.router_stem(router_id) for router_id in known}
    jobs: list[NamespaceJob] = []
    slices: list[tuple[str, str]] = []
    for network, here in sorted(found.slices.items()):
        gone = {stem: pair for stem, pair in here.items() if stem not in stems}
        slices += [(network, stem) for stem in sorted(gone)]
        if len(gone) == len(here) and network not in wanted:
            jobs.append(NamespaceJob(Changes(names.FIP + network, remove=True)))
        else:
            jobs += [_slice(kernel, network, stem, pair) for stem, pair in sorted(gone.items())]
            jobs += _gateways(kernel, found, network, networks, stems)
    for router_id in sorted(found.routers - set(known)):
        for name in (names.QROUTER + router_id, names.SNAT + router_id):
            if kernel.namespaces.exists(name):
                jobs.append(NamespaceJob(Changes(name, remove=True)))
    jobs = [job for job in jobs if job.changes]
    outer = _outer(kernel, attach, jobs)
    files = tuple(name for name in kernel.namespaces.empty_files() if names.parse_namespace(name))
    lines = [
        *(("(host)", f"- port {port.outer} of {port.namespace or 'no namespace'}") for port in outer),
        *(("(host)", f"- name {name} without a namespace") for name in files),
        *((PAIRS_FILE, f"- {router_id}") for router_id in entries[0]),
        *((PRIORITIES_FILE, f"- {fip}") for fip in entries[1]),
    ]
    served = tuple(sorted(services.routers() - set(known)))
    ended = tuple(line for router_id in served for line in services.plan_remove(router_id))
    plan = Plan("stale objects", tuple(job.changes for job in jobs), tuple(lines), services=ended)
    return Stale(plan, tuple(jobs), tuple(outer), tuple(slices), served, files)


def _slice(kernel: KernelReader, network: str, stem: str, subnet: LinkLocalPair | None) -> NamespaceJob:
    namespace = names.FIP + network
    pair = new_fip_pair(stem, subnet) if subnet else None
    observed = kernel.interfaces.observe(namespace, slice_ownership(stem, pair), ())
    return NamespaceJob(diff(observed, empty_slice(namespace, stem, pair)) if observed else Changes(namespace))


def _gateways(
    kernel: KernelReader, found: Inventory, network: str, networks: FipNetworks, known: Collection[str]
) -> list[NamespaceJob]:
    """Return the removal of ``fg-`` devices that are no longer in use, where the device in use is known.

    :param known: stems of the known routers: a device that the traffic of one of them still uses stays
    """
    current = networks.gateways.get(network)
    if current is None:
        return []
    stale = {device for device in found.gateways.get(network, set()) if device != current}
    stale = {device for device in stale if not networks.is_busy(network, device, known)}
    if not stale:
        return []
    ownership = Ownership(devices=frozenset(stale), main_only=True)
    observed = kernel.interfaces.observe(names.FIP + network, ownership, ())
    if observed is None:
        return []
    changes = diff(observed, NamespaceState(names.FIP + network, ownership))
    return [NamespaceJob(changes, port_prefixes=(names.AGENT_GATEWAY,))]


def _outer(kernel: KernelReader, attach: AttachReader, jobs: list[NamespaceJob]) -> list[OuterPort]:
    """Return outer sides without a namespace; those of namespaces that are removed vanish with them."""
    going = {job.changes.namespace for job in jobs if job.changes.remove}
    there = set(kernel.namespaces.list())
    return [port for port in attach.list() if port.namespace not in there and port.namespace not in going]
