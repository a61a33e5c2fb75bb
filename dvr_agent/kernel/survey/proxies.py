"""Read which devices answer for addresses of others: proxy ARP, ``proxy_ndp`` and single proxied IPv4 neighbours.

It tells which namespaces of a segment have to be read as a whole when somebody asks for an address: of a thousand
routers on an external network those of the fip namespaces.
"""

from __future__ import annotations

import struct

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETNEIGH, RTM_GETNETCONF
from pyroute2.netlink.rtnl.ndmsg import NTF_PROXY, ndmsg

from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, FAMILY_OF_AF, Request
from dvr_agent.kernel.netlink.netconf import ALL_DEVICES, HEAD, IFINDEX, PROXY_NEIGH
from dvr_agent.kernel.netlink.schema import Schema, attributes
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.survey.messages import NO_FAMILY, dumped

_NUMBER = struct.Struct("=I")
_head = Schema(ndmsg).head("family", "flags")
Proxies = dict[int, set[int]]
"""Index of a device (:data:`ALL_DEVICES`: of every one) → families for which it answers in place of others."""


def read_proxies(sock: NetlinkSocket) -> Proxies:
    """Read the devices of a namespace that may answer for addresses of others."""
    found: Proxies = {}
    for family in (AF_INET, AF_INET6):
        request = Request(RTM_GETNETCONF, NLM_F_DUMP, family.to_bytes(HEAD, "little"), "netconf", NO_FAMILY)
        for data in sock.dump(request):
            values = {
                kind: _NUMBER.unpack_from(data, start)[0]
                for kind, start, end in attributes(data, HEAD)
                if end - start == _NUMBER.size
            }
            if values.get(PROXY_NEIGH) and IFINDEX in values:
                found.setdefault(values[IFINDEX], set()).add(FAMILY_OF_AF[family])
    entries = Request(RTM_GETNEIGH, NLM_F_DUMP, _head(AF_INET, NTF_PROXY), "proxied neighbours")
    for message in dumped(sock, entries, ndmsg):
        found.setdefault(message["ifindex"], set()).add(4)
    return found


def proxied_families(proxies: Proxies, index: int) -> tuple[int, ...]:
    """Return the families for which a device answers in place of others."""
    return tuple(sorted(proxies.get(index, set()) | proxies.get(ALL_DEVICES, set())))
