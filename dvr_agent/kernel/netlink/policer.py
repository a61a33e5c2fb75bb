"""Filters of neutron-l3-agent in traffic control: RTM_…TFILTER messages (pyroute2's ``tcmsg``).

It makes them by ``tc filter add dev D parent Q protocol ip prio 1 u32 match ip src|dst ADDRESS police … flowid :1``, in
an htb qdisc for what leaves and an ingress qdisc for what enters.  A filter is taken for one of them by all of that but
the police action, which some kernels do not list.  The qdiscs stay: without filters they pass everything.

Where limits are in nf_tables, filters of ours (:mod:`.police`) are stale ones of a time when they could not be: they
are removed in the same way, with their qdisc if nothing else is in it.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator, Sequence

from pyroute2.netlink.rtnl import RTM_DELTFILTER

from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.kernel.netlink.handler import GONE, Handler, SliceReader, WriteContext
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.police import (
    CLSACT,
    FILTER,
    HOOKS,
    PRIORITIES,
    U32,
    count_filters,
    decode_filters,
    decode_qdiscs,
    delete_ingress_qdisc,
    dump_filters,
    dump_qdiscs,
    head,
    info_of,
    matched_address,
    read_head,
    u32_options,
)
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.state.limit import Direction
from dvr_agent.state.policer import POLICER_KIND, Policer

_kind = FILTER.packer("TCA_KIND")
_CLASS = U32.number("TCA_U32_CLASSID")
_INFO, _FLOW_ONE = info_of(1), 1
_QDISCS: dict[str, Direction] = {"htb": "leaving", "ingress": "entering"}
_REPLACED = GONE | {errno.EINVAL}
"""The kernel's answers when a filter is not there any more; EINVAL: our ``clsact`` has taken its qdisc's place."""


def delete_policer(policer: Policer, index: int) -> Request:
    """Return the request of ``tc filter delete``, or of ``tc qdisc delete`` for all filters at once."""
    if not policer.handle:
        return delete_ingress_qdisc(policer.device, index, "clsact")
    priority = PRIORITIES[policer.direction] if policer.parent in HOOKS.values() else 1
    body = head(index, policer.handle, policer.parent, info_of(priority)) + _kind("u32")
    return Request(RTM_DELTFILTER, 0, body, policer, _REPLACED)


def decode_policers(messages: Iterable[Data], device: str, direction: Direction) -> Iterator[Policer]:
    """Yield the filters of neutron-l3-agent among those of a qdisc."""
    for data in messages:
        _index, handle, parent, info = read_head(data, 0)
        options = u32_options(data) if info == _INFO else {}
        address = matched_address(options, direction)
        if address and int.from_bytes(options.get(_CLASS, b""), sys.byteorder) == _FLOW_ONE:
            yield Policer(handle, parent, device, direction, address)


def _read(reader: SliceReader) -> Iterable[Policer]:
    limited = {index: name for index, name in reader.owned.items() if reader.ownership.limits(name)}
    if not limited:
        return
    for index, handle, kind in decode_qdiscs(reader.sock.dump(dump_qdiscs())):
        if index in limited and kind in _QDISCS:
            filters = reader.sock.dump(dump_filters(index, handle))
            yield from decode_policers(filters, limited[index], _QDISCS[kind])
        elif index in limited and kind == "clsact" and not HostLimits.by_tc:
            yield from _stale(reader, index, limited[index])


def _stale(reader: SliceReader, index: int, device: str) -> Iterable[Policer]:
    """Return filters of ours although limits are in nf_tables; the qdisc as a whole if it has no others."""
    ours, filters = list[Policer](), 0
    for direction, parent in HOOKS.items():
        messages = reader.sock.dump(dump_filters(index, parent))
        filters += count_filters(messages)
        for one in decode_filters(messages, device, direction):
            ours.append(Policer(one.handle, parent, device, direction, one.limit.address))
    return [Policer(0, CLSACT, device, "entering", "")] if ours and len(ours) == filters else ours


def _add(_policers: Sequence[Policer], _context: WriteContext) -> list[Request]:
    raise NotImplementedError  # none is desired


def _remove(policer: Policer, context: WriteContext) -> list[Request]:
    return [delete_policer(policer, context.indexes[policer.device])]


HANDLER = Handler(POLICER_KIND, read=_read, add=_add, remove=_remove, reads_owned_only=True)
