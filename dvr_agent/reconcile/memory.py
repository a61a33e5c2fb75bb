"""What this process remembers of the host between jobs.  All of it saves work: the kernel is the truth.

One rule for what is forgotten: everything about a router goes with :meth:`HostMemory.forget_router`, everything about a
slice with :meth:`HostMemory.forget_slice`, and a network with its last slice.  The planner fills it in as it reads the
kernel; the reconciler notes what finished jobs have changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dvr_agent.desired import names
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_view import HostView
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.fip_networks import FipNetworks, SharedPart, device_of
from dvr_agent.reconcile.fip_slices import FipRoutes, SliceSnapshot
from dvr_agent.reconcile.inventory import adopt_inventory
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.reconcile.takeover import PacketFilterReader


@dataclass(slots=True)
class RouterMemory:
    """What is remembered of one router.

    :ivar scope_marks: (address scope, mark) that its connections carried when this process first read its namespaces;
        None: not read yet.  Later the marks in the kernel are those that were found then
    :ivar desired: what the desired state was last computed from, and the state
    :ivar post_commit: what a job that failed half way still has to do
    """

    scope_marks: tuple[tuple[str, int], ...] | None = None
    desired: tuple[Router, RouterPort | None, HostAllocations, DesiredRouter] | None = None
    post_commit: PostCommit | None = None


@dataclass(slots=True)
class HostMemory:
    """The memory of one host.

    :ivar allocations: link-local pairs and rule priorities; the only part that is kept in files
    :ivar tables: which namespaces are known to have no chains of neutron-l3-agent
    """

    allocations: Allocations
    tables: PacketFilterReader
    snapshot: SliceSnapshot
    networks: FipNetworks = field(default_factory=FipNetworks)
    routes: FipRoutes = field(default_factory=lambda: FipRoutes({}))
    _routers: dict[str, RouterMemory] = field(default_factory=dict)

    @classmethod
    def empty(cls, kernel: KernelReader, state_path: Path) -> HostMemory:
        """Return a memory that :meth:`load` fills.

        :param state_path: directory of the state files, which are read only
        """
        return cls(Allocations(state_path), PacketFilterReader(kernel), SliceSnapshot(kernel.interfaces))

    def load(self, kernel: KernelReader) -> None:
        """Read kernel and state files: which slices there are, which pairs and priorities are in use.

        :raises StateFileError: the host is short of something that reading needs; worth another try
        """
        found = adopt_inventory(kernel, self.allocations)
        self.networks.load(found)
        self.routes = FipRoutes(found.routes)

    def begin_resync(self) -> None:
        """Forget what a resync reads once for all routers."""
        self.networks.begin_resync()
        self.snapshot.clear()

    def router(self, router_id: str) -> RouterMemory:
        """Return what is remembered of a router."""
        return self._routers.setdefault(router_id, RouterMemory())

    def claim_slice(self, view: HostView) -> None:
        """Note that a job is about to make, or keep, the router's slice: it may be there even if the job fails."""
        if view.agent_gateway is not None:
            self.networks.claim(view.agent_gateway.network_id, view.router.id)

    def left_networks(self, view: HostView) -> list[str]:
        """Return the external networks in whose fip namespace the router has a slice that it no longer needs."""
        current = view.agent_gateway.network_id if view.agent_gateway else None
        return [network for network in self.networks.of_router(view.router.id) if network != current]

    def note_in_sync(self, view: HostView, state: DesiredRouter, shared: SharedPart | None) -> tuple[str, ...]:
        """Note that a router's namespaces are as desired.

        :param shared: of the fip namespace, None if the router has no slice
        :returns: ids of other routers that get routes now which they conceded
        """
        affected: set[str] = set()
        router_id = view.router.id
        for network in self.left_networks(view):
            affected |= self.forget_slice(network, names.router_stem(router_id))
        if state.slice is not None:
            affected |= self.routes.settle(state.slice, view.same_scope_subnets)
        if view.agent_gateway is not None and shared is not None:
            network = view.agent_gateway.network_id
            self.networks.note_paths(network, router_id, [device_of(view.agent_gateway)])
            self.networks.note_checked(network, shared)
        else:
            self.allocations.release_pair(router_id)
        self.allocations.settle(router_id, [str(fip.address) for fip in view.local_fips])
        return tuple(sorted(affected - {router_id}))

    def post_commit(self, router_id: str) -> PostCommit:
        """Return the router's pending post-commit work, also that of an earlier job that failed half way."""
        memory = self.router(router_id)
        if memory.post_commit is None:
            memory.post_commit = PostCommit()
        return memory.post_commit

    def post_commit_done(self, router_id: str) -> None:
        """Forget the router's post-commit work, which is done."""
        self.router(router_id).post_commit = None

    def forget_slice(self, network: str, stem: str) -> set[str]:
        """Forget a router's slice of a fip namespace.

        :param stem: as much of the router's id as its device names have
        :returns: ids of routers that conceded one of its routes
        """
        self.networks.leave(network, stem)
        return self.routes.forget(names.FIP + network, names.FIP_TO_ROUTER + stem)

    def forget_router(self, router_id: str) -> set[str]:
        """Forget everything about a router that has left the host.

        :returns: ids of other routers that conceded one of its routes
        """
        affected: set[str] = set()
        for network in self.networks.of_router(router_id):
            affected |= self.forget_slice(network, names.router_stem(router_id))
        self.allocations.release(router_id)
        self._routers.pop(router_id, None)
        return affected - {router_id}

    def forget_stale(self, known: Collection[str], slices: Iterable[tuple[str, str]]) -> set[str]:
        """Forget all that belongs to no known router.

        :param slices: (network, stem) of the slices that were removed
        :returns: ids of routers that conceded one of their routes
        """
        self.allocations.drop_stale(known)
        affected: set[str] = set()
        for network, stem in slices:
            affected |= self.forget_slice(network, stem)
        for router_id in self._routers.keys() - set(known):
            del self._routers[router_id]
        return affected

    def forget_namespaces(self, namespaces: Iterable[str]) -> None:
        """Forget namespaces that were removed."""
        self.tables.forget(namespaces)
