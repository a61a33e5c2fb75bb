"""Makes the first half of a plan: a router's desired state and its observed state.  Used by the planner; reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dvr_agent.desired.build import DesiredRouter, desired_router
from dvr_agent.desired.ha import refusal
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, is_left_alone, make_view
from dvr_agent.desired.without_ipv6 import advertising
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.router import IPV6_MIN_MTU, Router
from dvr_agent.reconcile.feature_facts import found_proxies, missing_helpers
from dvr_agent.reconcile.fip_networks import SharedPart
from dvr_agent.reconcile.hindrances import STRICT
from dvr_agent.reconcile.memory import HostMemory, RouterMemory
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.reconcile.takeover import forwardings_in_use, marks_in_use
from dvr_agent.reconcile.trust import Vouched, as_observed, names_of
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.state.adverse import DISABLE_IPV6, DISABLE_NEW, FORWARDS_IPV6
from dvr_agent.state.filter import FilterRule
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.sets import compact
from dvr_agent.state.sysctl import FORWARDING, Sysctl


@dataclass(slots=True)
class Draft:
    """Desired and observed state of a router, on the way from document to plan.

    :ivar view: the router as seen from this host
    :ivar allocated: allocations behind the desired state
    :ivar state: desired state of all namespaces
    :ivar shared: desired state of the shared part of the fip namespace; the planner sets it if the router has a slice
    :ivar shared_job: the changes of the shared part; None: it need not be looked at
    :ivar qrouter: observed state of the qrouter namespace, None if there is no such namespace
    :ivar slice: the same for the router's slice of the fip namespace
    :ivar snat: the same for the snat namespace
    :ivar known: the router was in sync not long ago: in a resync it is not searched for what nobody wants
    :ivar vouched: what the kernel has by its events, so that nothing was read; None: it was read
    :ivar hindrances: what stops traffic in the router's namespaces; the planner sets it
    """

    view: HostView
    allocated: HostAllocations
    state: DesiredRouter
    shared: SharedPart | None = None
    shared_job: NamespaceJob | None = None
    qrouter: NamespaceState | None = None
    slice: NamespaceState | None = None
    snat: NamespaceState | None = None
    known: bool = False
    vouched: Vouched | None = None
    hindrances: tuple[str, ...] = ()

    def observed(self, namespace: str) -> NamespaceState | None:
        """Return the observed state of the router's qrouter or snat namespace by its name; None: it is not there."""
        states = (self.qrouter, self.snat)
        return next((state for state in states if state is not None and state.name == namespace), None)

    @property
    def served(self) -> Router:
        """The router as its services see it: without IPv6 where its namespace has none, or has it on another host."""
        is_backup = self.place.state is not None and not self.view.router.distributed and not self.place.is_master
        return advertising(self.view.router, self.allocated.ipv6_off, is_backup or not self.view.settings.ipv6)

    @property
    def place(self) -> VrrpPlace:
        """The router's virtual router, as the service that speaks VRRP sees it."""
        shared, router_id = self.state.shared_by_hosts, self.view.router.id
        if shared is None or refusal(self.view):
            return VrrpPlace(router_id, self.view.central.name if self.view.central is not None else "")
        found, wanted, is_master = self.observed(shared.name), shared.virtual_router, self.allocated.is_master
        lacking = frozenset[KernelObject]()
        if is_master and found is not None and wanted is not None:
            lacking = wanted.lacking((*found.addresses, *found.link_locals), found.routes)
        return VrrpPlace(router_id, shared.name, wanted, is_master, lacking)


class Drafts:
    """Makes drafts, in the order of the methods: make, observe, correct by the observed state."""

    def __init__(self, kernel: KernelReader, settings: HostSettings, memory: HostMemory) -> None:
        self._kernel, self.settings, self._memory = kernel, settings, memory

    def declare(self, documents: Iterable[tuple[str, Router]]) -> None:
        """Declare all (name, router); before the first job also choose the agent gateway ports by all of them."""
        claims, found = self._memory.claims, list(documents)
        if not claims.declare_all(found, self.settings):
            return
        for _, router in found:
            if router.admin_state_up:  # else it is not built, and decides nothing for others
                with contextlib.suppress(NotSupportedError):
                    self._granted_view(router, "")
        self._memory.networks.is_open = False

    def make(self, router: Router, document: str = "") -> Draft:
        """Leave out what others have, choose the agent gateway port, allocate, and compute the desired state.

        :param document: name of the router's document
        :raises NotSupportedError: the router is left alone
        """
        memory = self._memory
        router = _with_known_ha_interface(router, memory.router(router.id))
        try:
            view = self._granted_view(router, document)
        except NotSupportedError:
            memory.allocations.note_floating_ips(router.id, ())
            raise
        known = memory.router(router.id)
        conceded: tuple[str, ...] = ()
        if view.fip is not None:
            conceded = memory.routes.concede(view.fip, view.fpr, router.id, view.same_scope_subnets)
        allocated = replace(
            memory.allocations.allocate(view),
            marks=known.scope_marks or (),
            conceded=conceded,
            without_ipv6=known.without_ipv6,
            without_link_locals=known.without_link_locals,
            forwardings=known.forwardings,
            is_master=known.is_master,
            missing_helpers=missing_helpers(self._kernel.packet_filter, view),
        )
        return Draft(view, allocated, self._desired(view, allocated))

    def _granted_view(self, router: Router, document: str) -> HostView:
        """Return the view of a router, without what others have."""
        networks, claims, settings = self._memory.networks, self._memory.claims, self.settings
        granted = claims.grant(router, settings, document)
        if is_left_alone(granted, settings):  # it decides nothing for others
            return make_view(granted, settings)
        port = networks.choose(granted, settings, router)
        if port is not None:
            claims.note_gateway(port)
            again = claims.grant(router, settings)
            if again is not granted:  # it claims what belongs to the agent gateway port
                granted, port = again, networks.choose(again, settings, router)
        return make_view(granted, settings, port)

    def observe(self, draft: Draft, in_resync: bool = False) -> None:
        """Read the observed state of all objects that the desired state owns.

        :param in_resync: read the slice from the resync's snapshot
        """
        state, snapshot = draft.state, self._memory.snapshot
        memory = self._memory.router(draft.view.router.id)
        if not in_resync:
            memory.in_sync = None
        draft.known = known = in_resync and memory.knows(state)
        draft.qrouter = self.read(state.qrouter, known)
        draft.snat = self.read(state.snat, known) if state.snat is not None else None
        if state.slice is None:
            draft.slice = None
        elif in_resync:
            draft.slice = snapshot.read(state.slice)
        else:
            snapshot.drop(state.slice)
            draft.slice = self.read(state.slice)
        gateway = draft.view.agent_gateway
        if gateway is not None and draft.slice is not None:
            devices = [hop.device for route in draft.slice.routes for hop in route.hops]
            self._memory.networks.note_paths(gateway.network_id, draft.view.router.id, devices)

    def trust(self, draft: Draft) -> bool:
        """Take what the events of the kernel vouch for as the observed state; False if it has to be read."""
        state, router_id, trust = draft.state, draft.view.router.id, self._memory.trust
        vouched = trust.of(router_id) or trust.recognise(router_id, state)
        # What was missing when it was last read may have come since: link-local addresses have no events that count.
        if vouched is None or draft.allocated.without_ipv6 or draft.allocated.without_link_locals:
            return False
        if state.shared_by_hosts is not None or not set(names_of(state)) <= set(names_of(vouched.state)):
            return False
        if state.slice is not None:
            self._memory.snapshot.drop(state.slice)
        draft.vouched, draft.known = vouched, True
        before = vouched.state
        draft.qrouter = self._vouched(before.qrouter, state.qrouter)
        draft.slice = self._vouched(before.slice, state.slice) if state.slice is not None else None
        draft.snat = self._vouched(before.snat, state.snat)
        return True

    def _vouched(self, before: NamespaceState | None, desired: NamespaceState | None) -> NamespaceState | None:
        """Return what the kernel has, by its events; of link-local addresses nothing depends on if devices stay."""
        if before is None:
            return None
        if desired is not None and before.links == desired.links and before.addresses == desired.addresses:
            return before
        return as_observed(before, self.settings.ipv6)

    def correct(self, draft: Draft) -> bool:
        """Replace allocations by the values in the observed state, which carry traffic.

        :returns: True if the desired state has changed and must be observed again
        """
        allocated = self._memory.allocations.correct(draft.view, draft.allocated, draft.qrouter, draft.slice)
        allocated = replace(
            allocated,
            marks=self._known_marks(draft),
            conceded=draft.allocated.conceded,
            without_ipv6=self._without_ipv6(draft),
            without_link_locals=self._without_link_locals(draft),
            forwardings=self._forwardings(draft),
            is_master=is_master(draft),
            missing_helpers=draft.allocated.missing_helpers,
            found_proxies=found_proxies(draft.view, (draft.qrouter, draft.slice, draft.snat)),
        )
        self._memory.router(draft.view.router.id).is_master = allocated.is_master
        if allocated == draft.allocated:
            return False
        draft.allocated, draft.state = allocated, self._desired(draft.view, allocated)
        return True

    def read(self, desired: NamespaceState, known: bool = False) -> NamespaceState | None:
        """Observe the part of a namespace that a desired state owns.

        :param known: it was in sync not long ago; do not look for neighbours and limits that nobody wants
        """
        own = [sysctl.key for sysctl in desired.sysctls]
        sysctls = [DISABLE_IPV6.key, STRICT.key, *(own or [FORWARDING, FORWARDS_IPV6.key])]
        neighbours = desired.neighbours if known else None
        ownership = desired.ownership
        if known and not desired.limits and ownership.limited:
            ownership = replace(ownership, limited=())
        state = self._kernel.interfaces.observe(desired.name, ownership, sysctls, neighbours)
        if state is None:
            return None
        if any(one.key.endswith("/disable_ipv6") for one in state.adverse):  # has somebody decided so?
            state = replace(state, sysctls=state.sysctls | self._of_new_devices(state.name))
        if not desired.tables:
            return state
        return self._memory.tables.with_tables(state, desired.tables)

    def _desired(self, view: HostView, allocated: HostAllocations) -> DesiredRouter:
        """Compute the desired state, or return the last one: in most resyncs the router is unchanged."""
        memory, gateway = self._memory.router(view.router.id), view.agent_gateway
        known = memory.desired
        if known is not None and known[0] == view.router and known[1] == gateway and known[2] == allocated:
            return known[3]
        state = desired_router(view, allocated)
        memory.desired = (view.router, gateway, allocated, state)
        memory.checked_tables.clear()  # of the state before: it would be kept until the next check
        return state

    def _without_ipv6(self, draft: Draft) -> frozenset[tuple[str, str]]:
        """Return the router's namespaces in which IPv6 is off, and the parameter that says so.

        The next draft begins with them.
        """
        states = (draft.qrouter, draft.slice, draft.snat)
        switches = ((state.name, self._ipv6_switch(state, draft.view)) for state in states if state is not None)
        found = compact([(name, parameter) for name, parameter in switches if parameter])
        self._memory.router(draft.view.router.id).without_ipv6 = found
        return found

    def _without_link_locals(self, draft: Draft) -> frozenset[str]:
        """Return the namespaces with a device that lacks its link-local address, but for those of VRRP.

        The next draft begins with them.
        """
        wanted = (draft.state.qrouter, draft.state.snat)
        found = compact(
            state.name
            for state, desired in zip((draft.qrouter, draft.snat), wanted, strict=True)
            if state is not None and desired is not None and desired.virtual_router is None and _lacks(state, desired)
        )
        self._memory.router(draft.view.router.id).without_link_locals = found
        return found

    def _ipv6_switch(self, state: NamespaceState, view: HostView) -> str:
        """Return the parameter that has switched IPv6 off in a namespace; empty: it is on."""
        if DISABLE_IPV6 in state.sysctls:
            return DISABLE_IPV6.key
        if state.link_locals or _has_ipv6(state) or not state.links or not view.settings.ipv6:
            return ""
        return DISABLE_NEW.key if DISABLE_NEW in self._of_new_devices(state.name) else ""

    def _of_new_devices(self, namespace: str) -> frozenset[Sysctl]:
        """Read whether new devices of a namespace have IPv6."""
        found = self._kernel.interfaces.observe(namespace, Ownership(), [DISABLE_NEW.key])
        return frozenset() if found is None else found.sysctls

    def _forwardings(self, draft: Draft) -> tuple[FilterRule, ...]:
        """Return the rules for port forwardings in the kernel, where only it knows them."""
        view = draft.view
        known = view.router.features.port_forwardings is not None or not view.forwarding_ips
        found = () if known else forwardings_in_use(view, draft.qrouter, draft.snat)
        self._memory.router(view.router.id).forwardings = found
        return found

    def _known_marks(self, draft: Draft) -> tuple[tuple[str, int], ...]:
        """Return the marks of address scopes in the kernel when this process first read the router's namespaces."""
        memory = self._memory.router(draft.view.router.id)
        if memory.scope_marks is None:
            memory.scope_marks = marks_in_use(draft.view, draft.qrouter, draft.snat)
        return memory.scope_marks


def _with_known_ha_interface(router: Router, memory: RouterMemory) -> Router:
    """Return a legacy HA router with its last HA port if its document lacks it: it would be left alone without.

    A distributed one without HA port has its snat namespace on other hosts (``sources/neutron/fetch/ha_ports.py``).
    """
    if not router.ha or router.distributed:
        memory.ha_interface = None
    elif router.ha_interface is not None:
        memory.ha_interface = router.ha_interface
    elif memory.ha_interface is not None:
        return replace(router, ha_interface=memory.ha_interface)
    return router


def is_master(draft: Draft) -> bool:
    """Return True if this host is the master of an HA router: its namespace has the primary virtual address."""
    wanted = draft.state.shared_by_hosts
    if wanted is None or wanted.virtual_router is None:
        return False
    observed = draft.observed(wanted.name)
    return observed is not None and wanted.virtual_router.primary in observed.addresses


def _lacks(state: NamespaceState, desired: NamespaceState) -> bool:
    """Return True if a device that is up and can have IPv6 has no link-local address."""
    here = {one.device for one in (*state.link_locals, *state.addresses) if one.cidr.startswith("fe80:")}
    up = {link.name for link in state.links if link.up and link.mtu >= IPV6_MIN_MTU}
    return any(link.name in up and link.name not in here for link in desired.links)


def _has_ipv6(state: NamespaceState) -> bool:
    """True if an IPv6 address or route of ours is there."""
    return any(":" in one.cidr for one in state.addresses) or any(":" in one.dst for one in state.routes)
