"""Notifications about parameters of a whole namespace: RTM_NEWNETCONF (include/uapi/linux/netconf.h).

The kernel tells of few parameters; of those that are ours, forwarding of both families.
"""

from __future__ import annotations

import struct

from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6
from dvr_agent.kernel.netlink.schema import Data, attributes
from dvr_agent.state.sysctl import Sysctl

ALL_DEVICES = 0xFFFFFFFF
"""NETCONFA_IFINDEX_ALL, -1: the parameter below ``conf/all``."""
HEAD = 4
"""Bytes of struct netconfmsg, padded."""
IFINDEX, FORWARDING, PROXY_NEIGH = 1, 2, 5
"""``NETCONFA_…``."""
_SIZE = 4
_KEYS = {AF_INET: "ipv4/ip_forward", AF_INET6: "ipv6/conf/all/forwarding"}
_NUMBER = struct.Struct("=I").unpack_from


def decode_forwarding(data: Data) -> Sysctl | None:
    """Return the parameter that turns forwarding on in the namespace, None if the message is about another one."""
    found = {kind: _NUMBER(data, start)[0] for kind, start, end in attributes(data, HEAD) if end - start == _SIZE}
    if found.get(IFINDEX) != ALL_DEVICES or FORWARDING not in found or data[0] not in _KEYS:
        return None
    return Sysctl(_KEYS[data[0]], str(found[FORWARDING]))
