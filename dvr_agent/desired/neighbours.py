"""Permanent neighbours of the qrouter namespace (``docs/dataplane.md``, "Neighbours"); used by ``qrouter``.

Every port of each subnet gets an entry, on all hosts: a distributed router must not resolve addresses by ARP.
"""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.desired.host_allocations import FipPair
from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.model.router import RouterPort, Subnet, SubnetPort
from dvr_agent.state.neighbour import Neighbour


def qrouter_neighbours(view: HostView, pair: FipPair | None, devices: list[tuple[str, RouterPort]]) -> list[Neighbour]:
    """Compute the neighbours of the qrouter namespace.

    :param devices: internal devices, with their ports
    """
    ports_by_subnet = dict(view.router.ports_by_subnet)
    own_ports = {port.id for _, port in devices}
    own_addresses = {str(fixed.address) for _, port in devices for fixed in port.fixed_ips}
    found: dict[tuple[str, str], str] = {}
    for device, port in devices:
        for _, subnet in port_subnets(port):
            members = [member for member in ports_by_subnet.get(subnet.id, ()) if member.id not in own_ports]
            # Later entries win: the port of a fixed IP before ports with an allowed address pair for the address.
            found |= {(address, device): mac for address, mac in _allowed_addresses(members, subnet)}
            found |= {(address, device): mac for address, mac in _fixed_addresses(members, subnet)}
            found |= {(address, device): mac for address, mac in _csnat_addresses(view, subnet)}
    neighbours = [Neighbour(dst, dev, mac) for (dst, dev), mac in found.items() if dst not in own_addresses]
    return [*neighbours, Neighbour(pair.subnet.fip_address, view.rfp, pair.fpr_mac)] if pair else neighbours


def _allowed_addresses(members: list[SubnetPort], subnet: Subnet) -> Iterator[tuple[str, str]]:
    """Yield (address, MAC address) of allowed address pairs, those of ports that are up last."""
    for member in sorted(members, key=_is_up):
        for mac, net in member.pairs:
            if net.num_addresses == 1 and net.version == subnet.cidr.version and net[0] in subnet.cidr:
                yield str(net[0]), mac


def _fixed_addresses(members: list[SubnetPort], subnet: Subnet) -> Iterator[tuple[str, str]]:
    """Yield (address, MAC address) of fixed IPs."""
    for member in members:
        for subnet_id, address in member.addresses:
            if subnet_id == subnet.id:
                yield str(address), member.mac


def _csnat_addresses(view: HostView, subnet: Subnet) -> Iterator[tuple[str, str]]:
    """Yield (address, MAC address) of csnat ports."""
    for csnat in view.router.snat_interfaces:
        for fixed in csnat.fixed_ips:
            if fixed.subnet_id == subnet.id:
                yield str(fixed.address), csnat.mac


def _is_up(member: SubnetPort) -> bool:
    return member.is_up
