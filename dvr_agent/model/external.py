"""Omits floating IPs and fixed IPs of external ports that cannot be built; the rest of the router is built.

Their address belongs to another host (the external network's gateway) or can belong to no host, or a floating IP's
fixed address is not an instance's.  Neutron does not refuse all of these.  Each omission has its JSON path.  ``parse``
calls this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from dvr_agent.model import values
from dvr_agent.model.checks import PlacedPort
from dvr_agent.model.reader import At, json_path, show
from dvr_agent.model.router import FloatingIp, IpAddress, IpNetwork, Omission, RouterPort

_LINK_LOCAL = IPv4Network("169.254.0.0/16")
_LINK_LOCAL_16 = int(_LINK_LOCAL[0]) >> 16


def omission(at: At, value: object, expected: str) -> Omission:
    """Return the omission of the object at ``at``, because of its value."""
    return Omission(json_path(at), show(value), expected)


def why_no_host(address: IpAddress, networks: Iterable[IpNetwork]) -> str:
    """Return why no host in one of the subnets can have an address; empty if one can.

    A /31 and a /32 have neither network nor broadcast address (RFC 3021), a /127 and a /128 no anycast address of
    their routers (RFC 6164).
    """
    version, number = address.version, int(address)
    for network in networks:
        host_bits = network.max_prefixlen - network.prefixlen
        if network.version != version or host_bits < 2:
            continue
        host = number - int(network.network_address)
        if host == 0:
            return f"the {'network' if version == 4 else 'subnet-router anycast'} address of {network}"
        if version == 4 and host == (1 << host_bits) - 1:
            return f"the broadcast address of {network}"
    return ""


class ExternalNetworks:
    """Knows subnets and gateways of a router's external networks, as far as its ports list them.

    :param ports: gateway port and agent gateway ports
    """

    def __init__(self, ports: Iterable[RouterPort]) -> None:
        self._subnets: dict[str, set[IpNetwork]] = {}
        self._gateways: dict[str, set[IpAddress]] = {}
        for port in ports:
            subnets = self._subnets.setdefault(port.network_id, set())
            subnets.update(port.extra_subnets, (subnet.cidr for subnet in port.subnets))
            gateways = self._gateways.setdefault(port.network_id, set())
            gateways.update(port.extra_gateways)
            gateways.update(subnet.gateway_ip for subnet in port.subnets if subnet.gateway_ip is not None)

    def knows_alike(self, other: ExternalNetworks) -> bool:
        """Return True if both know the same."""
        return self._subnets == other._subnets and self._gateways == other._gateways

    def why_not(self, network_id: str, address: IpAddress) -> str:
        """Return why no floating IP and no port in the network can have an address; empty if one can."""
        reason = values.why_unusable(address)
        if reason:
            return reason
        if address.version == 4 and int(address) >> 16 == _LINK_LOCAL_16:
            return f"in {_LINK_LOCAL} (link-local)"
        if address in self._gateways.get(network_id, ()):
            return "the gateway of a subnet of the external network"
        return why_no_host(address, self._subnets.get(network_id, ()))

    def usable(self, placed: PlacedPort, taken: Sequence[PlacedPort] = ()) -> tuple[PlacedPort, tuple[Omission, ...]]:
        """Return the port without the addresses that it cannot have, and the omissions.

        :param taken: ports whose addresses it cannot have either
        """
        port, at, _ = placed
        owners = addresses_of(taken)
        kept, omissions = [], []
        for index, fixed in enumerate(port.fixed_ips):
            address = fixed.address
            reason = self.why_not(port.network_id, address) or owner_text(owners, address)
            if reason:
                place: At = (((at, "fixed_ips"), index), "ip_address")
                expected = f"an address that a port of an external network can have; this one is {reason}"
                omissions.append(omission(place, str(address), expected))
            else:
                kept.append(index)
        if not omissions:
            return placed, ()
        port = replace(port, fixed_ips=tuple(port.fixed_ips[index] for index in kept))
        return PlacedPort(port, at, tuple(kept)), tuple(omissions)


def addresses_of(ports: Iterable[PlacedPort]) -> dict[IpAddress, At]:
    """Return the place of the owner of each fixed IP of these ports, by address."""
    return {fixed.address: at for port, at, _ in ports for fixed in port.fixed_ips}


def owner_text(owners: Mapping[IpAddress, At], address: IpAddress) -> str:
    """Return which of the owners has an address; empty if none has."""
    return f"that of {json_path(owners[address])}" if address in owners else ""


class FloatingIpRules:
    """Decides which floating IPs a router can have.

    :param snat_lost: all IPv4 addresses of the gateway port are omitted
    :param ports: all ports of the router, without omitted addresses
    :param interfaces: its router interfaces
    """

    def __init__(
        self,
        networks: ExternalNetworks,
        snat_lost: bool,
        ports: Iterable[PlacedPort],
        interfaces: Iterable[RouterPort],
    ) -> None:
        self._networks, self._snat_lost = networks, snat_lost
        self._owners = addresses_of(ports)
        self._inside = {network for port in interfaces for network in _subnets4(port)}

    def judge_alike(self, other: FloatingIpRules) -> bool:
        """Return True if both let a router have the same floating IPs."""
        return (
            self._snat_lost == other._snat_lost
            and self._owners.keys() == other._owners.keys()
            and self._inside == other._inside
            and self._networks.knows_alike(other._networks)
        )

    def check(self, fip: FloatingIp, at: At) -> Omission | None:
        """Return why the floating IP must be omitted; None if it can be built."""
        address_at: At = (at, "floating_ip_address")
        reason = self.why_not_floating(fip.network_id, fip.address)
        if reason:
            expected = f"an address that a floating IP can have; this one is {reason}"
            return omission(address_at, str(fip.address), expected)
        reason = self.why_not_inside(fip.fixed_address)
        if reason:
            expected = f"the address of an instance in a subnet of the router's interfaces; this one is {reason}"
            return omission((at, "fixed_ip_address"), str(fip.fixed_address), expected)
        if fip.is_central and self._snat_lost:
            expected = "a gateway port with an IPv4 address for this floating IP, which is centralized"
            return omission(address_at, str(fip.address), expected)
        return None

    def why_not_floating(self, network_id: str, address: IPv4Address) -> str:
        """Return why an address in the external network can be no floating IP; empty if it can."""
        return self._networks.why_not(network_id, address) or owner_text(self._owners, address)

    def why_not_inside(self, address: IPv4Address) -> str:
        """Return why an address cannot be that of an instance in a subnet of the router; empty if it can."""
        reason = owner_text(self._owners, address) or values.why_unusable(address)
        if reason:
            return reason
        containing = [network for network in self._inside if address in network]
        return why_no_host(address, containing) if containing else "in none of them"


def _subnets4(port: RouterPort) -> set[IPv4Network]:
    """Return the IPv4 subnets of an interface: listed ones, and those of its addresses and their prefix lengths."""
    listed = {subnet.cidr for subnet in port.subnets if isinstance(subnet.cidr, IPv4Network)}
    return listed | {net for fixed in port.fixed_ips if isinstance(net := fixed.network, IPv4Network)}
