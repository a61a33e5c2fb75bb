"""The reconciler: one router at a time from document to kernel.  Start reading at :meth:`RouterReconciler.reconcile`.

Blocking code for one thread.  The kernel is the truth: whatever this module remembers only saves work and may be lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from oslo_utils import excutils

from dvr_agent.attach.api import AttachDriver
from dvr_agent.desired import names
from dvr_agent.desired.build import RouterState, router_state
from dvr_agent.desired.fip import empty_slice, slice_ownership
from dvr_agent.desired.host_allocations import Facts
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, make_view
from dvr_agent.errors import DvrError, NotSupportedError, ServiceError
from dvr_agent.kernel.api import Kernel
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.api import Outcome, Plan
from dvr_agent.reconcile.executor import Work, carry_out
from dvr_agent.reconcile.held_routes import HeldRoutes
from dvr_agent.reconcile.inventory import adopt_inventory
from dvr_agent.reconcile.networks import FipNetworks, device_of
from dvr_agent.reconcile.post_commit import Aftermath
from dvr_agent.reconcile.seen import removals, set_aside, without
from dvr_agent.reconcile.slices import Slices
from dvr_agent.reconcile.stale import Stale, find_stale, stale_routers
from dvr_agent.reconcile.takeover import FirstLook, log_takeover, marks_in_use
from dvr_agent.services.bundle import Services
from dvr_agent.state.diff import Change, Changes, diff
from dvr_agent.state.filter import Dnat
from dvr_agent.state.link import Link, Port
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule

LOG = logging.getLogger(__name__)

TEARDOWN_SECONDS = 5.0
"""How long the kernel may take to tear down namespaces, with the ports in them, before we look what is left."""
PORT_PREFIXES = (names.INTERNAL, names.CSNAT, names.GATEWAY, names.AGENT_GATEWAY)


@dataclass(slots=True)
class _Draft:
    """A router on its way from document to plan."""

    view: HostView
    facts: Facts
    state: RouterState
    qrouter: NamespaceState | None = None
    slice: NamespaceState | None = None
    snat: NamespaceState | None = None


class RouterReconciler:
    """Implements :class:`dvr_agent.reconcile.api.Reconciler` (its docstrings are the contract).

    :param kernel: real or fake
    :param attach: how ports reach their networks
    :param services: what routers need beside their kernel state; default: nothing
    """

    def __init__(
        self,
        kernel: Kernel,
        attach: AttachDriver,
        settings: HostSettings,
        allocations: Allocations,
        services: Services | None = None,
    ) -> None:
        self.kernel, self.attach, self.settings = kernel, attach, settings
        self.services = services if services is not None else Services()
        self._allocations = allocations
        self._networks = FipNetworks()
        self._slices = Slices(kernel.interfaces)
        self._held = HeldRoutes({})
        self._look = FirstLook(kernel)
        self._marks: dict[str, tuple[tuple[str, int], ...]] = {}
        """Router id → marks of address scopes that its connections carried when this process first saw it."""
        self._aftermaths: dict[str, Aftermath] = {}
        """Router id → what a job that failed half way still owes."""
        self._states: dict[str, tuple[Router, RouterPort | None, Facts, RouterState]] = {}
        """Router id → what the desired state was last computed from, and the state."""

    def load(self) -> None:
        found = adopt_inventory(self.kernel, self._allocations)
        self._networks.load(found)
        self._held = HeldRoutes(found.routes)

    def begin_pass(self) -> None:
        self._networks.begin_pass()
        self._slices.begin()

    def look(self, router: Router) -> None:
        self._prepare(router, shared=True)

    def plan(self, router: Router) -> Plan:
        plan, works, draft = self._prepare(router, shared=True)
        if draft.view.agent_gateway is not None:  # its traffic would go there, for the plans that follow
            port = draft.view.agent_gateway
            self._networks.saw(port.network_id, router.id, [device_of(port)])
        obstacles = self.attach.obstacles([port for work in works for port in _new_ports(work)])
        warnings = [f"{device} could not be plugged: {why}" for device, why in sorted(obstacles.items())]
        return replace(plan, warnings=(*plan.warnings, *warnings))

    def reconcile(self, router: Router, shared: bool = True) -> Outcome:
        started = time.perf_counter()
        plan, works, draft = self._prepare(router, shared)
        aftermath = self._aftermaths.setdefault(router.id, Aftermath())
        if draft.view.agent_gateway is not None:
            self._networks.claim(draft.view.agent_gateway.network_id, router.id)
        try:
            self._carry_out(works, aftermath)
            if any(work.repair for work in works):  # a port may have been made anew, without what was on it
                _, works, draft = self._prepare(router, shared=True)
                self._carry_out(works, aftermath)
            deleted = aftermath.delete_connections(self.kernel)
        except DvrError:
            with excutils.save_and_reraise_exception(logger=LOG):
                LOG.debug("router %s: stopped half way; what was done stays, the rest is for the next try", router.id)
        announced = aftermath.announce(self.kernel)
        del self._aftermaths[router.id]
        affected = self._remember(draft)
        log_takeover(plan)
        trouble = self.services.apply(router)
        return Outcome(plan, time.perf_counter() - started, tuple(announced), deleted, trouble, affected)

    def remove(self, router_id: str) -> Outcome:
        started = time.perf_counter()
        works = self._removal(router_id)
        services = self.services.plan_remove(router_id)
        self.services.remove(router_id)
        if not self._allocations.knows(router_id):
            self._allocations.settle(router_id, self._fips_in_kernel(router_id))
        carry_out(self.kernel, self.attach, works)
        affected = set()
        for network in self._networks.of_router(router_id):
            affected |= self._forget_slice(network, names.router_stem(router_id))
        self._allocations.release(router_id)
        for memory in (self._states, self._aftermaths, self._marks):
            memory.pop(router_id, None)
        self._look.forget(work.changes.namespace for work in works if work.changes.remove)
        plan = Plan(f"router {router_id}", tuple(work.changes for work in works if work.changes), services=services)
        return Outcome(plan, time.perf_counter() - started, affected=tuple(sorted(affected - {router_id})))

    def plan_remove(self, router_id: str) -> Plan:
        changes = tuple(work.changes for work in self._removal(router_id))
        return Plan(f"router {router_id}", changes, services=self.services.plan_remove(router_id))

    def stale_routers(self, known: Collection[str]) -> tuple[Sequence[str], int]:
        return stale_routers(self.kernel, known)

    def plan_stale(self, known: Collection[str]) -> Plan:
        return self._find_stale(known).plan

    def remove_stale(self, known: Collection[str]) -> Outcome:
        started = time.perf_counter()
        stale = self._find_stale(known)
        held = self._leave(stale.served)
        carry_out(self.kernel, self.attach, [work for work in stale.works if work.changes.namespace not in held])
        self.attach.unplug_outer(stale.outer)
        for name in stale.files:
            self.kernel.namespaces.remove_file(name)
        self._allocations.drop_stale(known)
        affected: set[str] = set()
        for network, stem in stale.slices:
            affected |= self._forget_slice(network, stem)
        for error in held.values():
            raise error
        return Outcome(stale.plan, time.perf_counter() - started, affected=tuple(sorted(affected)))

    def idle_bridges(self, networks: Collection[str] = ()) -> list[str]:
        return list(self.attach.idle(networks))

    def remove_bridges(self, networks: Collection[str] = ()) -> list[str]:
        return list(self.attach.tidy(networks))

    def tidy(self, networks: Collection[str] = ()) -> list[str]:
        deadline = time.monotonic() + TEARDOWN_SECONDS
        while self._outlived() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.remove_bridges(networks)

    def flush(self) -> None:
        self._allocations.flush()

    def _outlived(self) -> bool:
        """Some outer side belongs to a namespace that is gone: the kernel has not torn it down yet."""
        there = set(self.kernel.namespaces.list())
        return any(port.namespace not in there for port in self.attach.list())

    def _carry_out(self, works: list[Work], aftermath: Aftermath) -> None:
        for work in works:
            aftermath.note(work.changes)
        if any(work.changes or work.first or work.repair for work in works):
            carry_out(self.kernel, self.attach, works)

    # --- one router, step by step -------------------------------------------------------------------------------

    def _prepare(self, router: Router, shared: bool) -> tuple[Plan, list[Work], _Draft]:
        """Observe, allocate, desire, compare."""
        draft = self._draft(router)
        self._observe(draft, shared)
        corrected = self._allocations.correct(draft.view, draft.facts, draft.qrouter, draft.slice)
        corrected = replace(corrected, marks=self._known_marks(draft), conceded=draft.facts.conceded)
        if corrected != draft.facts:
            draft.facts, draft.state = corrected, self._state(draft.view, corrected)
            self._observe(draft, shared=True)
        works = self._works(draft, shared)
        plan = Plan(
            f"router {router.id}",
            tuple(work.changes for work in works if work.changes),
            tuple(line for work in works for line in _port_lines(work)),
            draft.state.warnings,
            self.services.plan(router),
            draft.state.omitted,
        )
        return plan, works, draft

    def _draft(self, router: Router) -> _Draft:
        try:
            view = make_view(router, self.settings, self._networks.choose(router, self.settings))
        except NotSupportedError:
            self._allocations.settle(router.id, ())
            raise
        facts = replace(
            self._allocations.facts(view), marks=self._marks.get(router.id, ()), conceded=self._conceded(view)
        )
        return _Draft(view, facts, self._state(view, facts))

    def _conceded(self, view: HostView) -> tuple[str, ...]:
        if view.fip is None:
            return ()
        return self._held.concede(view.fip, view.fpr, view.router.id, view.same_scope_subnets)

    def _state(self, view: HostView, facts: Facts) -> RouterState:
        """The desired state; the last one is kept, since most passes see an unchanged router."""
        gateway = view.agent_gateway
        known = self._states.get(view.router.id)
        if known is not None and known[0] is view.router and known[1] == gateway and known[2] == facts:
            return known[3]
        state = router_state(view, facts)
        self._states[view.router.id] = (view.router, gateway, facts, state)
        return state

    def _observe(self, draft: _Draft, shared: bool) -> None:
        draft.qrouter = self._read(draft.state.qrouter)
        draft.snat = self._read(draft.state.snat) if draft.state.snat is not None else None
        piece = draft.state.slice
        if piece is None:
            draft.slice = None
        elif shared:
            self._slices.drop(piece)
            draft.slice = self._read(piece)
        else:
            draft.slice = self._slices.read(piece)
        if draft.view.agent_gateway is not None and draft.slice is not None:
            by = (hop.device for route in draft.slice.routes for hop in route.hops)
            self._networks.saw(draft.view.agent_gateway.network_id, draft.view.router.id, by)

    def _read(self, desired: NamespaceState) -> NamespaceState | None:
        """What the kernel holds of what a desired state answers for."""
        state = self.kernel.interfaces.observe(
            desired.name, desired.ownership, [sysctl.key for sysctl in desired.sysctls]
        )
        if state is None or not desired.tables:
            return state
        return self._look.with_tables(state, [table.key for table in desired.tables])

    def _known_marks(self, draft: _Draft) -> tuple[tuple[str, int], ...]:
        """The kernel is asked once: later the marks in it are those that were found then."""
        router_id = draft.view.router.id
        if router_id not in self._marks:
            self._marks[router_id] = marks_in_use(draft.view, draft.qrouter, draft.snat)
        return self._marks[router_id]

    def _works(self, draft: _Draft, shared: bool) -> list[Work]:
        """Every namespace's part, in the order in which they depend on each other."""
        state, view = draft.state, draft.view
        works = []
        if state.base is not None and (shared or draft.slice is None or not self._is_base_checked(draft)):
            works.append(self._base_work(draft))
        first_inside, first_outside = self._half_pairs(draft)
        works.append(self._work(draft.qrouter, state.qrouter, first_inside))
        if state.slice is not None:
            work = self._work(draft.slice, state.slice, first_outside)
            works.append(replace(work, changes=self._held.take_over(work.changes, view.same_scope_subnets)))
        works += [self._slice_removal(network, view.router.id) for network in self._left_networks(view)]
        if state.snat is not None:
            works.append(self._work(draft.snat, state.snat))
        elif self.kernel.namespaces.exists(view.snat):
            works.append(Work(Changes(view.snat, remove=True)))
        return works

    def _base(self, draft: _Draft) -> tuple[NamespaceState, frozenset[str]]:
        """The shared part of the fip namespace, and the devices of earlier agent gateway ports that stay for now.

        The shared part owns them all: what one of them holds may be in the way of its successor.  One of them goes when
        the routes of no router lead there any more.
        """
        base, port = draft.state.base, draft.view.agent_gateway
        assert base is not None
        assert port is not None
        devices = self._networks.devices(port.network_id) | base.ownership.devices
        if devices == base.ownership.devices:
            return base, frozenset()
        unused = self._networks.unused(port.network_id, but=[names.router_stem(draft.view.router.id)])
        current = {link.name for link in base.links}
        return replace(base, ownership=replace(base.ownership, devices=devices)), devices - unused - current

    def _is_base_checked(self, draft: _Draft) -> bool:
        base, staying = self._base(draft)
        return self._networks.is_checked(base.name.removeprefix(names.FIP), base) and self._all_there(base, staying)

    @staticmethod
    def _all_there(base: NamespaceState, staying: frozenset[str]) -> bool:
        """True if no device of an earlier agent gateway port has become unused."""
        return base.ownership.devices == staying | {link.name for link in base.links}

    def _base_work(self, draft: _Draft) -> Work:
        base, staying = self._base(draft)
        return self._work(set_aside(self._read(base), staying, {route.key for route in base.routes}), base)

    def _work(self, now: NamespaceState | None, want: NamespaceState, first: tuple[Change, ...] = ()) -> Work:
        changes = diff(now, want)
        new = {change.item.name for change in changes.items if isinstance(change.item, Link)}
        ports = [link.origin for link in want.links if isinstance(link.origin, Port) and link.name not in new]
        wrong = self.attach.check(ports) if ports and now is not None else {}
        repair = tuple((port, wrong[port.device]) for port in ports if port.device in wrong)
        return Work(changes, first, repair, PORT_PREFIXES)

    def _half_pairs(self, draft: _Draft) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
        """Ends of the router's veth pair whose other end is not where it must be; what was seen is rid of them."""
        view = draft.view
        inside, outside = removals(draft.qrouter, view.rfp), removals(draft.slice, view.fpr)
        if draft.state.slice is None or bool(inside) == bool(outside):
            return (), ()
        draft.qrouter, draft.slice = without(draft.qrouter, view.rfp), without(draft.slice, view.fpr)
        return inside, outside

    def _left_networks(self, view: HostView) -> list[str]:
        """External networks that the router had a link to and has no more."""
        current = view.agent_gateway.network_id if view.agent_gateway else None
        return [network for network in self._networks.of_router(view.router.id) if network != current]

    def _slice_removal(self, network: str, router_id: str) -> Work:
        """A router leaves a fip namespace; the last one takes the namespace with it."""
        namespace = names.FIP + network
        if self._networks.is_last(network, router_id):
            return Work(Changes(namespace, remove=self.kernel.namespaces.exists(namespace)))
        link = self._allocations.link(router_id)
        observed = self.kernel.interfaces.observe(namespace, slice_ownership(router_id, link), ())
        want = empty_slice(namespace, router_id, link)
        return Work(diff(observed, want) if observed is not None else Changes(namespace))

    def _removal(self, router_id: str) -> list[Work]:
        works = [self._slice_removal(network, router_id) for network in self._networks.of_router(router_id)]
        exists = self.kernel.namespaces.exists
        if exists(names.QROUTER + router_id):
            works = [_without_link(work) for work in works]
        gone = [prefix + router_id for prefix in (names.QROUTER, names.SNAT) if exists(prefix + router_id)]
        works += [Work(Changes(name, remove=True)) for name in gone]
        return [work for work in works if work.changes]

    def _fips_in_kernel(self, router_id: str) -> list[str]:
        """Floating IPs that the router's namespace translates: of a router that this process has not worked on yet."""
        name = names.QROUTER + router_id
        if not self.kernel.namespaces.exists(name):
            return []
        (nat,) = self.kernel.iptables.observe(name, [(4, "nat")])
        rules = [rule for chain in nat.chains for rule in chain.rules]
        return [str(rule.dst).partition("/")[0] for rule in rules if isinstance(rule.target, Dnat)]

    def _remember(self, draft: _Draft) -> tuple[str, ...]:
        """After success: what the next job on this router, or its removal, can build on.

        :returns: ids of other routers that can have routes now which they conceded
        """
        affected: set[str] = set()
        view = draft.view
        router_id, stem = view.router.id, names.router_stem(view.router.id)
        for network in self._left_networks(view):
            affected |= self._forget_slice(network, stem)
        if draft.state.slice is not None:
            affected |= self._held.settle(draft.state.slice, view.same_scope_subnets)
        if view.agent_gateway is not None and draft.state.base is not None:
            network = view.agent_gateway.network_id
            base, staying = self._base(draft)
            self._networks.saw(network, router_id, [device_of(view.agent_gateway)])
            self._networks.checked(network, base, staying)
        else:
            self._allocations.drop_link(router_id)
        self._allocations.settle(router_id, (str(fip.address) for fip in view.local_fips))
        return tuple(sorted(affected - {router_id}))

    def _forget_slice(self, network: str, stem: str) -> set[str]:
        self._networks.leave(network, stem)
        return self._held.forget(names.FIP + network, names.FIP_TO_ROUTER + stem)

    def _leave(self, router_ids: Sequence[str]) -> dict[str, ServiceError]:
        """End the services of routers that go; namespace → why a service still holds it."""
        held = {}
        for router_id in router_ids:
            try:
                self.services.remove(router_id)
            except ServiceError as exc:
                held[names.QROUTER + router_id] = exc
        return held

    def _find_stale(self, known: Collection[str]) -> Stale:
        networks = self._networks
        entries = self._allocations.stale_entries(known)
        return find_stale(self.kernel, self.attach, self.services, known, networks, entries)


def _new_ports(work: Work) -> list[Port]:
    links = [change.item for change in work.changes.items if isinstance(change.item, Link)]
    return [link.origin for link in links if isinstance(link.origin, Port)]


def _without_link(work: Work) -> Work:
    """The same, but the ``fpr-`` device is left to go with its other end: deleting it waits for the kernel (20 ms)."""
    items = tuple(change for change in work.changes.items if isinstance(change.item, Route | Rule))
    return replace(work, changes=replace(work.changes, items=items))


def _port_lines(work: Work) -> list[tuple[str, str]]:
    namespace = work.changes.namespace
    return [
        *((namespace, f"{change.text} (half of a pair)") for change in work.first),
        *((namespace, f"~ port {port.device}: {why}") for port, why in work.repair),
    ]
