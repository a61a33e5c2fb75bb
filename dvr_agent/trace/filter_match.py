"""Decide whether a packet filter rule matches a packet: True, False, or None where that is not known."""

from __future__ import annotations

from dataclasses import dataclass

from dvr_agent.state.filter import (
    CommentMatch,
    ConnmarkMatch,
    CtStateMatch,
    DportMatch,
    MarkMatch,
    Match,
    Not,
)
from dvr_agent.trace.addresses import is_in
from dvr_agent.trace.filter_values import SportMatch, UnknownMatch, WholeRule
from dvr_agent.trace.packet import WITH_PORTS, Connection, Packet


@dataclass(frozen=True, slots=True)
class Passing:
    """A packet at a hook.

    :ivar iif: the device it came in by, empty for none
    :ivar oif: the device it leaves by, empty where that is not decided
    :ivar connection: None: it is not tracked
    :ivar state: of the connection: ``NEW`` or ``ESTABLISHED``; empty before connection tracking
    """

    packet: Packet
    iif: str = ""
    oif: str = ""
    connection: Connection | None = None
    state: str = ""


def matches(rule: WholeRule, passing: Passing) -> bool | None:
    """Return whether a rule matches; None: one of its matches is not understood, and all others match."""
    if not _selects(rule, passing):
        return False
    answers = [_match(one, passing) for one in rule.matches]
    if False in answers:
        return False
    return None if None in answers else True


def _selects(rule: WholeRule, passing: Passing) -> bool:
    """Return whether addresses, devices and protocol match."""
    head = passing.packet.head
    return (
        _address(rule.src, head.src)
        and _address(rule.dst, head.dst)
        and _device(rule.iif, passing.iif)
        and _device(rule.oif, passing.oif)
        and (not rule.protocol or (rule.protocol == head.protocol) != rule.not_protocol)
    )


def _address(wanted: str | Not | None, address: str) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, Not):
        return not is_in(address, wanted.value)
    return is_in(address, wanted)


def _device(wanted: str | Not | None, device: str) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, Not):
        return not _device(wanted.value, device)
    return device.startswith(wanted[:-1]) if wanted.endswith("+") else device == wanted


def _match(match: Match | UnknownMatch | SportMatch, passing: Passing) -> bool | None:
    packet, connection = passing.packet, passing.connection
    match match:
        case CommentMatch():
            return True
        case MarkMatch():
            return (packet.mark & match.mask == match.value) != match.invert
        case ConnmarkMatch():
            mark = connection.mark if connection else None
            return mark is not None and (mark & match.mask == match.value) != match.invert
        case CtStateMatch():
            return bool(match.states & _states(passing)) != match.invert
        case DportMatch():
            return _ports(packet, (0, 0xFFFF), (match.first, match.last))
        case SportMatch():
            return _ports(packet, match.sports, match.dports)
        case _:
            return None


def _ports(packet: Packet, sports: tuple[int, int], dports: tuple[int, int]) -> bool:
    head = packet.head
    inside = sports[0] <= head.sport <= sports[1] and dports[0] <= head.dport <= dports[1]
    return head.protocol in WITH_PORTS and inside


def _states(passing: Passing) -> set[str]:
    """Return the states that ``-m conntrack --ctstate`` compares (net/netfilter/xt_conntrack.c)."""
    if passing.connection is None:
        return {"UNTRACKED"} if passing.state else {"INVALID"}
    return {passing.state, *passing.connection.translated}
