"""The socket filter of the listening sockets (classic BPF, ``include/uapi/linux/filter.h``): what never wakes us.

The kernel runs it before it queues a notification (do_one_broadcast in net/netlink/af_netlink.c).  It drops

* what our own sockets have asked for, where the kernel says so (``nlmsg_pid``); not links, of which it often does not;
* bridge ports (AF_BRIDGE), which come as links, too;
* routes of router advertisements: none of them is ours; and those that the kernel makes and removes with an address,
  unless another program has removed one from the main table (``nlmsg_pid``);
* parameters of single devices;
* what the kernel itself does to neighbours: it learns and forgets them all the time.

Of nf_tables it leaves the end of each transaction of other programs, and drops a message for each object in it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_NEWGEN
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNSID,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    rt_proto,
)

from dvr_agent.kernel.netlink.netconf import ALL_DEVICES, HEAD
from dvr_agent.kernel.netlink.own_port import BASE, MASK

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_AND, _JUMP_IF_EQUAL, _JUMP, _RETURN = 0x54, 0x15, 0x05, 0x06
NEW_GENERATION = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN
"""The message behind all others of a transaction on nf_tables."""
_TYPE, _PORT, _BODY = 4, 12, 16
"""Offsets in struct nlmsghdr: nlmsg_type, nlmsg_pid, end."""
_TABLE, _PROTOCOL = _BODY + 4, _BODY + 5
"""rtm_table and rtm_protocol of struct rtmsg."""
RT_TABLE_MAIN = 254
"""include/uapi/linux/rtnetlink.h"""
_FIRST_VALUE = _BODY + HEAD + 4
"""Payload of the first attribute behind struct netconfmsg."""
_KEEP, _DROP = "keep", "drop"

_Step = tuple[int, int, str]
"""Code, operand, label to go to if a comparison is true."""


def route_program() -> bytes:
    """Return the instructions of the filter for rtnetlink, each a struct sock_filter."""
    links, routes, neighbours = (RTM_NEWLINK, RTM_DELLINK), (RTM_NEWROUTE, RTM_DELROUTE), (RTM_NEWNEIGH, RTM_DELNEIGH)
    others = (RTM_NEWADDR, RTM_DELADDR, RTM_NEWRULE, RTM_DELRULE, RTM_DELNSID)
    steps: list[_Step | str] = [
        (_LOAD_HALF, _TYPE, ""),
        *((_JUMP_IF_EQUAL, _half(kind), "links") for kind in links),
        *_DROP_OWN,
        (_LOAD_HALF, _TYPE, ""),
        *((_JUMP_IF_EQUAL, _half(kind), "routes") for kind in routes),
        *((_JUMP_IF_EQUAL, _half(kind), "neighbours") for kind in neighbours),
        *((_JUMP_IF_EQUAL, _half(kind), _KEEP) for kind in others),
        (_JUMP_IF_EQUAL, _half(RTM_NEWNETCONF), "parameters"),
        (_JUMP, 0, _DROP),
        "links",
        (_LOAD_BYTE, _BODY, ""),  # ifi_family
        (_JUMP_IF_EQUAL, 0, _KEEP),
        (_JUMP, 0, _DROP),
        "routes",
        (_LOAD_BYTE, _PROTOCOL, ""),
        (_JUMP_IF_EQUAL, rt_proto["kernel"], "kernel routes"),
        *((_JUMP_IF_EQUAL, rt_proto[name], _DROP) for name in ("ra", "redirect")),
        (_JUMP, 0, _KEEP),
        "kernel routes",
        (_LOAD_HALF, _TYPE, ""),
        (_JUMP_IF_EQUAL, _half(RTM_NEWROUTE), _DROP),
        (_LOAD_BYTE, _TABLE, ""),
        (_JUMP_IF_EQUAL, RT_TABLE_MAIN, "by request"),
        (_JUMP, 0, _DROP),
        "by request",
        (_LOAD_WORD, _PORT, ""),
        (_JUMP_IF_EQUAL, 0, _DROP),
        (_JUMP, 0, _KEEP),
        "parameters",
        (_LOAD_WORD, _FIRST_VALUE, ""),  # NETCONFA_IFINDEX (inet_netconf_fill_devconf in net/ipv4/devinet.c)
        (_JUMP_IF_EQUAL, ALL_DEVICES, _KEEP),
        (_JUMP, 0, _DROP),
        "neighbours",
        (_LOAD_WORD, _PORT, ""),
        (_JUMP_IF_EQUAL, 0, _DROP),
    ]
    return _assemble(steps)


def nftables_program() -> bytes:
    """Return the instructions of the filter for nf_tables.

    The port id in :data:`NEW_GENERATION` is that of the socket whose transaction it was (nf_tables_gen_notify in
    net/netfilter/nf_tables_api.c).
    """
    return _assemble(
        [
            *_DROP_OWN,
            (_LOAD_HALF, _TYPE, ""),
            (_JUMP_IF_EQUAL, _half(NEW_GENERATION), _KEEP),
            (_JUMP, 0, _DROP),
        ]
    )


def _assemble(steps: Sequence[_Step | str]) -> bytes:
    """Return the bytes of the steps, and of the two ends behind them, which keep a notification and drop it."""
    labels: dict[str, int] = {}
    plain: list[_Step] = []
    for step in (*steps, _KEEP, (_RETURN, 0xFFFFFFFF, ""), _DROP, (_RETURN, 0, "")):
        if isinstance(step, str):
            labels[step] = len(plain)
        else:
            plain.append(step)
    packed = b""
    for number, (code, operand, label) in enumerate(plain):
        distance = labels[label] - number - 1 if label else 0
        if code == _JUMP:
            packed += struct.pack("=HBBI", code, 0, 0, distance)
        else:
            packed += struct.pack("=HBBI", code, distance, 0, operand)
    return packed


def _word(value: int) -> int:
    """Return a number as the filter loads it: in network byte order, whatever the machine's is."""
    return int.from_bytes(struct.pack("=I", value), "big")


def _half(value: int) -> int:
    return int.from_bytes(struct.pack("=H", value), "big")


_DROP_OWN: tuple[_Step, ...] = (
    (_LOAD_WORD, _PORT, ""),
    (_AND, _word(MASK), ""),
    (_JUMP_IF_EQUAL, _word(BASE), _DROP),
)
"""Drops what our own sockets have asked for."""
