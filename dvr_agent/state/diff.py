"""Compare two states of one namespace slice.  The result is data: ``dvrctl plan`` prints it, the executor applies it.

``diff(apply(a, diff(a, b)), b)`` is empty for all a and b; ``tests/unit/test_diff.py`` checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from dvr_agent.state import adverse
from dvr_agent.state.address import ADDRESS_KIND, Address, has_ethernet_address, is_made_of_mac, kernel_link_local
from dvr_agent.state.filter import Table
from dvr_agent.state.filter_runs import is_same
from dvr_agent.state.kernel_route import LINK_LOCAL_NETWORK, KernelRoute, connected_route
from dvr_agent.state.kind import AnyKind, KernelObject
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KIND_OF, KINDS, Announcement, NamespaceState, Outbound
from dvr_agent.state.rule import KERNEL_RULES
from dvr_agent.state.virtual_router import VirtualRouterState


class Action(Enum):
    """What happens to an object; the value is the sign that plans print."""

    ADD = "+"
    REMOVE = "-"
    CHANGE = "~"


class Change(NamedTuple):
    """One object that is added, removed or changed; ``old`` is set for removed and changed ones only."""

    action: Action
    item: KernelObject
    old: KernelObject | None = None

    @property
    def kind(self) -> str:
        """Name of the object's kind."""
        return KIND_OF[type(self.item)].name

    @property
    def text(self) -> str:
        """The change as plans print it."""
        was = f" (was: {self.old.text})" if self.action is Action.CHANGE and self.old is not None else ""
        return f"{self.action.value} {self.item.text}{was}"


class TableChange(NamedTuple):
    """One packet filter table of which our part differs; one commit replaces it."""

    old: Table
    new: Table


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes of one slice of a namespace.

    :ivar create: the namespace is missing
    :ivar remove: the namespace is removed with all that is in it
    :ivar stale_tables: tables from which stale chains (``old``) are removed, of neutron-l3-agent in nf_tables, and any
        in the packet filter that this host does not use; ``new`` is our table that takes their place
    :ivar outbound: the connections to delete where an address gets a translation
    """

    namespace: str
    create: bool = False
    remove: bool = False
    items: tuple[Change, ...] = ()
    tables: tuple[TableChange, ...] = ()
    stale_tables: tuple[TableChange, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    outbound: Outbound = field(default=Outbound())

    def __bool__(self) -> bool:
        return bool(self.create or self.remove or self.items or self.tables or self.stale_tables)


def diff(observed: NamespaceState | None, desired: NamespaceState) -> Changes:
    """Compute the changes that turn ``observed`` (None: no such namespace) into ``desired``, kind by kind."""
    now = observed or NamespaceState(desired.name, desired.ownership, rules=desired.rules & KERNEL_RULES)
    if desired.virtual_router is not None:
        now = _without_held(now, desired.virtual_router)
    items = [*_loopback_change(now)]
    for kind in KINDS:
        items += _address_changes(now, desired) if kind is ADDRESS_KIND else _kind_changes(kind, now, desired)
    if now.lost_routes:
        items += _kernel_route_changes(now, desired)
    if now.adverse:
        items += [Change(Action.CHANGE, wanted, found) for found, wanted in adverse.repairs(now, desired)]
    return Changes(
        desired.name,
        create=observed is None,
        items=tuple(items),
        tables=tuple(table_changes(now.tables, desired.tables)),
        stale_tables=tuple(_stale_table_changes(now.stale_tables, desired.tables)),
        announcements=_announcements(desired.announcements, items),
        outbound=desired.outbound,
    )


def _announcements(wanted: Collection[Announcement], changes: Collection[Change]) -> tuple[Announcement, ...]:
    """Select the announcements of objects that are added or changed, and of devices with another MAC address.

    One per address.
    """
    if not wanted or not changes:
        return ()
    kinds = {type(one.because) for one in wanted}
    added = {change.item for change in changes if type(change.item) in kinds and change.action is not Action.REMOVE}
    moved = with_new_mac(changes)
    found = {(one.device, one.address): one for one in wanted if one.because in added or one.device in moved}
    return tuple(found.values())


def with_new_mac(changes: Collection[Change]) -> set[str]:
    """Return the names of the devices that stay and get another MAC address: what they answer for is announced."""
    links = [(one.item, one.old) for one in changes if isinstance(one.item, Link) and isinstance(one.old, Link)]
    return {link.name for link, old in links if link.mac != old.mac}


def _without_held(now: NamespaceState, virtual_router: VirtualRouterState) -> NamespaceState:
    """Return an observed state without what VRRP holds: it is right on the master, and right to lack elsewhere."""
    held = virtual_router.holds
    return replace(
        now,
        addresses=frozenset(one for one in now.addresses if not held(one)),
        routes=frozenset(one for one in now.routes if not held(one)),
        link_locals=frozenset(one for one in now.link_locals if not held(one)),
    )


def _loopback_change(now: NamespaceState) -> Iterator[Change]:
    """Raise ``lo``, which is down in a namespace that another program made."""
    if now.loopback is not None and not now.loopback.up:
        yield Change(Action.CHANGE, now.loopback._replace(up=True), now.loopback)


def _kind_changes(kind: AnyKind, now: NamespaceState, desired: NamespaceState) -> Iterable[Change]:
    """Compare the objects of one kind."""
    found, wanted = now.of_kind(kind), desired.of_kind(kind)
    if kind.flushed_on_new_mac:
        found = _unflushed(kind, now, desired)
    if found == wanted:
        return ()
    key = kind.key
    return _whole_changes(found, wanted) if key is None else _keyed_changes(kind, key, found, wanted)


def _whole_changes(found: frozenset[Any], wanted: frozenset[Any]) -> list[Change]:
    """Compare objects that are their own identity: added or removed, never changed."""
    return [*_added(_by_text(wanted - found)), *_removed(_by_text(found - wanted))]


_change: Callable[[tuple[object, ...]], Change] = partial(tuple.__new__, Change)
"""Makes a change of its values; in half the time of a call of the class."""


def _added(items: Iterable[Any]) -> Iterator[Change]:
    return map(_change, zip(repeat(Action.ADD), items, repeat(None)))


def _removed(items: Iterable[Any]) -> Iterator[Change]:
    return (Change(Action.REMOVE, item, item) for item in items)


def _by_text(items: Iterable[Any]) -> list[Any]:
    """Sort objects, which are tuples, by their text: some of their values cannot be compared."""
    return sorted(items, key=tuple.__repr__)


def _keyed_changes(
    kind: AnyKind, key: Callable[[Any], Any], found: frozenset[Any], wanted: frozenset[Any]
) -> list[Change]:
    """Compare objects that have an identity and a value that can be changed in place."""
    # The kernel can have several routes of one identity (``ip route append``): one stays, the others are removed.
    by_key: dict[Hashable, list[Any]] = {}
    for item in found - wanted:
        by_key.setdefault(key(item), []).append(item)
    new = sorted(wanted - found, key=key)
    if not by_key:
        return [*_added(new)]
    changes = []
    for item in new:
        same_key = by_key.get(key(item))
        if not same_key:
            changes.append(Change(Action.ADD, item))
            continue
        old = next((one for one in same_key if kind.same(one, item)), None) or min(same_key, key=str)
        same_key.remove(old)
        if not kind.same(old, item):
            changes.append(Change(Action.CHANGE, item, old))
    if kind.removable:
        changes += _removed(sorted((item for rest in by_key.values() for item in rest), key=str))
    return changes


def _unflushed(kind: AnyKind, now: NamespaceState, desired: NamespaceState) -> frozenset[Any]:
    """Exclude objects that the kernel flushes when their device gets another MAC address."""
    found = now.of_kind(kind)
    macs = {link.name: link.mac for link in now.links}
    changed = {link.name for link in desired.links if macs.get(link.name, link.mac) != link.mac}
    return frozenset(item for item in found if changed.isdisjoint(kind.devices(item))) if changed else found


def _address_changes(now: NamespaceState, desired: NamespaceState) -> Iterator[Change]:
    """Compare addresses.

    The kernel makes a link-local address from a device's MAC address when the device is raised, and keeps it when the
    MAC address changes: then it is replaced by that of the new MAC address.
    """
    if not now.link_locals and now.addresses == desired.addresses:
        return
    desired_addresses, found = desired.addresses, now.addresses | now.link_locals
    wanted = {link.name for link in desired.links}
    others = (link for link in now.links if link.name not in wanted and has_ethernet_address(link.mac))
    links = (*desired.links, *others)
    places = {(one.device, one.ip) for one in desired_addresses}
    # A device has an IPv6 address once: a desired one with another prefix length replaces the kernel's.
    own = {
        one for one in (kernel_link_local(link.name, link.mac) for link in links) if (one.device, one.ip) not in places
    }
    stale = {one for one in found - desired_addresses - own if is_made_of_mac(one) and one.device in wanted}
    conflicting = {one for one in now.link_locals if (one.device, one.ip) in places}
    yield from _whole_changes((now.addresses - own) | conflicting | stale, desired_addresses)
    losing_link_local = {one.device for one in found - desired_addresses if one.cidr.startswith("fe80:")}
    for right in sorted(kernel_link_local(link.name, link.mac) for link in desired.links):
        if right not in found and (right.device, right.ip) not in places and right.device in losing_link_local:
            yield Change(Action.ADD, right)


def table_changes(now: Iterable[Table], want: Iterable[Table]) -> Iterator[TableChange]:
    """Compare our part of each table; a table that is not desired loses our part.

    In nf_tables the order of rules that are elements of a set is none.
    """
    had = {table.key: table for table in now}
    for table in want:
        old = had.get(table.key) or Table(table.family, table.name)
        if not (is_same(old, table) if old.nft else old == table):
            yield TableChange(old, table)
    wanted = {table.key for table in want}
    for table in now:
        if table.key not in wanted and (table.chains or table.jumps):
            yield TableChange(table, Table(*table.key))


def _stale_table_changes(now: Iterable[Table], want: Iterable[Table]) -> Iterator[TableChange]:
    """Replace each table with stale chains by our table of the same name."""
    wanted = {table.key: table for table in want}
    for table in now:
        yield TableChange(table, wanted.get(table.key) or Table(*table.key))


def _kernel_route_changes(now: NamespaceState, desired: NamespaceState) -> Iterator[Change]:
    """Add the lost routes of desired addresses; addresses of one subnet on a device share one."""
    lost = {route.key: route for route in sorted(now.lost_routes) if is_wanted_route(route, desired)}
    yield from _added(lost.values())


def is_wanted_route(route: KernelRoute, desired: NamespaceState) -> bool:
    """Return True if a route that the kernel makes is of an address which is desired, or of one that VRRP may hold.

    To an address that VRRP holds, and may be about to remove, the local route is not: it would outlive the address.
    """
    virtual_router = desired.virtual_router
    if route.is_local:
        address = Address(route.device, route.cidr)
        if virtual_router is not None and virtual_router.holds(address):
            return False
        return address in desired.addresses or _is_link_local(route, desired)
    held = () if virtual_router is None else (virtual_router.primary, *virtual_router.addresses)
    on_device = (one for one in (*desired.addresses, *held) if route.device in (one.device, ""))
    return any(connected_route(one).dst == route.dst for one in on_device) or _is_link_local(route, desired)


def _is_link_local(route: KernelRoute, desired: NamespaceState) -> bool:
    """Return True for a route of the link-local address that the kernel makes for each device."""
    links = [link for link in desired.links if link.name == route.device]
    if not route.is_local:
        return bool(links) and route.dst == LINK_LOCAL_NETWORK
    return any(kernel_link_local(link.name, link.mac).cidr == route.cidr for link in links)
