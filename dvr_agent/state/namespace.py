"""The state of a namespace, or of one owner's slice of it: every object that is or should be in it, by kind.

:data:`KINDS` is the registry: code that treats all kinds alike (diff, order, slices, ``dvrctl show``, the fake kernel)
reads it.  ``docs/adding-a-kind.md`` describes how a kind is added.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dvr_agent.state.address import ADDRESS_KIND, Address
from dvr_agent.state.filter import Table
from dvr_agent.state.kernel_route import KERNEL_ROUTE_KIND, KernelRoute
from dvr_agent.state.kind import AnyKind, KernelObject
from dvr_agent.state.limit import LIMIT_KIND, Limit
from dvr_agent.state.link import LINK_KIND, Link
from dvr_agent.state.neighbour import NEIGHBOUR_KIND, Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.policer import POLICER_KIND, Policer
from dvr_agent.state.proxy_neighbour import PROXY_NEIGHBOUR_KIND, ProxyNeighbour
from dvr_agent.state.route import ROUTE_KIND, Route
from dvr_agent.state.rule import RULE_KIND, Rule
from dvr_agent.state.sysctl import SYSCTL_KIND, Sysctl
from dvr_agent.state.virtual_router import VirtualRouterState

KINDS: tuple[AnyKind, ...] = (
    LINK_KIND,
    ADDRESS_KIND,
    ROUTE_KIND,
    RULE_KIND,
    NEIGHBOUR_KIND,
    PROXY_NEIGHBOUR_KIND,
    SYSCTL_KIND,
    LIMIT_KIND,
    POLICER_KIND,
)
"""All kinds, in the order in which plans and ``dvrctl show`` print them."""

KIND_OF: dict[type[KernelObject], AnyKind] = {kind.type: kind for kind in (*KINDS, KERNEL_ROUTE_KIND)}
"""Class of a value → its kind; of routes that the kernel makes an observation has those that are lost, no others."""


class Announcement(NamedTuple):
    """An announcement that ``device`` now has ``address`` (gratuitous ARP or unsolicited neighbour advertisement).

    Sent when the object ``because`` is added or changed: the address itself, or a route that brings its packets here.
    """

    device: str
    address: str
    because: Address | Route | ProxyNeighbour


@dataclass(frozen=True, slots=True)
class Outbound:
    """Connections to delete when an address gets a translation; otherwise they would go on untranslated.

    :ivar addresses: fixed addresses whose connections to the outside are translated
    :ivar inside: IPv4 networks that are reached without leaving to the outside, so that nothing is translated
    """

    addresses: frozenset[str] = frozenset()
    inside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """The contents of one slice of a namespace.

    :ivar name: of the namespace, e.g. ``qrouter-<uuid>``
    :ivar ownership: which objects of the namespace belong to this slice
    :ivar tables: our part of each packet filter table that this slice manages; other tables are not read
    :ivar stale_tables: only in observed states: chains that are removed, of neutron-l3-agent in nf_tables, and any in
        the packet filter that this host does not use
    :ivar policers: only in observed states: filters of neutron-l3-agent, which are removed
    :ivar announcements: only in desired states; likewise ``outbound``
    :ivar link_locals: only in observed states: link-local addresses that the kernel or another program made
    :ivar loopback: only in observed states whose ownership has ``kernel_rules``: ``lo``, which must be up
    :ivar lost_routes: only in observed states: routes that the kernel made with addresses which are still there, and
        which another program has removed
    :ivar adverse: only in observed states: parameters of devices with values that keep a router from working
    :ivar virtual_router: only in desired states: what it holds is not part of the comparison
    """

    name: str
    ownership: Ownership
    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    proxy_neighbours: frozenset[ProxyNeighbour] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    limits: frozenset[Limit] = frozenset()
    policers: frozenset[Policer] = frozenset()
    tables: tuple[Table, ...] = ()
    stale_tables: tuple[Table, ...] = ()
    announcements: tuple[Announcement, ...] = field(default=(), compare=False)
    outbound: Outbound = field(default=Outbound(), compare=False)
    link_locals: frozenset[Address] = field(default=frozenset(), compare=False)
    loopback: Link | None = field(default=None, compare=False)
    lost_routes: frozenset[KernelRoute] = field(default=frozenset(), compare=False)
    adverse: frozenset[Sysctl] = field(default=frozenset(), compare=False)
    virtual_router: VirtualRouterState | None = field(default=None, compare=False)

    def of_kind(self, kind: AnyKind) -> frozenset[Any]:
        """Return the objects of one kind."""
        objects: frozenset[Any] = getattr(self, kind.field)
        return objects


def thing_of(namespace: str, item: KernelObject | None) -> Hashable:
    """Return the identity of an object on this host; None: the namespace itself."""
    if item is None:
        return (namespace, "namespace", namespace)
    kind = KIND_OF[type(item)]
    return (namespace, kind.name, kind.identity(item))


def without_device(state: NamespaceState, device: str) -> NamespaceState:
    """Return the state without a device, and without all objects that the kernel removes together with it."""
    left: dict[str, Any] = {
        kind.field: frozenset(item for item in state.of_kind(kind) if device not in kind.devices(item))
        for kind in KINDS
        if kind.goes_with_device
    }
    left["link_locals"] = frozenset(address for address in state.link_locals if address.device != device)
    left["lost_routes"] = frozenset(route for route in state.lost_routes if route.device != device)
    left["adverse"] = frozenset(one for one in state.adverse if one.device != device)
    return replace(state, **left)
