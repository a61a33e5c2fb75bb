"""Packet filter rules of address scopes (``docs/dataplane.md``, "Address scopes").

Packets are marked with the scope of the device that they come in by, and dropped where they would leave by a device of
another scope.  A floating IP may belong to an instance in another scope than the external one: its packets cross scopes
by NAT, and get the mark of the other scope on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from dvr_agent.desired.common import DROP
from dvr_agent.desired.host_view import HostView
from dvr_agent.desired.scope_marks import SCOPE_MASK
from dvr_agent.model.router import FloatingIp, RouterPort
from dvr_agent.state.filter import (
    ConnmarkMatch,
    Family,
    FilterRule,
    MarkMatch,
    RestoreConnmark,
    SaveConnmark,
    SetMark,
)
from dvr_agent.state.itemwise import itemwise

_OTHER_SCOPE = "floating IPs of instances in another address scope"
UNMARKED_CONNECTION = ConnmarkMatch(0, SCOPE_MASK)
RESTORE_SCOPE = FilterRule(
    RestoreConnmark(SCOPE_MASK),
    matches=(ConnmarkMatch(0, SCOPE_MASK, invert=True),),
    note="address scope of the connection",
)


class ScopedDevice(NamedTuple):
    """A device, and the mark of an address scope that its packets of one family carry."""

    device: str
    mark: int


def scope_of(port: RouterPort, family: Family) -> str | None:
    """Return the address scope id of a port in a family."""
    return port.scope4 if family == 4 else port.scope6


def scope_mangle(devices: Iterable[ScopedDevice]) -> list[FilterRule]:
    """Mark incoming packets by the address scope of their device; a connection that has a mark keeps it."""
    marks = [FilterRule(SetMark(mark, SCOPE_MASK), iif=device, note="address scope") for device, mark in devices]
    return [*marks, RESTORE_SCOPE]


def scope_filter(devices: Iterable[ScopedDevice]) -> list[FilterRule]:
    """Drop packets that leave by a device of another address scope than they came from."""
    return [
        FilterRule(DROP, oif=device, matches=(MarkMatch(mark, SCOPE_MASK, invert=True),), note="another address scope")
        for device, mark in devices
    ]


def other_scope_fips(view: HostView, fips: Iterable[FloatingIp]) -> tuple[FloatingIp, ...]:
    """Select the floating IPs whose fixed address is not in the external address scope."""
    gateway = view.router.gateway
    if gateway is None:
        return ()
    external = gateway.scope4
    return tuple([fip for fip in fips if fip.fixed_scope != external])


def other_scope_ingress(view: HostView, fips: tuple[FloatingIp, ...], device: str) -> tuple[FilterRule, ...]:
    """Give packets to such floating IPs that come in by ``device`` the mark of the fixed address's scope."""
    return _ingress.each(view.router.id, fips, tuple(view.marks.items()), device)


@itemwise
def _ingress(fips: Sequence[FloatingIp], marks: tuple[tuple[str | None, int], ...], device: str) -> list[FilterRule]:
    targets = {scope: SetMark(mark, SCOPE_MASK) for scope, mark in marks}
    return [
        FilterRule(targets[fip.fixed_scope], dst=f"{fip.address}/32", iif=device, note=_OTHER_SCOPE) for fip in fips
    ]


@itemwise
def _egress(fips: Sequence[FloatingIp], rules: tuple[FilterRule, ...]) -> list[list[FilterRule]]:
    return [[replace(rule, src=f"{fip.fixed_address}/32") for rule in rules] for fip in fips]


def other_scope_egress(
    view: HostView, fips: tuple[FloatingIp, ...], scoped: Iterable[ScopedDevice]
) -> list[FilterRule]:
    """Give packets of the instances to the external scope its mark: they will carry the floating IP."""
    gateway = view.router.gateway
    if gateway is None:
        return []
    external = view.marks[gateway.scope4]
    saved = FilterRule(SaveConnmark(SCOPE_MASK), matches=(UNMARKED_CONNECTION,), note=_OTHER_SCOPE)
    outside = [device for device, mark in scoped if mark == external]
    marked = [FilterRule(SetMark(external, SCOPE_MASK), oif=device, note=_OTHER_SCOPE) for device in outside]
    return [*chain.from_iterable(_egress.each(view.router.id, fips, (saved, *marked)))]
