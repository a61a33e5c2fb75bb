"""What was seen of a namespace, edited before it is compared: a device that is there and of no use counts as missing.

Pure.  For ``router``, where half of a veth pair is of no use, and the device of an earlier agent gateway port may stay
until no router needs it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dvr_agent.state.diff import Action, Change
from dvr_agent.state.namespace import NamespaceState


def removals(state: NamespaceState | None, device: str) -> tuple[Change, ...]:
    """The removal of a device, empty if it is not there."""
    links = state.links if state else ()
    return tuple(Change(Action.REMOVE, link, link) for link in links if link.name == device)


def without(state: NamespaceState | None, device: str) -> NamespaceState | None:
    """What was seen, less a device and all that hangs on it."""
    if state is None:
        return None
    return replace(
        state,
        links=frozenset(link for link in state.links if link.name != device),
        addresses=frozenset(address for address in state.addresses if address.device != device),
        link_locals=frozenset(address for address in state.link_locals if address.device != device),
        routes=frozenset(route for route in state.routes if all(hop.device != device for hop in route.hops)),
        neighbours=frozenset(neighbour for neighbour in state.neighbours if neighbour.device != device),
        sysctls=frozenset(sysctl for sysctl in state.sysctls if sysctl.device != device),
    )


def set_aside(
    state: NamespaceState | None, devices: Collection[str], wanted: Collection[tuple[str, int]]
) -> NamespaceState | None:
    """Return what was seen without devices that stay as they are, but with their routes that are to lead elsewhere.

    :param wanted: (destination, table) of the routes that are to be there
    """
    if state is None or not devices:
        return state
    left = state
    for device in devices:
        left = without(left, device) or left
    moving = (route for route in state.routes - left.routes if route.key in wanted)
    return replace(left, routes=left.routes | frozenset(moving))
