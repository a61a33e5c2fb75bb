"""The host's link-local subnets and rule priorities: from the state files, corrected by what the kernel holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
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


class Allocations:
    """Link-local subnets and rule priorities of one host, in memory; ``allocation_files`` writes them.

    :param state_path: directory of the state files, which are read at start
    """

    def __init__(self, state_path: Path) -> None:
        self._state_path = state_path
        self._subnets: Allocator[LinkLocalPair] = Allocator(PAIRS, {})
        self._priorities: Allocator[int] = Allocator(PRIORITIES, {})
        self._fips: dict[str, frozenset[str]] = {}
        self._pairs: dict[str, FipPair] = {}

    def load(
        self, in_kernel: Mapping[str, LinkLocalPair], subnets: Iterable[LinkLocalPair], priorities: Iterable[int]
    ) -> None:
        """Read the state files.

        :param in_kernel: subnets in use, by router: they win over the file
        :param subnets: subnets in use by links whose router is not known
        :param priorities: rule priorities in use
        A file that cannot be read counts as empty, and is written anew: the kernel holds what matters.

        :raises StateFileError: the host is short of something that reading needs; worth another try
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
        self._priorities.reserve(priorities)

    @property
    def pools(self) -> tuple[tuple[str, Allocator[LinkLocalPair] | Allocator[int]], ...]:
        """Name of the state file and its content, for ``AllocationFiles``."""
        return (PAIRS_FILE, self._subnets), (PRIORITIES_FILE, self._priorities)

    @property
    def dirty(self) -> bool:
        """True if the files lack an allocation."""
        return self._subnets.dirty or self._priorities.dirty

    def pair(self, router_id: str) -> FipPair | None:
        """Return the router's pair to a fip namespace, if it has one."""
        subnet = self._subnets.get(router_id)
        return self._pairs.get(router_id) or (new_fip_pair(router_id, subnet) if subnet else None)

    def adopt_subnet(self, router_id: str, subnet: LinkLocalPair) -> None:
        """Adopt the subnet that the kernel has for the router."""
        if not self._subnets.adopt(router_id, subnet):
            LOG.warning(
                "router %s: its pair uses %s, which belongs to router %s; it gets another",
                router_id, subnet, self._subnets.owner(subnet),
            )  # fmt: skip

    def adopt_priority(self, fip: str, priority: int) -> None:
        """Adopt the priority that the kernel has for a floating IP; a file that gives it to an unknown one is wrong."""
        if self._priorities.get(fip) == priority:
            return
        owner = self._priorities.owner(priority)
        if owner is not None and not any(owner in held for held in self._fips.values()):
            self._priorities.release(owner)
        self._priorities.adopt(fip, priority)

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
        self, view: HostView, allocated: HostAllocations, qrouter: NamespaceState | None, piece: NamespaceState | None
    ) -> HostAllocations:
        """Return the allocations with the values that the kernel has, where they differ: those carry traffic."""
        if allocated.pair is None or qrouter is None:
            return allocated
        pair = self._pair_from(view, allocated.pair, qrouter, piece)
        for fip in view.local_fips:
            src = f"{fip.fixed_address}/32"
            found = [
                rule.priority
                for rule in qrouter.rules
                if rule.src == src and rule.table == FIP_TABLE and rule.priority in FIP_PRIORITIES
            ]
            key = str(fip.address)
            if found and self._priorities.get(key) not in found:
                self.adopt_priority(key, min(found))
        return HostAllocations(pair, self._priorities_of(view))

    def settle(self, router_id: str, fips: Iterable[str]) -> None:
        """Note the floating IPs of a router in sync; the priorities of those that it no longer has are released."""
        current = frozenset(fips)
        gone = self._fips.get(router_id, frozenset()) - current
        self._fips[router_id] = current
        if gone:
            elsewhere = frozenset().union(*self._fips.values())  # it may have gone to another router
            for fip in gone - elsewhere:
                self._priorities.release(fip)

    def knows(self, router_id: str) -> bool:
        """Return True if it is known which floating IPs the router has here."""
        return router_id in self._fips

    def release(self, router_id: str) -> None:
        """Release all allocations of a router that has left the host."""
        self.release_pair(router_id)
        self.settle(router_id, ())

    def release_pair(self, router_id: str) -> None:
        """Release the subnet of a router that no longer has a pair to a fip namespace."""
        self._subnets.release(router_id)
        self._pairs.pop(router_id, None)

    def stale_entries(self, known: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return (router ids, floating IPs) in the files that belong to no known router.

        Floating IPs are judged only when every known router has been in sync once: until then their routers are
        unknown.
        """
        known = set(known)
        routers = sorted(self._subnets.entries().keys() - known)
        if known - self._fips.keys():
            return routers, []
        held = {fip for router_id in known for fip in self._fips[router_id]}
        return routers, sorted(set(self._priorities.entries()) - held)

    def drop_stale(self, known: Iterable[str]) -> None:
        """Release :meth:`stale_entries`."""
        known = set(known)
        routers, fips = self.stale_entries(known)
        for router_id in routers:
            self._subnets.release(router_id)
        for fip in fips:
            self._priorities.release(fip)
        self._fips = {router_id: held for router_id, held in self._fips.items() if held or router_id in known}

    def _read(self, name: str, parse: Callable[[str], tuple[dict[str, V], list[str]]]) -> tuple[dict[str, V], bool]:
        """Return (entries of a state file, True if it is there but cannot be read)."""
        try:
            return read_entries(self._state_path / name, parse), False
        except StateFileError as exc:
            if exc.passing:
                raise
            reason = str(exc)
        LOG.error("state file cannot be read, what the kernel holds is used alone: %s", reason)
        return {}, True

    def _priorities_of(self, view: HostView) -> tuple[tuple[str, int], ...]:
        fips = sorted(str(fip.address) for fip in view.local_fips)
        return tuple((fip, self._priorities.allocate(fip)) for fip in fips)

    def _pair_from(
        self, view: HostView, pair: FipPair, qrouter: NamespaceState, piece: NamespaceState | None
    ) -> FipPair:
        rfp = next((one for one in qrouter.links if one.name == view.rfp), None)
        fpr = next((one for one in piece.links if one.name == view.fpr), None) if piece else None
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
        # Once the router was in sync, other MACs are drift: IPv6 link-local addresses still go by the old ones.
        known = view.router.id in self._fips
        found = replace(pair, subnet=subnet) if known else FipPair(subnet, rfp.mac, fpr.mac)
        self._pairs[view.router.id] = found
        return found
