"""Turns a notification into the object of ``state`` that has changed.  Knows no routers.

Used by :mod:`.drift_events`.  An object that :mod:`dvr_agent.state` cannot describe is none of ours and yields nothing;
but a route that *replaced* one of ours may be of any kind: it is reported as the end of that place's route, and of the
connected route which may have been there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pyroute2.netlink import NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)

from dvr_agent.kernel.netlink import kernel_route, route, rule
from dvr_agent.kernel.netlink.address import decode_addresses
from dvr_agent.kernel.netlink.link import decode_brief, index_and_name
from dvr_agent.kernel.netlink.listener import Notification
from dvr_agent.kernel.netlink.neighbour import decode_named_neighbour
from dvr_agent.kernel.netlink.netconf import decode_forwarding
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link

LINK_KINDS = (RTM_NEWLINK, RTM_DELLINK)
_ROUTE_KINDS = (RTM_NEWROUTE, RTM_DELROUTE)
_DEVICE_KINDS = (RTM_NEWADDR, RTM_DELADDR, RTM_NEWNEIGH, RTM_DELNEIGH)
"""Objects on one device, whose index is at the same place in struct ifaddrmsg and struct ndmsg."""
_INDEX, _INDEX_AT = struct.Struct("=I"), 4
GONE_LINK = (RTM_DELLINK,)
_PRESENT = frozenset({RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE, RTM_NEWNEIGH})

Names = Mapping[int, str]


class Found(NamedTuple):
    """An object, and whether it is there after the change."""

    item: KernelObject
    present: bool


def decode(notification: Notification, devices: Names) -> Iterable[Found]:
    """Yield the objects that a notification is about.

    :param devices: index → name of all devices of the namespace
    """
    decoder = _DECODERS.get(notification.kind)
    return () if decoder is None else decoder(notification, devices)


def protocol_of(notification: Notification) -> str:
    """Return the protocol of a route or rule that was added, as iproute2 names it; empty where it says nothing.

    FRR, bird and others name themselves by it.  That of an object which has gone is ours.
    """
    if notification.kind == RTM_NEWROUTE:
        return route.decode_protocol(notification.body)
    return rule.decode_protocol(notification.body) if notification.kind == RTM_NEWRULE else ""


def device_indexes(notification: Notification) -> list[int]:
    """Return the indexes by which a notification names devices, but for those of links."""
    if notification.kind in _ROUTE_KINDS:
        return route.hop_indexes(notification.body)
    return [_INDEX.unpack_from(notification.body, _INDEX_AT)[0]] if notification.kind in _DEVICE_KINDS else []


def link_of(notification: Notification) -> tuple[int, str]:
    """Return index and name of the link that a notification is about."""
    return index_and_name(notification.body)


def _link(notification: Notification, _devices: Names) -> Iterable[Found]:
    info = decode_brief(notification.body)
    yield Found(Link(info.name, info.mac, info.mtu, info.up), notification.kind in _PRESENT)


def _address(notification: Notification, devices: Names) -> Iterable[Found]:
    for item in decode_addresses((notification.body,), devices):
        yield Found(item, notification.kind in _PRESENT)


def _route(notification: Notification, devices: Names) -> Iterable[Found]:
    present = notification.kind in _PRESENT
    found = [Found(item, present) for item in route.decode_routes((notification.body,), devices)]
    if not found and present and notification.flags & NLM_F_REPLACE:
        found = [Found(item, False) for item in route.decode_replaced(notification.body)]
    if not present:
        found += [Found(item, False) for item in kernel_route.decode_removed(notification.body, devices)]
    elif notification.flags & NLM_F_REPLACE:
        found += [Found(item, False) for item in kernel_route.decode_replaced(notification.body)]
    return found


def _rule(notification: Notification, _devices: Names) -> Iterable[Found]:
    for item in rule.decode_rules((notification.body,)):
        yield Found(item, notification.kind in _PRESENT)


def _neighbour(notification: Notification, devices: Names) -> Iterable[Found]:
    found = decode_named_neighbour(notification.body, devices)
    if found is not None:
        item, permanent = found
        yield Found(item, permanent and notification.kind in _PRESENT)


def _parameter(notification: Notification, _devices: Names) -> Iterable[Found]:
    item = decode_forwarding(notification.body)
    if item is not None:
        yield Found(item, True)


_DECODERS: dict[int, Callable[[Notification, Names], Iterable[Found]]] = {
    RTM_NEWLINK: _link,
    RTM_DELLINK: _link,
    RTM_NEWADDR: _address,
    RTM_DELADDR: _address,
    RTM_NEWROUTE: _route,
    RTM_DELROUTE: _route,
    RTM_NEWRULE: _rule,
    RTM_DELRULE: _rule,
    RTM_NEWNEIGH: _neighbour,
    RTM_DELNEIGH: _neighbour,
    RTM_NEWNETCONF: _parameter,
}
