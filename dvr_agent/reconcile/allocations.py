"""The host's allocations: a link-local subnet (/31) per router, a rule priority per floating IP.

They come from the state files, corrected by the kernel's values.  Part of the host memory; ``allocation_files`` writes
them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from dvr_agent.desired.allocation import (
    PAIRS,
    PRIORITIES,
    Allocator,
    LinkLocalPair,
    parse_pairs,
    parse_priorities,
)
from dvr_agent.desired.host_allocations import FipPair, HostAllocations, new_fip_pair
from dvr_agent.desired.host_view import HostView
from dvr_agent.reconcile.statefile import (
    PAIRS_FILE,
    PRIORITIES_FILE,
    StateFileError,
    read_entries,
)
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import FIP_PRIORITIES, FIP_TABLE

LOG = logging.getLogger(__name__)

V = TypeVar("V")
PriorityReader = Callable[[str], Iterable[int]]
"""Returns the priorities of our rules in the qrouter namespace of a router."""


def _no_priorities(router_id: str) -> Iterable[int]:
    return ()


class Allocations:
    """Link-local subnets and rule priorities of one host, in memory; ``allocation_files`` writes them.

    :param state_path: directory of the state files, which are read at start
    """

    def __init__(self, state_path: Path) -> None:
        self._state_path = state_path
        self._subnets: Allocator[LinkLocalPair] = Allocator(PAIRS, {})
        self._priorities: Allocator[int] = Allocator(PRIORITIES, {})
        self._shared: dict[str, int] = {}
        """Floating IP → priority that one of another router may have, too: all are used up.  It stands in no file."""
        self._fips: dict[str, tuple[str, ...]] = {}
        self._uses: dict[str, int] = {}
        """Floating IP → number of routers that have it, mostly one."""
        self._pairs: dict[str, FipPair] = {}
        self._unread: set[str] = set()
        """Routers in the kernel whose rules were not read for the priorities in use."""
        self._read_priorities: PriorityReader = _no_priorities

    def load(
        self,
        in_kernel: Mapping[str, LinkLocalPair],
        subnets: Iterable[LinkLocalPair],
        routers: Iterable[str],
        read_priorities: PriorityReader = _no_priorities,
    ) -> None:
        """Read the state files.

        A file that cannot be read counts as empty, and is written anew: the kernel has all values that matter.

        :param in_kernel: router id → subnet in the kernel, which takes precedence over the file
        :param subnets: subnets in the kernel on devices of unknown routers
        :param routers: ids of the routers in the kernel
        :param read_priorities: reads the rule priorities that a router has in the kernel; called before a new one is
            allocated, for the routers that no job has brought in sync until then: a start reads nothing by it
        :raises StateFileError: descriptors or memory are short; a retry may succeed
        """
        file, unread = self._read(PAIRS_FILE, parse_pairs)
        self._subnets = Allocator(
            PAIRS, {**in_kernel, **{key: subnet for key, subnet in file.items() if key not in in_kernel}}
        )
        self._subnets.dirty |= self._subnets.entries() != file or unread
        self._subnets.reserve(subnets)
        priorities_file, unread = self._read(PRIORITIES_FILE, parse_priorities)
        self._priorities = Allocator(PRIORITIES, priorities_file)
        self._priorities.dirty |= unread
        self._unread, self._read_priorities = set(routers), read_priorities

    @property
    def pools(self) -> tuple[tuple[str, Allocator[LinkLocalPair] | Allocator[int]], ...]:
        """(Name of the state file, its allocator) of both pools, for ``AllocationFiles``."""
        return (PAIRS_FILE, self._subnets), (PRIORITIES_FILE, self._priorities)

    @property
    def dirty(self) -> bool:
        """True if the files lack an allocation."""
        return self._subnets.dirty or self._priorities.dirty

    def pair(self, router_id: str) -> FipPair | None:
        """Return the router's pair to a fip namespace, if it has one."""
        subnet = self._subnets.get(router_id)
        return self._pairs.get(router_id) or (new_fip_pair(router_id, subnet) if subnet else None)

    def subnets_of(self, router_ids: Iterable[str]) -> set[LinkLocalPair]:
        """Return the /31 of these routers' pairs."""
        found = map(self._subnets.get, router_ids)
        return {subnet for subnet in found if subnet is not None}

    def adopt_subnet(self, router_id: str, subnet: LinkLocalPair) -> None:
        """Adopt the subnet that the kernel has for a router, unless it belongs to another router."""
        if not self._subnets.adopt(router_id, subnet):
            LOG.warning(
                "router %s: its pair uses %s, which belongs to router %s; it gets another",
                router_id, subnet, self._subnets.owner(subnet),
            )  # fmt: skip

    def adopt_priority(self, fip: str, priority: int) -> None:
        """Adopt the priority that the kernel has for a floating IP.

        If the state file gives the priority to a floating IP that no router here has, the file is outdated.
        """
        if self._priorities.get(fip) == priority:
            return
        owner = self._priorities.owner(priority)
        if owner is not None and owner not in self._uses:
            self._priorities.release(owner)
        if self._priorities.adopt(fip, priority):
            self._shared.pop(fip, None)
        elif self._priorities.full:
            self._shared[fip] = priority

    def allocate(self, view: HostView) -> HostAllocations:
        """Return the router's allocations; missing ones are made.

        :raises AllocationError: a pool is used up
        """
        if view.agent_gateway is None:
            return HostAllocations()
        subnet = self._subnets.allocate(view.router.id)
        pair = self._pairs.get(view.router.id)
        if pair is None or pair.subnet != subnet:
            pair = self._pairs[view.router.id] = new_fip_pair(view.router.id, subnet)
        return HostAllocations(pair, self._priorities_of(view))

    def correct(
        self,
        view: HostView,
        allocated: HostAllocations,
        qrouter: NamespaceState | None,
        fip_slice: NamespaceState | None,
    ) -> HostAllocations:
        """Return the allocations, corrected by the values in the observed state, which carry traffic."""
        if allocated.pair is None or qrouter is None:
            return allocated
        pair = self._observed_pair(view, allocated.pair, qrouter, fip_slice)
        by_source: dict[str, list[int]] = {}
        for rule in qrouter.rules:
            if rule.src is not None and rule.table == FIP_TABLE and rule.priority in FIP_PRIORITIES:
                by_source.setdefault(rule.src, []).append(rule.priority)
        for address, fixed in view.local_pairs:
            found = by_source.get(f"{fixed}/32", ())
            if found and self._priority(address) not in found:
                self.adopt_priority(address, min(found))
        return HostAllocations(pair, self._priorities_of(view))

    def note_floating_ips(self, router_id: str, fips: Iterable[str]) -> None:
        """Note the floating IPs that a router has here now, and release the priorities of its former ones."""
        before, current = self._fips.get(router_id, ()), tuple(fips)
        self._fips[router_id] = current
        if before == current:
            return
        for fip in set(current).difference(before):
            self._uses[fip] = self._uses.get(fip, 0) + 1
        for fip in set(before).difference(current):
            self._uses[fip] -= 1
            if not self._uses[fip]:  # else it has moved to another router
                del self._uses[fip]
                self._priorities.release(fip)
                self._shared.pop(fip, None)

    def knows_floating_ips(self, router_id: str) -> bool:
        """Return True if :meth:`note_floating_ips` was called for the router."""
        return router_id in self._fips

    def has_floating_ip(self, address: str) -> bool:
        """Return True if a router here has the floating IP, as :meth:`note_floating_ips` was told."""
        return address in self._uses

    def release(self, router_id: str) -> None:
        """Release all allocations of a router that has left the host."""
        self.release_pair(router_id)
        self.note_floating_ips(router_id, ())

    def release_pair(self, router_id: str) -> None:
        """Release the subnet of a router that no longer has a pair to a fip namespace."""
        self._subnets.release(router_id)
        self._pairs.pop(router_id, None)

    def stale_entries(self, known: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return (router ids, floating IPs) in the state files that belong to no known router.

        Floating IPs are listed only when every known router has been in sync once: until then it is not known which
        floating IPs the routers have.
        """
        known = set(known)
        routers = sorted(self._subnets.entries().keys() - known)
        if known - self._fips.keys():
            return routers, []
        current = {fip for router_id in known for fip in self._fips[router_id]}
        return routers, sorted(set(self._priorities.entries()) - current)

    def drop_stale(self, known: Iterable[str]) -> None:
        """Release :meth:`stale_entries`."""
        known = set(known)
        routers, stale_fips = self.stale_entries(known)
        for router_id in routers:
            self._subnets.release(router_id)
        for fip in stale_fips:
            self._priorities.release(fip)
        self._fips = {router_id: fips for router_id, fips in self._fips.items() if fips or router_id in known}

    def _read(self, name: str, parse: Callable[[str], tuple[dict[str, V], list[str]]]) -> tuple[dict[str, V], bool]:
        """Return (entries of a state file, True if the file exists and cannot be read)."""
        try:
            return read_entries(self._state_path / name, parse), False
        except StateFileError as exc:
            if exc.is_shortage:
                raise
            reason = str(exc)
        LOG.error("state file cannot be read, the kernel's values are used alone: %s", reason)
        return {}, True

    def _priorities_of(self, view: HostView) -> tuple[tuple[str, int], ...]:
        fips = sorted(view.local_addresses)
        found = self._known_priorities(fips)
        if None in found:
            if self._unread:
                self._reserve_priorities()
            new = [fip for fip, known in zip(fips, found, strict=True) if known is None]
            for fip in self._priorities.allocate_all(new):
                self._share_priority(fip, fips)
            found = self._known_priorities(fips)
        return tuple([(fip, priority) for fip, priority in zip(fips, found, strict=True) if priority is not None])

    def _known_priorities(self, fips: Sequence[str]) -> list[int | None]:
        own, shared = self._priorities.known(fips), self._shared
        return [shared.get(fip) or known for fip, known in zip(fips, own, strict=True)] if shared else own

    def _priority(self, fip: str) -> int | None:
        return self._shared.get(fip) or self._priorities.get(fip)

    def _share_priority(self, fip: str, fips: Sequence[str]) -> None:
        """Give a floating IP a priority that none of its router has; there is none that no other floating IP has.

        :param fips: the router's; its namespace has no others
        :raises AllocationError: these have all priorities
        """
        taken = {priority for priority in self._known_priorities(fips) if priority is not None}
        self._shared[fip] = self._priorities.first(fip, [taken])

    def _reserve_priorities(self) -> None:
        """Reserve the priorities of routers that were not in sync yet; of the others all are allocated.

        :raises KernelError: a namespace could not be read
        """
        for router_id in sorted(self._unread - self._fips.keys()):
            self._priorities.reserve(self._read_priorities(router_id))
            self._unread.discard(router_id)
        self._unread.clear()

    def _observed_pair(
        self, view: HostView, pair: FipPair, qrouter: NamespaceState, fip_slice: NamespaceState | None
    ) -> FipPair:
        """Return the router's pair as observed, or the given one if the kernel lacks one of its ends."""
        rfp = next((one for one in qrouter.links if one.name == view.rfp), None)
        fpr = next((one for one in fip_slice.links if one.name == view.fpr), None) if fip_slice else None
        if rfp is None or fpr is None:
            return pair
        subnets = [
            subnet
            for address in qrouter.addresses
            if address.device == view.rfp and (subnet := LinkLocalPair.parse(address.cidr)) is not None
        ]
        if subnets and pair.subnet not in subnets:
            self.adopt_subnet(view.router.id, min(subnets))
        subnet = self._subnets.allocate(view.router.id)
        # Once the router was in sync, other MAC addresses are drift: the IPv6 link-local addresses derive from the old.
        known = view.router.id in self._fips
        found = replace(pair, subnet=subnet) if known else FipPair(subnet, rfp.mac, fpr.mac)
        self._pairs[view.router.id] = found
        return found
