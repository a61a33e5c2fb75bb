"""Packet filter rules that count the bytes from and to floating IPs, for metrics (``[metrics] floating_ips``).

A rule counts what it matches and does nothing: it sets no bit of the packet's mark.  In the mangle table a packet still
has the floating IP on its way in, and the fixed IP on its way out; the rule's comment names the floating IP in both
directions.  ``reconcile/traffic.py`` reads the counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dvr_agent.desired.host_view import HostView
from dvr_agent.model.router import FloatingIp
from dvr_agent.state.filter import CommentMatch, FilterRule, SetMark
from dvr_agent.state.itemwise import itemwise

COUNT = SetMark(0, 0)
"""``-j MARK --set-xmark 0x0/0x0`` changes nothing, and the next rule follows."""
_RECEIVED, _SENT = "counts bytes to ", "counts bytes from "


class Counted(NamedTuple):
    """What a rule counts."""

    floating_ip: str
    direction: Literal["received", "sent"]


def received_rules(view: HostView, fips: tuple[FloatingIp, ...], device: str) -> tuple[FilterRule, ...]:
    """Make the rules of mangle PREROUTING: packets to floating IPs that come in by a device."""
    return _received.each(view.router.id, fips, device) if view.settings.count_floating_ips else ()


def sent_rules(view: HostView, fips: tuple[FloatingIp, ...], device: str) -> tuple[FilterRule, ...]:
    """Make the rules of mangle FORWARD: packets of their fixed IPs that leave by a device."""
    return _sent.each(view.router.id, fips, device) if view.settings.count_floating_ips else ()


@itemwise
def _received(fips: Sequence[FloatingIp], device: str) -> list[FilterRule]:
    return [
        FilterRule(COUNT, dst=f"{fip.address}/32", iif=device, matches=(CommentMatch(f"{_RECEIVED}{fip.address}"),))
        for fip in fips
    ]


@itemwise
def _sent(fips: Sequence[FloatingIp], device: str) -> list[FilterRule]:
    return [
        FilterRule(COUNT, src=f"{fip.fixed_address}/32", oif=device, matches=(CommentMatch(f"{_SENT}{fip.address}"),))
        for fip in fips
    ]


def counted(rule: FilterRule) -> Counted | None:
    """Return what a rule counts; None for every other rule."""
    if rule.target != COUNT or len(rule.matches) != 1 or not isinstance(rule.matches[0], CommentMatch):
        return None
    comment = rule.matches[0].comment
    if comment.startswith(_RECEIVED):
        return Counted(comment.removeprefix(_RECEIVED), "received")
    return Counted(comment.removeprefix(_SENT), "sent") if comment.startswith(_SENT) else None
