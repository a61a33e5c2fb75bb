"""Compares addresses with prefixes as tools print them; a prefix that is no network (a set, a range) may have any."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from dvr_agent.cli.why.facts import Facts
from dvr_agent.desired import names


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


def is_of_others(facts: Facts, namespace: str, text: str) -> bool:
    """True for a single address in a fip namespace, which routers share, that is none of the subject's router."""
    network, router = network_of(text), facts.subject.router
    if network is None or router is None or network.num_addresses > 1 or not namespace.startswith(names.FIP):
        return False
    fips = {one for fip in router.floating_ips for one in (fip.address, fip.fixed_address)}
    ports = {fixed.address for leg in facts.path.legs for fixed in leg.port.fixed_ips}
    return str(network[0]) not in {str(one) for one in fips | ports}
