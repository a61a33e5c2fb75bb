"""Compares addresses with prefixes as tools print them; a prefix that is no network (a set, a range) may have any."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network


def network_of(text: str) -> IPv4Network | IPv6Network | None:
    """Return the network that a text names, with or without a leading ``!``; None if it names none."""
    try:
        return ip_network(text.lstrip("!"), strict=False)
    except ValueError:
        return None


def covers_any(text: str, addresses: Iterable[str]) -> bool:
    """Return True if a prefix has one of the addresses; with a leading ``!``, if it lacks one of them."""
    network = network_of(text)
    if network is None:
        return False
    inside = [ip_address(one) in network for one in addresses]
    return not all(inside) if text.startswith("!") else any(inside)
