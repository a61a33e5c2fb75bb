"""Ids that one network namespace has for others: RTM_…NSID messages (pyroute2's ``nsidmsg``).

Used by ``kernel/namespace_of_process.py`` and ``kernel/drift_events.py``; no kind of object of ``state``.
"""

from __future__ import annotations

from pyroute2.netlink.rtnl import RTM_GETNSID, RTM_NEWNSID
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data, Schema, positions

NSID = Schema(nsidmsg)
NETNSA_PID, NETNSA_FD = "NETNSA_PID", "NETNSA_FD"
"""Attributes by which a request names a namespace: a process in it, or a file descriptor."""
NOT_ASSIGNED = 0xFFFFFFFF
"""NETNSA_NSID_NOT_ASSIGNED, -1 (include/uapi/linux/net_namespace.h; not in pyroute2).

In an answer: the namespace has no id yet; in a request for a new id: any that is free.
"""

_head = NSID.head()()
_nsid = NSID.packer("NETNSA_NSID")
_NSID = NSID.number("NETNSA_NSID")
_read_nsid = NSID.reader("NETNSA_NSID")


def get_nsid(what: str, member: str, value: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request for the id of a namespace.

    :param member: ``NETNSA_PID`` or ``NETNSA_FD``, by which ``value`` names the namespace
    """
    return Request(RTM_GETNSID, 0, _head + NSID.packer(member)(value), what, tolerate)


def new_nsid(
    what: str, member: str, value: int, tolerate: frozenset[int] = frozenset(), number: int = NOT_ASSIGNED
) -> Request:
    """Return the request that gives a namespace an id; EEXIST if it has one.

    :param number: the id; default: any that is free
    """
    return Request(RTM_NEWNSID, 0, _head + _nsid(number) + NSID.packer(member)(value), what, tolerate)


def decode_nsid(data: Data) -> int:
    """Return the id in an answer, or :data:`NOT_ASSIGNED`."""
    at = positions(data, NSID.size).get(_NSID, 0)
    return int(_read_nsid(data, at)) if at else NOT_ASSIGNED
