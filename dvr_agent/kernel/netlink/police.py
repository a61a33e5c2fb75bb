"""Bandwidth limits of ours in traffic control: u32 filters with a police action, and the ``clsact`` qdisc with them.

What ``tc filter add dev D egress protocol ip prio 210 u32 match ip src ADDRESS police rate … burst … mtu 4Gb
conform-exceed drop/continue`` makes, with a cookie on the action by which ours are recognised; ``ingress``, 211 and
``dst`` for what enters.  Layouts are those of ``include/uapi/linux/pkt_cls.h`` and ``pkt_sched.h``; pyroute2 knows
neither the cookie nor rates of 64 bits.

Packets within the limit go on to filters of other programs.  Packets of any size pass if the burst allows them: ``mtu``
is the greatest number, since older kernels compare it with packets as they are before segmentation.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pyroute2.netlink import NLA_F_NESTED, NLM_F_CREATE, NLM_F_DUMP
from pyroute2.netlink.rtnl import (
    RTM_DELQDISC,
    RTM_DELTFILTER,
    RTM_GETQDISC,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
)
from pyroute2.netlink.rtnl.tcmsg import cls_u32, tcmsg
from pyroute2.protocols import ETH_P_IP

from dvr_agent.kernel.netlink.handler import GONE, NO_DEVICE
from dvr_agent.kernel.netlink.message import CREATE, Request
from dvr_agent.kernel.netlink.schema import Data, Schema, attribute, attributes
from dvr_agent.state.limit import Direction, Limit

FILTER, U32 = Schema(tcmsg), Schema(cls_u32.options)
head = FILTER.head("index", "handle", "parent", "info")
read_head = FILTER.read_head("index", "handle", "parent", "info")
CLSACT = 0xFFFFFFF1
"""Parent of the qdiscs ``clsact`` and ``ingress``, of which a device has one at most."""
INGRESS = 0xFFFF0000
"""Handle of both."""
HOOKS: dict[Direction, int] = {"entering": 0xFFFFFFF2, "leaving": 0xFFFFFFF3}
"""Parents of filters in ``clsact``."""
OFFSETS: dict[Direction, int] = {"leaving": 12, "entering": 16}
"""Of source and destination address in an IPv4 header."""
COOKIE = b"dvr-qos:"
"""How the cookie of our actions begins."""
PRIORITIES: dict[Direction, int] = {"leaving": 210, "entering": 211}
"""Of our filters; neutron-l3-agent's have 1, in other qdiscs, and tc gives those without one 49152 and less.

Two, since u32 lists the filters of both hooks at each of them if they have one priority (``tc_u_common_ptr``).
"""


def info_of(priority: int) -> int:
    """Return the header field of IPv4 filters with a priority."""
    return priority << 16 | socket.htons(ETH_P_IP)


_kind, _options = FILTER.packer("TCA_KIND"), FILTER.raw("TCA_OPTIONS")
_KIND, _OPTIONS = FILTER.number("TCA_KIND"), FILTER.number("TCA_OPTIONS")
_select, _act = U32.raw("TCA_U32_SEL"), U32.raw("TCA_U32_ACT")
_SELECT, _ACT = U32.number("TCA_U32_SEL"), U32.number("TCA_U32_ACT")
# A Schema takes no headers of several byte orders, which pyroute2 has for these two.
_SELECTOR, _KEY = struct.Struct("=BxB13x"), struct.Struct("=4s4sii")
"""struct tc_u32_sel up to its keys (flags, their number); struct tc_u32_key (mask, value, offset, its mask)."""
_TERMINAL, _ONE = 1, 1
"""TC_U32_TERMINAL: a packet that matches meets the action; one key."""
_U32_NODE = 0xFFF
"""Bits of a handle that are 0 in a hash table of u32, which is dumped like a filter."""
_FIRST = 1
"""Place of a filter's only action."""
_ACT_KIND, _ACT_OPTIONS, _ACT_STATS, _ACT_COOKIE = 1, 2, 4, 6
_STATS_QUEUE = 3
"""struct gnet_stats_queue in the statistics of an action."""
_TBF, _RATE_TABLE, _RESULT, _RATE64 = 1, 2, 5, 8
_POLICE = struct.Struct("=4xiIIIBBHhHI24x")
"""struct tc_police: what happens to packets above the limit; limit, burst, mtu; struct tc_ratespec of the rate."""
_TABLE = attribute(_RATE_TABLE, bytes(1024))
"""The kernel wants a table of times by packet size with a rate (``qdisc_get_rtab``), and computes without it."""
_CELLS = (24, 1, 0, -1, 0)
"""Of the table, as tc has it: the size of cells must not be 0, and without a link layer the kernel guesses it."""
_DROP, _GO_ON = 2, -1
"""TC_ACT_SHOT; TC_ACT_UNSPEC: the next filter decides."""
_ANY_SIZE = 0xFFFFFFFF
_TICKS = 15_625_000
"""A second, in the kernel's unit for a burst: 64 ns (``PSCHED_SHIFT``)."""
_MAX_32 = 0xFFFFFFFF
_INFOS = {direction: info_of(priority) for direction, priority in PRIORITIES.items()}


class PoliceFilter(NamedTuple):
    """A filter of ours as the kernel has it.

    :ivar limit: with rate 0 if it works otherwise than ours do
    :ivar drops: packets that it has dropped
    """

    handle: int
    limit: Limit
    drops: int


def add_clsact(device: str, index: int, note: str = "") -> Request:
    """Return the request of ``tc qdisc add dev D clsact``."""
    return Request(RTM_NEWQDISC, CREATE, _qdisc(index, "clsact"), f"tc qdisc dev {device} clsact{note}")


def delete_ingress_qdisc(device: str, index: int, kind: str) -> Request:
    """Return the request that deletes the qdisc ``clsact`` or ``ingress`` of a device with all its filters."""
    return Request(RTM_DELQDISC, 0, _qdisc(index, kind), f"tc qdisc dev {device} {kind}", GONE)


def put_filter(limit: Limit, index: int, handle: int = 0) -> Request:
    """Return the request of ``tc filter add``; with a handle of ``tc filter replace``: no packet passes unlimited."""
    key = _KEY.pack(b"\xff" * 4, socket.inet_aton(limit.address), OFFSETS[limit.direction], 0)
    options = _act(attribute(_FIRST, _police(limit))) + _select(_SELECTOR.pack(_TERMINAL, _ONE) + key)
    body = head(index, handle, HOOKS[limit.direction], _INFOS[limit.direction]) + _kind("u32") + _options(options)
    return Request(RTM_NEWTFILTER, NLM_F_CREATE if handle else CREATE, body, _text(limit))


def delete_filter(limit: Limit, index: int, handle: int) -> Request:
    """Return the request of ``tc filter delete``."""
    body = head(index, handle, HOOKS[limit.direction], _INFOS[limit.direction]) + _kind("u32")
    return Request(RTM_DELTFILTER, 0, body, _text(limit), GONE)


def delete_filters(device: str, index: int, direction: Direction) -> Request:
    """Return the request that deletes all filters of our priority at a hook, and the priority with them."""
    body = head(index, 0, HOOKS[direction], _INFOS[direction]) + _kind("u32")
    return Request(RTM_DELTFILTER, 0, body, f"tc filters dev {device} prio {PRIORITIES[direction]}", GONE)


def dump_qdiscs() -> Request:
    """Ask for the qdiscs of the namespace."""
    return Request(RTM_GETQDISC, NLM_F_DUMP, head(0, 0, 0, 0), "qdiscs")


def dump_filters(index: int, parent: int, info: int = 0) -> Request:
    """Ask for the filters of a qdisc, or at a hook.

    :param info: of the only filters to look at
    """
    return Request(RTM_GETTFILTER, NLM_F_DUMP, head(index, 0, parent, info), "tc filters", GONE | NO_DEVICE)


def dump_limits(index: int, direction: Direction) -> Request:
    """Ask for the filters at a hook among which ours are."""
    return dump_filters(index, HOOKS[direction], _INFOS[direction])


def decode_qdiscs(messages: Iterable[Data]) -> Iterator[tuple[int, int, str]]:
    """Yield (index of the device, handle, kind) of qdiscs that can have filters."""
    for data in messages:
        index, handle, _parent, _info = read_head(data, 0)
        if handle:
            yield index, handle, kind_of(found(data, FILTER.size))


def decode_filters(messages: Iterable[Data], device: str, direction: Direction) -> Iterator[PoliceFilter]:
    """Yield our filters among those at one hook of a device."""
    for data in messages:
        decoded = _decode(data, device, direction)
        if decoded is not None:
            yield decoded


def count_filters(messages: Iterable[Data]) -> int:
    """Return the number of filters in a dump: a priority and a hash table of u32 are dumped too."""
    heads = ((read_head(data, 0)[1], kind_of(found(data, FILTER.size))) for data in messages)
    return sum(bool(handle & _U32_NODE if kind == "u32" else handle) for handle, kind in heads)


def u32_options(data: Data) -> dict[int, Data]:
    """Return the options of a filter; none of one that is not u32."""
    attrs = found(data, FILTER.size)
    return found(attrs.get(_OPTIONS, b""), 0) if kind_of(attrs) == "u32" else {}


def matched_address(options: Mapping[int, Data], direction: Direction) -> str:
    """Return the address that a u32 filter matches; empty if it matches anything else."""
    selector = options.get(_SELECT, b"")
    if len(selector) != _SELECTOR.size + _KEY.size or _SELECTOR.unpack_from(selector) != (_TERMINAL, _ONE):
        return ""
    mask, value, at, at_mask = _KEY.unpack_from(selector, _SELECTOR.size)
    return socket.inet_ntoa(value) if (mask, at, at_mask) == (b"\xff" * 4, OFFSETS[direction], 0) else ""


def found(data: Data, start: int) -> dict[int, Data]:
    """Return the payloads of attributes by their number."""
    return {kind: data[begin:end] for kind, begin, end in attributes(data, start)}


def kind_of(attrs: Mapping[int, Data]) -> str:
    """Return the kind of a qdisc or filter."""
    return bytes(attrs.get(_KIND, b"")).rstrip(b"\0").decode(errors="replace")


def _qdisc(index: int, kind: str) -> bytes:
    return head(index, INGRESS, CLSACT, 0) + _kind(kind)


def _text(limit: Limit) -> str:
    hook, side = ("egress", "src") if limit.direction == "leaving" else ("ingress", "dst")
    match = f"u32 match ip {side} {limit.address}"
    police = f"police rate {limit.rate * 8}bit burst {limit.burst}b"
    return f"tc filter dev {limit.device} {hook} protocol ip prio {PRIORITIES[limit.direction]} {match} {police}"


def _police(limit: Limit) -> bytes:
    rate = min(limit.rate, _MAX_32)
    ticks = _burst_ticks(limit.rate, limit.burst)
    options = attribute(_TBF, _POLICE.pack(_DROP, 0, ticks, _ANY_SIZE, *_CELLS, rate)) + _TABLE
    options += attribute(_RESULT, _GO_ON.to_bytes(4, sys.byteorder, signed=True))
    if limit.rate > rate:
        options += attribute(_RATE64, limit.rate.to_bytes(8, sys.byteorder))
    cookie = attribute(_ACT_COOKIE, COOKIE + limit.burst.to_bytes(8, "big"))
    return attribute(_ACT_KIND, b"police\0") + attribute(_ACT_OPTIONS | NLA_F_NESTED, options) + cookie


def _burst_ticks(rate: int, burst: int) -> int:
    """Return the time that the burst takes at the rate, which is how the kernel keeps it."""
    return min(burst * _TICKS // rate, _MAX_32)


def _decode(data: Data, device: str, direction: Direction) -> PoliceFilter | None:
    _index, handle, _parent, info = read_head(data, 0)
    options = u32_options(data) if info == _INFOS[direction] else {}
    address = matched_address(options, direction)
    action = found(found(options.get(_ACT, b""), 0).get(_FIRST, b""), 0)
    cookie = bytes(action.get(_ACT_COOKIE, b""))
    if not address or not cookie.startswith(COOKIE):
        return None
    rate, burst = _rate_and_burst(action, int.from_bytes(cookie[len(COOKIE) :], "big"))
    queue = found(action.get(_ACT_STATS, b""), 0).get(_STATS_QUEUE, bytes(12))
    drops = int.from_bytes(queue[8:12], sys.byteorder)
    return PoliceFilter(handle, Limit(device, direction, address, rate, burst), drops)


def _rate_and_burst(action: dict[int, Data], burst: int) -> tuple[int, int]:
    """Return rate and burst in bytes; rate 0 if the action is not what this module makes of them.

    :param burst: in bytes, of the cookie: the kernel's unit is coarser where the rate is high
    """
    options = found(action.get(_ACT_OPTIONS, b""), 0)
    police = options.get(_TBF, b"")
    if bytes(action.get(_ACT_KIND, b"")) != b"police\0" or len(police) != _POLICE.size:
        return 0, 0
    exceed, _limit, ticks, mtu, *_table, rate = _POLICE.unpack(police)
    rate = int.from_bytes(options[_RATE64], sys.byteorder) if _RATE64 in options else rate
    result = int.from_bytes(options.get(_RESULT, b""), sys.byteorder, signed=True)
    as_ours = (exceed, mtu, result) == (_DROP, _ANY_SIZE, _GO_ON)
    return (rate, burst) if rate and as_ours and ticks == _burst_ticks(rate, burst) else (0, 0)
