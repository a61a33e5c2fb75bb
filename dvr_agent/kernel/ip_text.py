"""Write IP addresses that the kernel reports as bytes in the spelling of :mod:`ipaddress`, which ``state`` uses.

Used by ``netlink`` (attributes), ``iptables`` and ``nftables`` (rules): all of them read addresses by the thousand.
"""

from __future__ import annotations

import ipaddress
import socket


def ip_text(raw: bytes | bytearray) -> str:
    """Return an address in the canonical form of :mod:`ipaddress`.

    inet_ntop(3) is much faster, and differs only for IPv6 addresses that embed IPv4 ones (``::ffff:10.0.0.1``).

    :param raw: 4 or 16 bytes
    """
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    text = socket.inet_ntop(socket.AF_INET6, raw)
    return text if "." not in text else str(ipaddress.IPv6Address(bytes(raw)))
