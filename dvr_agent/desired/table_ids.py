"""Routing table numbers, which are rule priorities too (``docs/dataplane.md``, "Rule priorities and tables")."""

from __future__ import annotations

from ipaddress import IPV4LENGTH, IPv4Address
from zlib import crc32

from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.model.ip import parse_address

_V6_FOLD = 30
_V6_MASK = (1 << _V6_FOLD) - 1
_FIRST_FREE = 32768
"""Below lie the priorities of the kernel's own rules (32766 main, 32767 default)."""


def redirect_index(cidr: str) -> int:
    """Compute table and priority of the redirect to SNAT for a router port address such as ``10.1.0.1/24``.

    IPv4: the address as an integer.  IPv6 addresses do not fit: crc32 of the text, folded to 30 bits and moved out
    of the range of the kernel's own rules (neutron.agent.l3.dvr_local_router, _get_snat_idx).
    """
    if ":" not in cidr:
        return int(parse_address(cidr.partition("/")[0]))
    digest = crc32(cidr.encode())
    index = (digest >> _V6_FOLD) ^ (digest & _V6_MASK)
    return index + _V6_MASK if index < _FIRST_FREE else index


def fip_index(fpr_address: str) -> int:
    """Compute table and priority of a router in the fip namespace: its fpr address as an integer."""
    return int(parse_address(fpr_address))


def fip_pair(index: int) -> LinkLocalPair | None:
    """Return the /31 of the router with this table in a fip namespace; None for a table that is of none."""
    return LinkLocalPair.parse(f"{IPv4Address(index)}/31") if 0 <= index < 1 << IPV4LENGTH else None
