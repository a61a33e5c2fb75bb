"""Says what an event of the kernel is about, and whether it contradicts a desired state.

Used by :mod:`.drift` and :mod:`.kept_trust`.
"""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.desired import names
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.kernel.drift_events import AnyEvent, Event
from dvr_agent.state.address import Address
from dvr_agent.state.diff import is_wanted_route
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link, Port
from dvr_agent.state.namespace import KIND_OF, NamespaceState

LOOPBACK = "lo"


def is_drift(desired: NamespaceState, event: Event) -> bool:
    """Return True if an event in the namespace of a desired state contradicts it."""
    item = event.item
    if item is None:
        return True
    if isinstance(item, Link) and item.name == LOOPBACK:
        return desired.ownership.kernel_rules and not (event.present and item.up)
    if isinstance(item, KernelRoute):
        return not event.present and is_wanted_route(item, desired)
    if desired.virtual_router is not None and desired.virtual_router.holds(item):
        return False
    return _differs(desired, item, event.present)


def _differs(desired: NamespaceState, item: KernelObject, present: bool) -> bool:
    """Return True if an object that is there, or is not, is not as desired."""
    kind = KIND_OF[type(item)]
    wanted = desired.of_kind(kind)
    if not present:
        key = kind.identity(item)
        return item in wanted or (kind.key is not None and any(kind.identity(one) == key for one in wanted))
    if item in wanted or (isinstance(item, Address) and item.cidr.startswith("fe80:")):
        return False
    if kind.key is not None:
        key = kind.identity(item)
        same_key = [one for one in wanted if kind.identity(one) == key]
        if same_key:
            return not any(kind.same(item, one) for one in same_key)
    # A parameter that is not desired is nobody's.
    return kind.removable and kind.owned(desired.ownership, item)


def stems_of(event: Event) -> list[str]:
    """Return the stems of the routers whose slices an event in a fip namespace is about; none: it may be about all."""
    prefix = names.FIP_TO_ROUTER
    devices = () if event.item is None else KIND_OF[type(event.item)].devices(event.item)
    return [device[len(prefix) :] for device in devices if device.startswith(prefix)]


def is_up(event: AnyEvent) -> bool:
    """Return True if an event says that a link is there and up."""
    return isinstance(event, Event) and event.present and isinstance(event.item, Link) and event.item.up


def states_of(desired: DesiredRouter | None) -> Iterator[NamespaceState]:
    """Yield the desired states of a router's namespaces, with the shared part of the fip namespace."""
    if desired is not None:
        for state in (desired.qrouter, desired.base, desired.slice, desired.snat):
            if state is not None:
                yield state


def ports_of(desired: DesiredRouter | None) -> Iterator[Port]:
    """Yield the ports of a router."""
    for state in states_of(desired):
        for link in state.links:
            if isinstance(link.origin, Port):
                yield link.origin
