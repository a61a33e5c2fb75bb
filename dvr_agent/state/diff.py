"""Compare two states of one namespace slice.  The result is data: ``dvrctl plan`` prints it, the kernel applies it.

``diff(a, apply(a, diff(a, b)))`` is empty for all a and b; ``tests/unit/test_diff.py`` holds this module to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeVar

from dvr_agent.state.address import Address, is_made_of_mac, kernel_link_local
from dvr_agent.state.filter import Table
from dvr_agent.state.link import Link, same_link
from dvr_agent.state.namespace import Announcement, NamespaceState, Outbound
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.route import Route
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.state.sysctl import Sysctl, same_sysctl

Item = Link | Address | Route | Rule | Neighbour | Sysctl


class Action(Enum):
    """What happens to an object; the value is the sign it is printed with."""

    ADD = "+"
    REMOVE = "-"
    CHANGE = "~"


class Change(NamedTuple):
    """One object that is added, removed or given another value; ``old`` is set for the latter two only."""

    action: Action
    item: Item
    old: Item | None = None

    @property
    def kind(self) -> str:
        return type(self.item).__name__.lower()

    @property
    def text(self) -> str:
        was = f" (was: {self.old.text})" if self.action is Action.CHANGE and self.old is not None else ""
        return f"{self.action.value} {self.item.text}{was}"


class TableChange(NamedTuple):
    """One packet filter table whose part of ours differs; it is replaced by one commit."""

    old: Table
    new: Table


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that has to happen in one namespace for one slice of it.

    :ivar create: the namespace itself is missing
    :ivar remove: the namespace itself goes, with all that is in it
    :ivar left_over: tables of nf_tables from which the chains of neutron-l3-agent (``old``) are removed; ``new`` is
        what of ours, in the legacy tables, takes their place
    :ivar outbound: which connections end where an address gets a translation
    """

    namespace: str
    create: bool = False
    remove: bool = False
    items: tuple[Change, ...] = ()
    tables: tuple[TableChange, ...] = ()
    left_over: tuple[TableChange, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    outbound: Outbound = field(default=Outbound())

    def __bool__(self) -> bool:
        return bool(self.create or self.remove or self.items or self.tables or self.left_over)


def diff(observed: NamespaceState | None, desired: NamespaceState) -> Changes:
    """What leads from ``observed`` (None: no such namespace) to ``desired``, in no particular order of kinds."""
    now = observed or NamespaceState(desired.name, desired.ownership, rules=desired.rules & KERNEL_RULES)
    links = tuple(_keyed(now.links, desired.links, _name, same_link))
    items = (
        *_loopback(now),
        *links,
        *_addresses(now, desired),
        *_keyed(now.routes, desired.routes, _key, _equal),
        *_plain(now.rules, desired.rules),
        *_keyed(_kept_neighbours(now.neighbours, links), desired.neighbours, _key, _equal),
        *_sysctls(now.sysctls, desired.sysctls),
    )
    added = {change.item for change in items if change.action is not Action.REMOVE}
    return Changes(
        desired.name,
        create=observed is None,
        items=items,
        tables=tuple(_tables(now.tables, desired.tables)),
        left_over=tuple(_left_over(now.left_over, desired.tables)),
        announcements=_announcements(desired.announcements, added),
        outbound=desired.outbound,
    )


def _announcements(wanted: Iterable[Announcement], added: set[Item]) -> tuple[Announcement, ...]:
    """Those that something added or changed is a reason for; each address once."""
    found = {(one.device, one.address): one for one in wanted if one.because in added}
    return tuple(found.values())


def _loopback(now: NamespaceState) -> Iterator[Change]:
    """Raise ``lo``: it is down in a namespace that somebody else made."""
    if now.loopback is not None and not now.loopback.up:
        yield Change(Action.CHANGE, now.loopback._replace(up=True), now.loopback)


def _addresses(now: NamespaceState, desired: NamespaceState) -> Iterator[Change]:
    """Compare addresses.

    The kernel makes a link-local address of a device's MAC address when the device is raised, and keeps it when the MAC
    address changes: then it gives way to that of the new MAC address.
    """
    if not now.link_locals and now.addresses == desired.addresses:
        return
    asked, found = desired.addresses, now.addresses | now.link_locals
    wanted = {link.name for link in desired.links}
    links = (*desired.links, *(link for link in now.links if link.name not in wanted))
    places = {(one.device, one.ip) for one in asked}
    # A device has an IPv6 address once: one that is asked for with another prefix length takes the kernel's place.
    own = {
        one for one in (kernel_link_local(link.name, link.mac) for link in links) if (one.device, one.ip) not in places
    }
    stale = {one for one in found - asked - own if is_made_of_mac(one) and one.device in wanted}
    in_the_way = {one for one in now.link_locals if (one.device, one.ip) in places}
    yield from _plain((now.addresses - own) | in_the_way | stale, asked)
    losing = {one.device for one in found - asked if one.cidr.startswith("fe80:")}
    for right in sorted(kernel_link_local(link.name, link.mac) for link in desired.links):
        if right not in found and (right.device, right.ip) not in places and right.device in losing:
            yield Change(Action.ADD, right)


K = TypeVar("K", Link, Route, Neighbour)
P = TypeVar("P", Address, Rule)


def _plain(now: frozenset[P], want: frozenset[P]) -> Iterator[Change]:
    """Objects that are identical or different, nothing between."""
    if now == want:
        return
    for item in sorted(want - now, key=str):
        yield Change(Action.ADD, item)
    for item in sorted(now - want, key=str):
        yield Change(Action.REMOVE, item, item)


def _keyed(
    now: frozenset[K], want: frozenset[K], key: Callable[[K], Hashable], same: Callable[[K, K], bool]
) -> Iterator[Change]:
    """Objects that have an identity and, under it, a value that can be changed in place."""
    if now == want:
        return
    had: dict[Hashable, list[K]] = {}
    for item in now:
        had.setdefault(key(item), []).append(item)
    for item in sorted(want, key=lambda item: str(key(item))):
        found = had.get(key(item))
        if not found:
            yield Change(Action.ADD, item)
            continue
        # The kernel can hold several routes of one identity (``ip route append``): one stays, the others go.
        old = next((one for one in found if same(one, item)), None) or min(found, key=str)
        found.remove(old)
        if not same(old, item):
            yield Change(Action.CHANGE, item, old)
    for item in sorted((item for rest in had.values() for item in rest), key=str):
        yield Change(Action.REMOVE, item, item)


def _kept_neighbours(now: frozenset[Neighbour], links: Iterable[Change]) -> frozenset[Neighbour]:
    """Less those that the kernel drops by itself: all on a device that gets another MAC (``neigh_changeaddr``)."""
    renewed = {
        change.item.name
        for change in links
        if isinstance(change.item, Link) and isinstance(change.old, Link) and change.old.mac != change.item.mac
    }
    return frozenset(one for one in now if one.device not in renewed) if renewed else now


def _sysctls(now: frozenset[Sysctl], want: frozenset[Sysctl]) -> Iterator[Change]:
    had = {item.key: item for item in now}
    for item in sorted(want - now):
        old = had.get(item.key)
        if old is None:
            yield Change(Action.ADD, item)
        elif not same_sysctl(old, item):
            yield Change(Action.CHANGE, item, old)


def _tables(now: Iterable[Table], want: Iterable[Table]) -> Iterator[TableChange]:
    had = {table.key: table for table in now}
    for table in want:
        old = had.get(table.key) or Table(table.family, table.name)
        if old != table:
            yield TableChange(old, table)
    wanted = {table.key for table in want}
    for table in now:
        if table.key not in wanted and (table.chains or table.jumps):
            yield TableChange(table, Table(*table.key))


def _left_over(now: Iterable[Table], want: Iterable[Table]) -> Iterator[TableChange]:
    wanted = {table.key: table for table in want}
    for table in now:
        yield TableChange(table, wanted.get(table.key) or Table(*table.key))


def _name(link: Link) -> str:
    return link.name


def _key(item: Route | Neighbour) -> tuple[Hashable, ...]:
    return item.key


def _equal(one: Item, other: Item) -> bool:
    return one == other
