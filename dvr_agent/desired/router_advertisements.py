"""Write the configuration of a router's radvd (radvd.conf(5)); used by ``services/radvd.py``.

The router advertises the same as under neutron-l3-agent (Neutron 29, neutron/agent/linux/ra.py): prefixes by the
subnets' mode, the flags for DHCPv6, the MTU, resolvers for SLAAC, and the route to the metadata address.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from dvr_agent.desired import names
from dvr_agent.desired.metadata_rules import ADDRESSES as METADATA_ADDRESSES
from dvr_agent.model.router import IPV6_MIN_MTU, RaMode, Router, RouterPort, Subnet

MOST_RESOLVERS = 3
"""The number of resolvers that fit into one option, which is all that older radvd allow."""


def radvd_text(router: Router, shortest: int, longest: int) -> str | None:
    """Write radvd's configuration; None if the router advertises nothing.

    :param shortest: least number of seconds between two advertisements
    :param longest: greatest number of seconds between two advertisements
    """
    ports = [(names.device(names.INTERNAL, port.id), port) for port in router.interfaces if port.admin_state_up]
    blocks = [
        _interface(device, port, subnets, shortest, longest)
        for device, port in sorted(ports)
        if (subnets := [subnet for subnet in port.subnets if subnet.ra_mode is not None])
    ]
    return "\n".join(blocks) if blocks else None


def _interface(device: str, port: RouterPort, subnets: list[Subnet], shortest: int, longest: int) -> str:
    modes = {subnet.ra_mode for subnet in subnets}
    resolvers = [
        _text(address) for subnet in subnets if subnet.ra_mode is RaMode.SLAAC for address in subnet.nameservers
    ]
    lines = ["AdvSendAdvert on;", f"MinRtrAdvInterval {shortest};", f"MaxRtrAdvInterval {longest};"]
    if port.mtu >= IPV6_MIN_MTU:
        lines.append(f"AdvLinkMTU {port.mtu};")
    if RaMode.STATEFUL in modes:
        lines.append("AdvManagedFlag on;")
    if RaMode.STATELESS in modes:
        lines.append("AdvOtherConfigFlag on;")
    if resolvers:
        lines.append(f"RDNSS {' '.join(resolvers[:MOST_RESOLVERS])} {{ }};")
    for subnet in subnets:
        autonomous = "off" if subnet.ra_mode is RaMode.STATEFUL else "on"
        prefix = f"{_text(IPv6Address(int(subnet.cidr.network_address)))}/{subnet.cidr.prefixlen}"
        lines += [f"prefix {prefix} {{", "    AdvOnLink on;", f"    AdvAutonomous {autonomous};", "};"]
    # For instances that accept routes from advertisements.
    lines.append(f"route {METADATA_ADDRESSES[6]} {{ }};")
    return "\n".join([f"interface {device} {{", *(f"    {line}" for line in lines), "};", ""])


def _text(address: IPv6Address) -> str:
    """Write an address so that radvd can read it: radvd 2.19 accepts no ``::`` at the start of an address."""
    text = str(address)
    return address.exploded if text.startswith("::") else text
