"""Compare addresses with networks, by number."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_interface

from dvr_agent.state.filter import Family


def family_of(address: str) -> Family:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


@lru_cache(maxsize=1 << 14)
def number_of(address: str) -> int:
    """Return an address as a number."""
    return int(ip_address(address))


@lru_cache(maxsize=1 << 14)
def _range(network: str) -> tuple[int, int]:
    parsed = ip_interface(network).network
    return int(parsed.network_address), int(parsed.netmask)


def is_in(address: str, network: str) -> bool:
    """Return True if the address is in the network (host bits of the network do not count)."""
    if (":" in address) != (":" in network):
        return False
    first, mask = _range(network)
    return number_of(address) & mask == first


def length_of(network: str) -> int:
    """Return the prefix length of ``address/length``."""
    return int(network.partition("/")[2] or ("128" if ":" in network else "32"))


def ip_of(cidr: str) -> str:
    """Return the address of ``address/length``."""
    return cidr.partition("/")[0]


def is_link_local(address: str) -> bool:
    """Return True for a link-local address."""
    return ip_address(address).is_link_local


def is_group(address: str) -> bool:
    """Return True for a multicast address, and for the limited broadcast address."""
    return ip_address(address).is_multicast or address == "255.255.255.255"
