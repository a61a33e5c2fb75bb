"""Read the connection tracking entry to which a packet belongs (:func:`read_connection`), by its tuple."""

from __future__ import annotations

import errno
import ipaddress
from typing import Any

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK
from pyroute2.netlink.nfnetlink.nfctsocket import (
    IPCTNL_MSG_CT_GET,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    nfct_msg,
)

from dvr_agent.errors import NamespaceGoneError
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY, Request
from dvr_agent.kernel.netlink.schema import Schema
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.survey.messages import NO_FAMILY, decoded
from dvr_agent.trace.addresses import family_of
from dvr_agent.trace.ends import vanished
from dvr_agent.trace.packet import ICMP, ICMPV6, Connection, Tuple
from dvr_agent.trace.tracking import ESTABLISHED, NEW, RELATED

_MESSAGE = Schema(nfct_msg)
_TUPLE = _MESSAGE.within("CTA_TUPLE_ORIG")
_IP, _PROTO = _TUPLE.within("CTA_TUPLE_IP"), _TUPLE.within("CTA_TUPLE_PROTO")
_NONE = NO_FAMILY | {errno.ENOENT, errno.EINVAL}
"""Answers where there is no such entry, or no nf_conntrack_netlink."""


def read_connection(namespace: str, head: Tuple) -> Connection | None:
    """Read the entry of a namespace that has a tuple in one of its directions, in zone 0; None: there is none.

    :raises EndOfWay: the namespace has vanished
    :raises KernelError: the kernel refuses
    """
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET
    body = _MESSAGE.head("nfgen_family")(AF_OF_FAMILY[family_of(head.src)])
    body += _MESSAGE.nest("CTA_TUPLE_ORIG")(_tuple(head))
    try:
        with NetlinkSocket.open(namespace, None, NETLINK_NETFILTER) as sock:
            (answer,) = sock.get([Request(kind, 0, body, f"connection {head.text}", _NONE)])
    except NamespaceGoneError:
        raise vanished(namespace) from None
    return None if answer is None else _connection(decoded(nfct_msg, answer, kind))


def _tuple(head: Tuple) -> bytes:
    src, dst = (ipaddress.ip_address(one).packed for one in (head.src, head.dst))
    version = family_of(head.src)
    ips = _IP.raw(f"CTA_IP_V{version}_SRC")(src) + _IP.raw(f"CTA_IP_V{version}_DST")(dst)
    proto = _PROTO.packer("CTA_PROTO_NUM")(head.protocol)
    if (name := _icmp(head.protocol)) is not None:
        proto += _PROTO.packer(f"CTA_PROTO_{name}_ID")(head.sport)
        proto += _PROTO.packer(f"CTA_PROTO_{name}_TYPE")(head.dport) + _PROTO.packer(f"CTA_PROTO_{name}_CODE")(0)
    else:
        proto += _PROTO.packer("CTA_PROTO_SRC_PORT")(head.sport) + _PROTO.packer("CTA_PROTO_DST_PORT")(head.dport)
    return _TUPLE.nest("CTA_TUPLE_IP")(ips) + _TUPLE.nest("CTA_TUPLE_PROTO")(proto)


def _icmp(protocol: int) -> str | None:
    return {ICMP: "ICMP", ICMPV6: "ICMPV6"}.get(protocol)


def _connection(message: Any) -> Connection:
    status = message.get_attr("CTA_STATUS") or 0
    nat = {name for name, bit in (("SNAT", IPS_SRC_NAT), ("DNAT", IPS_DST_NAT)) if status & bit}
    state = ESTABLISHED if status & IPS_SEEN_REPLY else RELATED if status & IPS_EXPECTED else NEW
    begin, reply = (_read_tuple(message.get_attr(name)) for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"))
    # The kernel does not ask the nat tables about an entry that is in its table (nf_nat_setup_info: confirmed).
    decided = {"SNAT", "DNAT"}
    return Connection(begin, reply.inverted(), message.get_attr("CTA_MARK") or 0, nat, decided, state, existing=True)


def _read_tuple(attributes: Any) -> Tuple:
    ips, proto = attributes.get_attr("CTA_TUPLE_IP"), attributes.get_attr("CTA_TUPLE_PROTO")
    src, dst = (
        ips.get_attr(f"CTA_IP_V4_{end}") or ips.get_attr(f"CTA_IP_V6_{end}") for end in ("SRC", "DST")
    )  # fmt: skip
    protocol = proto.get_attr("CTA_PROTO_NUM")
    name = _icmp(protocol)
    names = (f"CTA_PROTO_{name}_ID", f"CTA_PROTO_{name}_TYPE") if name else ("CTA_PROTO_SRC_PORT", "CTA_PROTO_DST_PORT")
    sport, dport = (proto.get_attr(one) or 0 for one in names)
    return Tuple(str(src), str(dst), protocol, sport, dport)
