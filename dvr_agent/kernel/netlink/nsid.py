"""Numbers that one network namespace has for others: asked for, and given (linux/net_namespace.h)."""

from __future__ import annotations

from dvr_agent.kernel.netlink.message import Data, Request, attr_u32, attributes, u32

RTM_NEWNSID, RTM_GETNSID = 88, 90
NETNSA_NSID, NETNSA_PID, NETNSA_FD = 1, 2, 3
NOT_ASSIGNED = 0xFFFFFFFF
"""-1: there is no number yet; in a request to give one: whichever is free."""
_HEADER = bytes(4)
"""struct rtgenmsg, padded: no address family."""


def get_nsid(what: str, member: int, value: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """
    :param member: ``NETNSA_PID`` or ``NETNSA_FD``, by which ``value`` names the namespace
    """
    return Request(RTM_GETNSID, 0, _HEADER + attr_u32(member, value), what, tolerate)


def new_nsid(what: str, member: int, value: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Give the namespace a number; EEXIST if it has one."""
    body = _HEADER + attr_u32(NETNSA_NSID, NOT_ASSIGNED) + attr_u32(member, value)
    return Request(RTM_NEWNSID, 0, body, what, tolerate)


def decode_nsid(data: Data) -> int:
    """The number in an answer; :data:`NOT_ASSIGNED` if there is none."""
    found = (u32(data, start) for kind, start, _ in attributes(data, len(_HEADER)) if kind == NETNSA_NSID)
    return next(found, NOT_ASSIGNED)
