"""The host memory: observations and choices that outlive a job.  All of it saves work: the kernel is the truth.

One rule for what is forgotten: everything about a router goes with :meth:`HostMemory.forget_router`, everything about a
slice with :meth:`HostMemory.forget_slice`, and a network with its last slice.  The planner fills the memory as it reads
the kernel; the reconciler notes the changes of finished jobs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dvr_agent.desired import names
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_view import HostView
from dvr_agent.model.router import HaInterface, Router, RouterPort
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.claims import ClaimRegister
from dvr_agent.reconcile.fip_networks import FipNetworks, SharedPart, device_of
from dvr_agent.reconcile.fip_slices import FipRoutes, SliceSnapshot
from dvr_agent.reconcile.holdings import KernelHoldings
from dvr_agent.reconcile.inventory import adopt_inventory
from dvr_agent.reconcile.kept_trust import KeptRouter, KeptTrust, digest
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.reconcile.takeover import PacketFilterReader
from dvr_agent.reconcile.trust import Trust
from dvr_agent.state.filter import FilterRule, Table
from dvr_agent.state.namespace import NamespaceState

ROUNDS = 10
"""One of so many resyncs and audits of a router looks for neighbours that nobody wants."""

CheckedTables = dict[str, tuple[NamespaceState, tuple[Table, ...]]]
"""By namespace: its desired state, and the observed packet filter tables that agree with it."""


@dataclass(slots=True)
class RouterMemory:
    """The memory of one router.

    :ivar scope_marks: (address scope, mark) of its connections when this process first read its namespaces; None: not
        read yet.  Our own rules keep these marks, so that they need not be read again
    :ivar without_ipv6: (namespace, parameter) of those in which IPv6 was off when they were last read
    :ivar without_link_locals: namespaces with a device that lacked its link-local address when it was last read
    :ivar forwardings: rules for port forwardings when they were last read, where only the kernel knows them
    :ivar is_master: this host was the master of the HA router when its namespace was last read
    :ivar ha_interface: the last one that a document of the HA router had
    :ivar desired: the last desired state, after the three values from which it was computed
    :ivar post_commit: post-commit work of a job that runs, or failed half way
    :ivar in_sync: the desired state with which the namespaces agreed when all of them was last read; None: not known
    :ivar rounds: resyncs and audits since then
    :ivar checked_tables: what the last table check found to be as desired
    """

    scope_marks: tuple[tuple[str, int], ...] | None = None
    without_ipv6: frozenset[tuple[str, str]] = frozenset()
    without_link_locals: frozenset[str] = frozenset()
    forwardings: tuple[FilterRule, ...] = ()
    is_master: bool = False
    ha_interface: HaInterface | None = None
    desired: tuple[Router, RouterPort | None, HostAllocations, DesiredRouter] | None = None
    post_commit: PostCommit | None = None
    in_sync: DesiredRouter | None = None
    rounds: int = 0
    checked_tables: CheckedTables = field(default_factory=dict)

    def knows(self, state: DesiredRouter) -> bool:
        """True if a resync need not look for neighbours that nobody wants: it did not find any not long ago.

        To find them the kernel walks over the neighbours of the whole host; a resync would cost the square of the
        number of routers.  Jobs outside a resync always look for them.
        """
        self.rounds += 1
        if self.in_sync is state and self.rounds < ROUNDS:
            return True
        self.in_sync = None
        return False

    def note_in_sync(self, state: DesiredRouter) -> None:
        """Note that the namespaces agree with a desired state."""
        if self.in_sync is not state:
            self.in_sync, self.rounds = state, 0


@dataclass(slots=True)
class HostMemory:
    """The memory of one host.

    :ivar allocations: link-local subnets and rule priorities; the only part that is written to files
    :ivar tables: reads packet filter tables, and remembers namespaces without chains of neutron-l3-agent
    :ivar snapshot: slices as the present resync read them
    :ivar claims: which document has a thing that several documents claim
    :ivar networks: agent gateway ports and shared parts of the fip namespaces
    :ivar routes: which router's slice has a route
    :ivar doubts: (network, stem of a router) of slices that must be read before the next job counts with them
    :ivar trust: which routers need not be read
    """

    allocations: Allocations
    tables: PacketFilterReader
    snapshot: SliceSnapshot
    holdings: KernelHoldings
    claims: ClaimRegister
    networks: FipNetworks = field(default_factory=FipNetworks)
    routes: FipRoutes = field(default_factory=lambda: FipRoutes({}))
    doubts: set[tuple[str, str]] = field(default_factory=set)
    trust: Trust = field(default_factory=Trust)
    _routers: dict[str, RouterMemory] = field(default_factory=dict)

    @classmethod
    def empty(cls, kernel: KernelReader, state_path: Path, newer_wins: bool = False) -> HostMemory:
        """Return a memory that :meth:`load` fills.

        :param state_path: directory of the state files, which are read only
        :param newer_wins: the source of documents is an authority, see ``claims``
        """
        holdings = KernelHoldings(kernel)
        claims = ClaimRegister(holdings, newer_wins)
        tables, snapshot = PacketFilterReader(kernel), SliceSnapshot(kernel.interfaces)
        return cls(Allocations(state_path), tables, snapshot, holdings, claims)

    def load(self, kernel: KernelReader) -> None:
        """Read kernel and state files: slices, routes, and the allocations in use.

        :raises StateFileError: descriptors or memory are short; a retry may succeed
        """
        found = adopt_inventory(kernel, self.allocations)
        self.networks.load(found)
        self.holdings.load(found)
        self.routes = FipRoutes(found.routes)

    def begin_resync(self) -> None:
        """Forget what a resync reads once for all routers."""
        self.networks.begin_resync()
        self.snapshot.clear()

    def router(self, router_id: str) -> RouterMemory:
        """Return the memory of a router, which is made if there is none."""
        return self._routers.setdefault(router_id, RouterMemory())

    def desired_of(self, router_id: str) -> DesiredRouter | None:
        """Return the last desired state of a router, None if there was none."""
        memory = self._routers.get(router_id)
        return memory.desired[3] if memory is not None and memory.desired is not None else None

    def is_master(self, router_id: str) -> bool:
        """Return True if this host was the master of an HA router when its namespace was last read."""
        memory = self._routers.get(router_id)
        return memory is not None and memory.is_master

    def routers_on(self, network: str) -> Iterator[str]:
        """Yield the ids of the routers whose desired state has a slice of the fip namespace of a network."""
        for router_id, memory in self._routers.items():
            slice_ = memory.desired[3].slice if memory.desired is not None else None
            if slice_ is not None and slice_.name == names.FIP + network:
                yield router_id

    def claim_slice(self, view: HostView) -> None:
        """Note that a job is about to make, or keep, the router's slice: even if the job fails, the slice may exist."""
        if view.agent_gateway is not None:
            self.networks.claim(view.agent_gateway.network_id, view.router.id, device_of(view.agent_gateway))

    def left_networks(self, view: HostView) -> list[str]:
        """Return the external networks in whose fip namespace the router has a slice that it no longer needs."""
        current = view.agent_gateway.network_id if view.agent_gateway else None
        left = [network for network in self.networks.of_router(view.router.id) if network != current]
        return left if left and self.claims.holds_pair(view.router.id) else []

    def networks_of(self, router_id: str) -> list[str]:
        """Return the external networks in whose fip namespace the router has, or may have, a slice.

        None if another router's id begins alike and the slice with this name is the other's.
        """
        return self.networks.of_router(router_id) if self.claims.holds_pair(router_id) else []

    def note_in_sync(
        self, view: HostView, state: DesiredRouter, shared: SharedPart | None, is_checked: bool = True
    ) -> tuple[str, ...]:
        """Note that a router's namespaces are as desired.

        :param shared: the shared part of the fip namespace, None if the router has no slice, or nothing had to be done
        :param is_checked: the shared part is as desired, too
        :returns: ids of other routers to reconcile again, and its own if it can have more now
        """
        affected: set[str] = set()
        router_id = view.router.id
        self.router(router_id).note_in_sync(state)
        current = view.agent_gateway.network_id if view.agent_gateway is not None else ""
        for network in {*self.left_networks(view), *self.networks.listed_only(router_id)} - {current}:
            affected |= self.forget_slice(network, names.router_stem(router_id))
        if state.snat is None:
            self.tables.forget([view.snat])
        if state.slice is not None:
            affected |= self.routes.note_in_sync(state.slice, view.same_scope_subnets)
            self._withdraw_losers()
        if view.agent_gateway is None or state.slice is None:
            self.allocations.release_pair(router_id)
        else:
            network = view.agent_gateway.network_id
            self.networks.note_paths(network, router_id, [device_of(view.agent_gateway)])
            if is_checked and shared is not None:
                self.networks.note_checked(network, shared, self.trust.hears(router_id, shared.state.name))
        self.allocations.note_floating_ips(router_id, view.local_addresses)
        self.claims.note_built(view)
        affected = (affected | self.take_affected(router_id)) - {router_id}
        if not self.claims.is_granted(router_id):  # what this job has removed was in the way of its own router
            affected.add(router_id)
        return tuple(sorted(affected))

    def slices_of(self, router_id: str) -> list[tuple[str, str]]:
        """Return (network, stem) of the slices that the router has, or may have."""
        return [(network, names.router_stem(router_id)) for network in self.networks_of(router_id)]

    def note_partly(self, view: HostView, state: DesiredRouter, held: Collection[str]) -> tuple[str, ...]:
        """Note what a job has made from which something was refused; returns as :meth:`note_in_sync`."""
        self.claims.note_built(view, held)
        affected = self.take_affected(view.router.id)
        if state.slice is not None:
            affected |= self.routes.note_partly(state.slice, held, view.same_scope_subnets)
            self._withdraw_losers()
        return tuple(sorted(affected - {view.router.id}))

    def doubt(self, slices: Iterable[tuple[str, str]]) -> None:
        """Note (network, stem) of slices that a job which broke off has changed in part, or removed."""
        for network, stem in slices:
            self.doubts.add((network, stem))
            self.networks.distrust(network)

    def distrust(self, router_id: str, namespaces: Iterable[str]) -> None:
        """Have the router's next job read what these namespaces have: something has changed there."""
        self.trust.withdraw(router_id)
        for name in namespaces:
            if name.startswith(names.FIP):
                self.networks.distrust(name.removeprefix(names.FIP))

    def keep(self) -> dict[str, KeptRouter]:
        """Return what another process needs to trust the routers that are trusted now.

        Not those whose traffic something stops: it has to be found again, since it is read now and then only.
        """
        return {
            router_id: KeptRouter(digest(vouched.state), self.router(router_id).scope_marks or ())
            for router_id, vouched in self.trust.all()
            if not vouched.hindrances
        }

    def trust_kept(self, routers: Mapping[str, KeptRouter], is_kept: Callable[[str], bool]) -> None:
        """Trust the routers that an earlier process has kept, as far as nothing has changed since.

        :param is_kept: says whether a namespace was heard without a gap since then
        """
        self.trust.kept = KeptTrust(routers, is_kept)
        for router_id, kept in routers.items():
            if kept.marks:
                self.router(router_id).scope_marks = kept.marks

    def distrust_all(self) -> None:
        """Have all jobs read: events of the kernel were lost."""
        self.trust.withdraw_all()
        self.networks.distrust_all()

    @contextlib.contextmanager
    def doubting(self, slices: Callable[[], Iterable[tuple[str, str]]]) -> Iterator[None]:
        """Doubt slices if the block does not come to its end."""
        try:
            yield
        except BaseException:
            self.doubt(slices())
            raise

    def settle(self, network: str, stem: str, found: NamespaceState | None) -> None:
        """Note what is there of a slice that was in doubt.

        A slice that is gone stays noted while its namespace is there and no other router would remove that.

        :param found: device and routes of the slice; None: its namespace is gone, too
        """
        self.doubts.discard((network, stem))
        if found is not None and found.links:
            affected = self.routes.note_in_sync(found)
            self._withdraw_losers()
        elif found is None or self.networks.has_others(network, stem):
            affected = self.forget_slice(network, stem)
        else:
            affected = self.routes.forget(found.name, names.FIP_TO_ROUTER + stem)
        self.claims.note_affected(affected)

    def post_commit(self, router_id: str) -> PostCommit:
        """Return the router's pending post-commit work, also that of an earlier job that failed half way."""
        memory = self.router(router_id)
        if memory.post_commit is None:
            memory.post_commit = PostCommit()
        return memory.post_commit

    def post_commit_done(self, router_id: str) -> None:
        """Forget the router's post-commit work: it is done."""
        self.router(router_id).post_commit = None

    def forget_slice(self, network: str, stem: str) -> set[str]:
        """Forget a router's slice of a fip namespace.

        :param stem: the beginning of the router's id, as much as device names contain
        :returns: ids of routers to reconcile again: of those that conceded one of its routes, and of one that removes
            the device of an earlier agent gateway port, which this slice used last
        """
        self.networks.leave(network, stem)
        affected = self.routes.forget(names.FIP + network, names.FIP_TO_ROUTER + stem)
        if not self.networks.is_used(network):
            self.tables.forget([names.FIP + network])
            self.claims.forget_gateway(network)
        elif self.networks.unused(network):
            others = [one for one in self.routers_on(network) if names.router_stem(one) != stem]
            affected |= {min(others)} if others else set()
        return affected

    def forget_router(self, router_id: str) -> set[str]:
        """Forget everything about a router that has left the host.

        :returns: ids of other routers to reconcile again
        """
        affected: set[str] = set()
        for network in (*self.networks_of(router_id), *self.networks.listed_only(router_id)):
            affected |= self.forget_slice(network, names.router_stem(router_id))
        self.allocations.release(router_id)
        self._forget_own(router_id)
        self.claims.forget(router_id)
        return (affected | self.take_affected(router_id)) - {router_id}

    def forget_stale(self, known: Collection[str], slices: Iterable[tuple[str, str]]) -> set[str]:
        """Forget all that belongs to no known router.

        :param slices: (network, stem) of the slices that were removed
        :returns: ids of routers to reconcile again
        """
        self.allocations.drop_stale(known)
        affected: set[str] = set()
        for network, stem in slices:
            affected |= self.forget_slice(network, stem)
        for router_id in self._routers.keys() - set(known):
            self._forget_own(router_id)
        self.trust.kept = None  # what is left has no document
        self.claims.forget_unknown(known)
        return affected | self.take_affected("")

    def take_affected(self, router_id: str) -> set[str]:
        """Return the ids of other routers to reconcile again, for what has changed since the last call.

        They have gained or lost something that several claim, or their slices use an agent gateway port that is in use
        no more.
        """
        found = self.claims.take_affected(router_id)
        for network, port in self.networks.take_moved():
            found |= {one for one in self.routers_on(network) if self._is_made_for_another(one, port)}
        return found - {router_id}

    def _is_made_for_another(self, router_id: str, port: RouterPort) -> bool:
        desired = self._routers[router_id].desired
        return desired is not None and desired[1] != port

    def _withdraw_losers(self) -> None:
        """Trust the routers no more whose slices have lost a route to another's: no event tells of our own writes."""
        for router_id in self.routes.take_losers():
            self.trust.withdraw(router_id)

    def _forget_own(self, router_id: str) -> None:
        self._routers.pop(router_id, None)
        self.trust.forget(router_id)
        self.tables.forget([names.QROUTER + router_id, names.SNAT + router_id])
