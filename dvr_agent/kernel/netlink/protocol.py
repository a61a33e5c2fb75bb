"""Names the protocol of a route or rule, by which a routing program marks its own (rtnetlink(7), ``rtm_protocol``)."""

from __future__ import annotations

from pyroute2.netlink.rtnl import rt_proto

_OF_NOBODY = frozenset({rt_proto["unspec"], rt_proto["kernel"], rt_proto["boot"], rt_proto["static"]})
"""Protocols of the kernel, of ``ip`` without ``proto``, and of neutron-l3-agent and this agent."""


def protocol_name(number: int) -> str:
    """Return a protocol as iproute2 names it, ``zebra``, or its number; empty for one that names no program."""
    return "" if number in _OF_NOBODY else str(rt_proto.get(number, number))
