"""Floating IPs of instances whose network is in another address scope than the external one.

Only NAT may carry their packets across scopes, so the packets get another mark on the way (``docs/dataplane.md``,
"Address scopes").
"""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.desired.common import UNMARKED_CONNECTION, ScopedDevice
from dvr_agent.desired.host_view import HostView
from dvr_agent.desired.scope_marks import SCOPE_MASK
from dvr_agent.model.router import FloatingIp
from dvr_agent.state.filter import FilterRule, SaveConnmark, SetMark


def other_scope_fips(view: HostView, fips: Iterable[FloatingIp]) -> list[FloatingIp]:
    """Select the floating IPs whose fixed address is not in the external address scope."""
    gateway = view.router.gateway
    return [fip for fip in fips if gateway is not None and fip.fixed_scope != gateway.scope4]


def other_scope_ingress(view: HostView, fips: Iterable[FloatingIp], device: str) -> list[FilterRule]:
    """Give packets to such floating IPs that come in by ``device`` the mark of the fixed address's scope."""
    return [
        FilterRule(SetMark(view.marks[fip.fixed_scope], SCOPE_MASK), dst=f"{fip.address}/32", iif=device)
        for fip in fips
    ]


def other_scope_egress(view: HostView, fips: Iterable[FloatingIp], scoped: Iterable[ScopedDevice]) -> list[FilterRule]:
    """Give packets of the instances to the external scope its mark: they will carry the floating IP."""
    gateway = view.router.gateway
    if gateway is None:
        return []
    external = view.marks[gateway.scope4]
    outside = [device for device, mark in scoped if mark == external]
    rules: list[FilterRule] = []
    for fip in fips:
        src = f"{fip.fixed_address}/32"
        rules.append(FilterRule(SaveConnmark(SCOPE_MASK), src=src, matches=(UNMARKED_CONNECTION,)))
        rules += [FilterRule(SetMark(external, SCOPE_MASK), src=src, oif=device) for device in outside]
    return rules
