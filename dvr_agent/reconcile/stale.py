"""Left-overs: what is ours in the kernel and the state files, and belongs to no known router."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dvr_agent.attach.api import AttachDriver, OuterPort
from dvr_agent.desired import names
from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.desired.fip import empty_slice, slice_ownership
from dvr_agent.desired.host_allocations import new_link
from dvr_agent.kernel.api import Kernel
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.executor import Work
from dvr_agent.reconcile.inventory import Inventory, take_inventory
from dvr_agent.reconcile.networks import FipNetworks
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE
from dvr_agent.services.bundle import Services
from dvr_agent.state.diff import Changes, diff
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership


@dataclass(frozen=True, slots=True)
class Stale:
    """Everything that is left over.

    :ivar works: what has to be done to the namespaces
    :ivar outer: ports on the layer 2 side whose namespace is gone
    :ivar slices: (network, stem) of the slices that go
    :ivar served: ids of the routers whose services end, before their namespaces go
    :ivar files: names of ours in ``/run/netns`` that have no namespace
    """

    plan: Plan
    works: tuple[Work, ...]
    outer: tuple[OuterPort, ...]
    slices: tuple[tuple[str, str], ...]
    served: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def stale_routers(kernel: Kernel, known: Collection[str]) -> tuple[list[str], int]:
    """(routers present and not known, number of routers present)."""
    present = take_inventory(kernel).routers
    return sorted(present - set(known)), len(present)


def find_stale(
    kernel: Kernel,
    attach: AttachDriver,
    services: Services,
    known: Collection[str],
    networks: FipNetworks,
    entries: tuple[list[str], list[str]],
) -> Stale:
    """Look for left-overs.

    :param networks: which external networks the known routers use, or failed to use so far, and by which devices
    :param entries: router ids and floating IPs in the state files that are nobody's
    """
    found = take_inventory(kernel)
    wanted = networks.of_routers(known)
    stems = {names.router_stem(router_id) for router_id in known}
    works: list[Work] = []
    slices: list[tuple[str, str]] = []
    for network, here in sorted(found.slices.items()):
        gone = {stem: pair for stem, pair in here.items() if stem not in stems}
        slices += [(network, stem) for stem in sorted(gone)]
        if len(gone) == len(here) and network not in wanted:
            works.append(Work(Changes(names.FIP + network, remove=True)))
        else:
            works += [_slice(kernel, network, stem, pair) for stem, pair in sorted(gone.items())]
            works += _gateways(kernel, found, network, networks, stems)
    for router_id in sorted(found.routers - set(known)):
        for name in (names.QROUTER + router_id, names.SNAT + router_id):
            if kernel.namespaces.exists(name):
                works.append(Work(Changes(name, remove=True)))
    works = [work for work in works if work.changes]
    outer = _outer(kernel, attach, works)
    files = tuple(name for name in kernel.namespaces.empty_files() if names.parse_namespace(name))
    lines = [
        *(("(host)", f"- port {port.outer} of {port.namespace or 'no namespace'}") for port in outer),
        *(("(host)", f"- name {name} without a namespace") for name in files),
        *((PAIRS_FILE, f"- {router_id}") for router_id in entries[0]),
        *((PRIORITIES_FILE, f"- {fip}") for fip in entries[1]),
    ]
    served = tuple(sorted(services.routers() - set(known)))
    ended = tuple(line for router_id in served for line in services.plan_remove(router_id))
    plan = Plan("left-overs", tuple(work.changes for work in works), tuple(lines), services=ended)
    return Stale(plan, tuple(works), tuple(outer), tuple(slices), served, files)


def _slice(kernel: Kernel, network: str, stem: str, pair: LinkLocalPair | None) -> Work:
    namespace = names.FIP + network
    link = new_link(stem, pair) if pair else None
    observed = kernel.interfaces.observe(namespace, slice_ownership(stem, link), ())
    return Work(diff(observed, empty_slice(namespace, stem, link)) if observed else Changes(namespace))


def _gateways(
    kernel: Kernel, found: Inventory, network: str, networks: FipNetworks, known: Collection[str]
) -> list[Work]:
    """``fg-`` devices of agent gateway ports that are no longer in use; judged only if one is known to be.

    :param known: stems of the known routers: a device that the traffic of one of them still uses stays
    """
    current = networks.gateways.get(network)
    if current is None:
        return []
    stray = {device for device in found.gateways.get(network, set()) if device != current}
    stray = {device for device in stray if not networks.is_busy(network, device, known)}
    if not stray:
        return []
    ownership = Ownership(devices=frozenset(stray), main_only=True)
    observed = kernel.interfaces.observe(names.FIP + network, ownership, ())
    if observed is None:
        return []
    changes = diff(observed, NamespaceState(names.FIP + network, ownership))
    return [Work(changes, port_prefixes=(names.AGENT_GATEWAY,))]


def _outer(kernel: Kernel, attach: AttachDriver, works: list[Work]) -> list[OuterPort]:
    """Outer sides without a namespace.  Those of namespaces that are about to go vanish with them."""
    going = {work.changes.namespace for work in works if work.changes.remove}
    there = set(kernel.namespaces.list())
    return [port for port in attach.list() if port.namespace not in there and port.namespace not in going]
