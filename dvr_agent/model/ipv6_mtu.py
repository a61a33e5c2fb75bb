"""Omits the IPv6 part of a port whose MTU is too small for IPv6; its IPv4 part is built.  ``parse`` calls this.

Neutron accepts IPv6 subnets in a network with such an MTU.  The kernel has no IPv6 on a device below 1280 bytes
(net/ipv6/addrconf.c, ``addrconf_notify``): it refuses addresses and routes there, and radvd finds no link-local
address.
"""

from __future__ import annotations

from dataclasses import replace

from dvr_agent.model.checks import PlacedPort
from dvr_agent.model.external import omission
from dvr_agent.model.router import IPV6_MIN_MTU, Omission, RouterPort


def without_ipv6(port: RouterPort) -> RouterPort:
    """Return a port without its IPv6 addresses and subnets.

    Routes, rules, neighbours and advertisements follow these.
    """
    return replace(
        port,
        fixed_ips=tuple(fixed for fixed in port.fixed_ips if fixed.address.version == 4),
        subnets=tuple(subnet for subnet in port.subnets if subnet.cidr.version == 4),
        extra_subnets=tuple(net for net in port.extra_subnets if net.version == 4),
    )


def fitting(placed: PlacedPort) -> tuple[PlacedPort, tuple[Omission, ...]]:
    """Return the port without the IPv6 part that its MTU does not allow, and the omission."""
    port, at, indexes = placed
    addresses = [str(fixed.address) for fixed in port.fixed_ips if fixed.address.version == 6]
    if port.mtu >= IPV6_MIN_MTU or not addresses:
        return placed, ()
    kept = [index for index, fixed in zip(indexes, port.fixed_ips, strict=True) if fixed.address.version == 4]
    expected = f"at least {IPV6_MIN_MTU} for the IPv6 addresses {', '.join(addresses)} (RFC 8200)"
    return PlacedPort(without_ipv6(port), at, tuple(kept)), (omission((at, "mtu"), port.mtu, expected),)
