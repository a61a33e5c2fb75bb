"""Filters of neutron-l3-agent in traffic control: RTM_…TFILTER messages (pyroute2's ``tcmsg``).

It makes them by ``tc filter add dev D parent Q protocol ip prio 1 u32 match ip src|dst ADDRESS police … flowid :1``, in
an htb qdisc for what leaves and an ingress qdisc for what enters.  A filter is taken for one of them by all of that but
the police action, which some kernels do not list.  The qdiscs stay: without filters they pass everything.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELTFILTER, RTM_GETQDISC, RTM_GETTFILTER
from pyroute2.netlink.rtnl.tcmsg import cls_u32, tcmsg
from pyroute2.protocols import ETH_P_IP

from dvr_agent.kernel.netlink.handler import GONE, NO_DEVICE, Handler, SliceReader, WriteContext
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data, Schema, attributes
from dvr_agent.state.limit import Direction
from dvr_agent.state.policer import POLICER_KIND, Policer

FILTER, U32 = Schema(tcmsg), Schema(cls_u32.options)
_head = FILTER.head("index", "handle", "parent", "info")
_read_head = FILTER.read_head("index", "handle", "parent", "info")
_kind_of = FILTER.packer("TCA_KIND")
_KIND, _OPTIONS = FILTER.number("TCA_KIND"), FILTER.number("TCA_OPTIONS")
_CLASS, _U32_SELECTOR = U32.number("TCA_U32_CLASSID"), U32.number("TCA_U32_SEL")
# A Schema takes no headers of several byte orders, which pyroute2 has for these two.
_SELECTOR, _KEY = struct.Struct("=xxB13x"), struct.Struct("=4s4sii")
"""struct tc_u32_sel up to its keys (their number), struct tc_u32_key (mask, value, offset, mask of the offset)."""
_PRIORITY_ONE_IP = 1 << 16 | socket.htons(ETH_P_IP)
_FLOW_ONE = 1
_QDISCS: dict[str, Direction] = {"htb": "leaving", "ingress": "entering"}
_OFFSETS: dict[Direction, int] = {"leaving": 12, "entering": 16}
"""Of source and destination address in an IPv4 header."""


def dump_qdiscs() -> Request:
    """Ask for the qdiscs of the namespace."""
    return Request(RTM_GETQDISC, NLM_F_DUMP, _head(0, 0, 0, 0), "qdiscs")


def dump_filters(index: int, parent: int) -> Request:
    """Ask for the filters of a qdisc."""
    return Request(RTM_GETTFILTER, NLM_F_DUMP, _head(index, 0, parent, 0), "tc filters", GONE | NO_DEVICE)


def delete_policer(policer: Policer, index: int) -> Request:
    """Return the request of ``tc filter delete``."""
    body = _head(index, policer.handle, policer.parent, _PRIORITY_ONE_IP) + _kind_of("u32")
    return Request(RTM_DELTFILTER, 0, body, policer, GONE)


def decode_qdiscs(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterator[tuple[int, int, Direction]]:
    """Yield (device, handle, direction) of the qdiscs on the given devices that can have such filters."""
    for data in messages:
        index, handle, _parent, _info = _read_head(data, 0)
        direction = _QDISCS.get(_kind(_found(data, FILTER.size)))
        if index in devices and handle and direction is not None:
            yield index, handle, direction


def decode_policers(messages: Iterable[Data], device: str, direction: Direction) -> Iterator[Policer]:
    """Yield the filters of neutron-l3-agent among those of a qdisc."""
    for data in messages:
        _index, handle, parent, info = _read_head(data, 0)
        found = _found(data, FILTER.size)
        if info != _PRIORITY_ONE_IP or _kind(found) != "u32":
            continue
        address = _address(_found(found.get(_OPTIONS, b""), 0), _OFFSETS[direction])
        if address:
            yield Policer(handle, parent, device, direction, address)


def _address(options: Mapping[int, Data], offset: int) -> str:
    """Return the address that a filter matches; empty if it matches anything else."""
    selector = options.get(_U32_SELECTOR, b"")
    flow = int.from_bytes(options.get(_CLASS, b""), sys.byteorder)
    if len(selector) != _SELECTOR.size + _KEY.size or _SELECTOR.unpack_from(selector) != (1,) or flow != _FLOW_ONE:
        return ""
    mask, value, at, at_mask = _KEY.unpack_from(selector, _SELECTOR.size)
    return socket.inet_ntoa(value) if (mask, at, at_mask) == (b"\xff" * 4, offset, 0) else ""


def _found(data: Data, start: int) -> dict[int, Data]:
    return {kind: data[begin:end] for kind, begin, end in attributes(data, start)}


def _kind(found: Mapping[int, Data]) -> str:
    return bytes(found.get(_KIND, b"")).rstrip(b"\0").decode(errors="replace")


def _read(reader: SliceReader) -> Iterable[Policer]:
    limited = {index: name for index, name in reader.owned.items() if reader.ownership.limits(name)}
    if not limited:
        return
    for index, handle, direction in decode_qdiscs(reader.sock.dump(dump_qdiscs()), limited):
        yield from decode_policers(reader.sock.dump(dump_filters(index, handle)), limited[index], direction)


def _add(_policer: Policer, _context: WriteContext) -> list[Request]:
    return []


def _remove(policer: Policer, context: WriteContext) -> list[Request]:
    return [delete_policer(policer, context.indexes[policer.device])]


HANDLER = Handler(POLICER_KIND, read=_read, add=_add, remove=_remove, reads_owned_only=True)
