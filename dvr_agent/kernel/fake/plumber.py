"""Links, addresses, routes, rules, neighbours and sysctls of the fake kernel.

Each kind of object is read and written as its :class:`~dvr_agent.state.kind.Kind` describes; :data:`_REFUSALS` and
:data:`_REMOVALS` add the rules of Linux for single kinds.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.fake import routes
from dvr_agent.kernel.fake.faults import Faults
from dvr_agent.kernel.fake.world import FakeLink, FakeNamespace, World
from dvr_agent.kernel.kinds import HANDLER_OF
from dvr_agent.state.address import ADDRESS_KIND, Address, has_ethernet_address, kernel_link_local
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.kind import AnyKind, KernelObject
from dvr_agent.state.limit import LIMIT_KIND, Drops, Limit
from dvr_agent.state.link import Link, Veth, VethPeer
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import KIND_OF, NamespaceState
from dvr_agent.state.neighbour import NEIGHBOUR_KIND, Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import ROUTE_KIND, Route
from dvr_agent.state.sysctl import Sysctl

LINK_LOCAL_OF_MAC = "0"
"""``addr_gen_mode`` in which the kernel makes link-local addresses."""


class FakePlumber:
    """:class:`~dvr_agent.kernel.api.InterfacePlumber` in memory."""

    def __init__(self, world: World, faults: Faults, counters: WriteCounters) -> None:
        self._world, self._faults, self._counters = world, faults, counters

    def observe(
        self,
        namespace: str,
        ownership: Ownership,
        sysctls: Iterable[str],
        neighbours: Collection[Neighbour] | None = None,
    ) -> NamespaceState | None:
        """Read a slice; see :meth:`dvr_agent.kernel.api.InterfacePlumber.observe`."""
        keys = tuple(sysctls)
        self._faults.call("interfaces.observe", namespace, ownership, keys, neighbours)
        there = self._world.namespaces.get(namespace)
        if there is None:
            return None
        owns = ownership.owns_device
        lo = there.links.get("lo")
        found: dict[str, Any] = {
            kind.field: frozenset(one for one in objects.values() if kind.owned(ownership, one))
            for kind, objects in there.objects.items()
        }
        found[NEIGHBOUR_KIND.field] = _seen_neighbours(found, neighbours)
        return NamespaceState(
            namespace,
            ownership,
            links=frozenset(Link(name, one.mac, one.mtu, one.up) for name, one in there.links.items() if owns(name)),
            sysctls=frozenset(Sysctl(key, there.sysctls[key]) for key in keys if key in there.sysctls),
            link_locals=_link_locals(there, found[ADDRESS_KIND.field]),
            loopback=Link("lo", lo.mac, lo.mtu, lo.up) if lo is not None and ownership.kernel_rules else None,
            lost_routes=_lost_routes(there, found[ADDRESS_KIND.field]),
            adverse=frozenset(one for name in there.links if owns(name) for one in _adverse(there, name)),
            **found,
        )

    def limits(self, namespace: str, ownership: Ownership) -> frozenset[Limit]:
        """Read limits; see :meth:`dvr_agent.kernel.api.InterfacePlumber.limits`."""
        self._faults.call("interfaces.limits", namespace, ownership)
        there = self._world.namespaces.get(namespace)
        if there is None:
            raise NamespaceGoneError(namespace, "namespace", errno.ENOENT, "it does not exist")
        return frozenset(one for one in there.objects[LIMIT_KIND].values() if LIMIT_KIND.owned(ownership, one))

    def limit_drops(self, namespace: str) -> tuple[Drops, ...]:
        """Return nothing: no packet passes here."""
        self._faults.call("interfaces.limit_drops", namespace)
        return ()

    def apply(self, namespace: str, changes: Sequence[Change], missing: Missing | None = None) -> None:
        """Make changes; see :meth:`dvr_agent.kernel.api.InterfacePlumber.apply`."""
        self._faults.call("interfaces.apply", namespace, tuple(changes))
        if not changes:
            return
        there = self._world.namespaces.get(namespace)
        if there is None:
            raise NamespaceGoneError(namespace, "namespace", errno.ENOENT, "it does not exist")
        refused = Missing() if missing is None else missing
        for change in changes:
            if refused.takes(namespace, change):
                continue
            try:
                self._try(namespace, there, change)
            except NamespaceGoneError:
                raise
            except KernelError as exc:
                refused.refuse(namespace, change, exc)
        if missing is None and refused.errors:
            raise refused.errors[0]

    def _try(self, namespace: str, there: FakeNamespace, change: Change) -> None:
        self._faults.call("interfaces.change", namespace, change)
        if isinstance(change.item, Sysctl):
            self._counters.sysctls += 1
        elif isinstance(change.item, Limit):
            self._counters.nftables += 1
        else:
            self._counters.netlink += 1
        code = self._change(namespace, there, change)
        if code:
            raise KernelError(namespace, change.item.text, code)

    def _change(self, name: str, there: FakeNamespace, change: Change) -> int:
        """Make one change; returns the errno, 0: done."""
        item = change.item
        if isinstance(item, Link):
            return self._change_link(name, there, item, change.action)
        if isinstance(item, Sysctl):
            return _set_sysctl(there, item)
        if isinstance(item, KernelRoute):
            there.lost_routes.discard(item)
            return 0
        return _change_object(there, item, change.action)

    def _change_link(self, name: str, there: FakeNamespace, item: Link, action: Action) -> int:
        if action is Action.ADD:
            return self._add_link(name, there, item)
        if action is Action.CHANGE:
            return _set_link(there, item)
        self._world.remove_link(name, item.name)
        return 0

    def _add_link(self, name: str, there: FakeNamespace, item: Link) -> int:
        if isinstance(item.origin, VethPeer):
            return _set_link(there, item)
        if not isinstance(item.origin, Veth):
            raise ValueError(f"a {type(item.origin).__name__} is made by its attach driver: {item.text}")
        far = self._world.namespaces.get(item.origin.peer_namespace)
        if far is None:
            raise NamespaceGoneError(item.origin.peer_namespace, item.text, errno.ENOENT, "it does not exist")
        if item.name in there.links or item.origin.peer_name in far.links:
            return errno.EEXIST
        self._world.add_pair(
            (name, item.name),
            FakeLink(item.mac, item.mtu, item.up),
            (item.origin.peer_namespace, item.origin.peer_name),
            FakeLink(item.origin.peer_mac, item.mtu, False),
        )
        return 0


def _set_link(there: FakeNamespace, item: Link) -> int:
    link = there.links.get(item.name)
    if link is None:
        return errno.ENODEV
    there.set_mac(item.name, item.mac)
    link.mtu = item.mtu
    if link.up and not item.up:
        there.set_down(item.name)
    link.up = item.up
    return 0


def _set_sysctl(there: FakeNamespace, item: Sysctl) -> int:
    if item.key not in there.sysctls:
        return errno.ENOENT
    there.sysctls[item.key] = item.value
    return 0


def _change_object(there: FakeNamespace, item: KernelObject, action: Action) -> int:
    """Make a change of an object whose kind has a netlink handler."""
    kind = KIND_OF[type(item)]
    if action is Action.REMOVE:
        remove = _REMOVALS.get(kind, _remove_object)
        remove(there, item)
        return 0
    refuse = _REFUSALS.get(kind)
    if refuse is not None:
        code = refuse(there, item, action)
    else:
        code = 0 if all(device in there.links for device in _needed_devices(kind, item)) else errno.ENODEV
    if not code:
        there.objects[kind][kind.identity(item)] = item
    return code


def _needed_devices(kind: AnyKind, item: KernelObject) -> tuple[str, ...]:
    handler = HANDLER_OF.get(type(item))
    return kind.devices(item) if handler is None or handler.by_index else ()


def _remove_object(there: FakeNamespace, item: KernelObject) -> None:
    kind = KIND_OF[type(item)]
    there.objects[kind].pop(kind.identity(item), None)


def _remove_equal_route(there: FakeNamespace, item: Route) -> None:
    """Remove exactly this route: one with other hops stays."""
    if there.routes.get(item.key) == item:
        del there.routes[item.key]


def _refuse_route(there: FakeNamespace, item: Route, _action: Action) -> int:
    """Refuse what cannot be reached; another route in the same place is replaced."""
    up = {name: link.up for name, link in there.links.items()}
    return routes.refusal(item, up, there.addresses, there.routes.values())


_REMOVALS: dict[AnyKind, Callable[[FakeNamespace, Any], None]] = {
    ADDRESS_KIND: FakeNamespace.remove_address,
    ROUTE_KIND: _remove_equal_route,
}
"""Functions for kinds of which Linux removes more, or less, than the object with the same identity."""

_REFUSALS: dict[AnyKind, Callable[[FakeNamespace, Any, Action], int]] = {ROUTE_KIND: _refuse_route}
"""Functions that return the errno with which Linux refuses an object, 0: none; other kinds need only their devices."""


def _link_locals(there: FakeNamespace, addresses: Collection[Address]) -> frozenset[Address]:
    """Return the link-local addresses that the kernel has made of MAC addresses, and that nobody has added, too."""
    taken = {(one.device, one.ip) for one in addresses}
    able = (
        kernel_link_local(name, link.mac)
        for name, link in there.links.items()
        if name != "lo" and link.up and has_ethernet_address(link.mac)
        if there.sysctls.get(f"ipv6/conf/{name}/addr_gen_mode") == LINK_LOCAL_OF_MAC
        if there.sysctls.get(f"ipv6/conf/{name}/disable_ipv6") == "0"
    )
    return frozenset(one for one in able if (one.device, one.ip) not in taken)


def _adverse(there: FakeNamespace, device: str) -> Iterator[Sysctl]:
    """Yield the parameters of a device that keep a router from working.

    Not IPv6's forwarding, which does not follow from that of the namespace here.
    """
    for one in (
        Sysctl(f"ipv4/conf/{device}/forwarding", "0"),
        Sysctl(f"ipv4/conf/{device}/rp_filter", "1"),
        Sysctl(f"ipv6/conf/{device}/disable_ipv6", "1"),
    ):
        if there.sysctls.get(one.key) == one.value:
            yield one


def _lost_routes(there: FakeNamespace, addresses: Collection[Address]) -> frozenset[KernelRoute]:
    """Return the routes that were removed, and whose addresses and devices have not gone since."""
    present = {(one.device, one.cidr) for one in addresses if there.links[one.device].up}
    return frozenset(one for one in there.lost_routes if (one.device, one.cidr) in present)


def _seen_neighbours(found: dict[str, Any], wanted: Collection[Neighbour] | None) -> frozenset[Neighbour]:
    """Select the neighbours that are looked at: those wanted, or those of the families that have an address."""
    present: frozenset[Neighbour] = found[NEIGHBOUR_KIND.field]
    if wanted is not None:
        keys = {(one.dst, one.device) for one in wanted}
        return frozenset(one for one in present if (one.dst, one.device) in keys)
    families = {":" in address.cidr for address in found[ADDRESS_KIND.field]}
    return frozenset(one for one in present if (":" in one.dst) in families)
