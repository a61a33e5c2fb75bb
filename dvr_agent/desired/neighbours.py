"""Permanent neighbours of the qrouter namespace (``docs/dataplane.md``, "Neighbours"); used by ``qrouter``.

Every port of each subnet gets an entry, on all hosts: a distributed router must not resolve addresses by ARP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter

from dvr_agent.desired.host_allocations import FipPair
from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.model.router import RouterPort, Subnet, SubnetPort
from dvr_agent.state.itemwise import itemwise
from dvr_agent.state.neighbour import Neighbour

_dst, _pairs, _is_up = attrgetter("dst"), attrgetter("pairs"), attrgetter("is_up")


def qrouter_neighbours(
    view: HostView, pair: FipPair | None, devices: list[tuple[str, RouterPort]]
) -> tuple[Neighbour, ...]:
    """Compute the neighbours of the qrouter namespace.

    :param devices: internal devices, with their ports
    """
    ports_by_subnet = dict(view.router.ports_by_subnet)
    own_ports = {port.id for _, port in devices}
    own_addresses = {str(fixed.address) for _, port in devices for fixed in port.fixed_ips}
    found: list[Neighbour] = []
    for device, port in devices:
        on_device: dict[str, Neighbour] = {}
        for _, subnet in port_subnets(port):
            members = ports_by_subnet.get(subnet.id, ())
            # Later entries win: the port of a fixed IP before ports with an allowed address pair for the address.
            on_device |= _by_address(_allowed_neighbours(members, own_ports, subnet, device))
            here = (subnet.id, subnet.cidr.version)
            fixed = _fixed_neighbours.each(view.router.id, members, here, device, frozenset(own_ports))
            on_device |= _by_address(chain.from_iterable(fixed))
            on_device |= _by_address(_csnat_neighbours(view, subnet, device))
        for address in own_addresses:
            on_device.pop(address, None)
        found += on_device.values()
    return (*found, Neighbour(pair.subnet.fip_address, view.rfp, pair.fpr_mac)) if pair else tuple(found)


def _by_address(neighbours: Iterable[Neighbour]) -> dict[str, Neighbour]:
    found = list(neighbours)
    return dict(zip(map(_dst, found), found, strict=True))


def _allowed_neighbours(
    members: Iterable[SubnetPort], own_ports: set[str], subnet: Subnet, device: str
) -> Iterator[Neighbour]:
    """Yield the neighbours of allowed address pairs, those of ports that are up last."""
    for member in sorted(filter(_pairs, members), key=_is_up):
        for mac, net in member.pairs if member.id not in own_ports else ():
            if net.num_addresses == 1 and net.version == subnet.cidr.version and net[0] in subnet.cidr:
                yield Neighbour(str(net[0]), device, mac)


@itemwise
def _fixed_neighbours(
    members: Sequence[SubnetPort], subnet: tuple[str, int], device: str, own_ports: frozenset[str]
) -> list[list[Neighbour]]:
    """Return the neighbours of the fixed IPs of each port in a subnet; the router's own ports are none.

    :param subnet: its id and IP version; a device without an address of that version has no use for such entries
    """
    subnet_id, version = subnet
    found: list[list[Neighbour]] = []
    for member in members:  # of which there are thousands: no comprehension, which is a call, for each
        of_member: list[Neighbour] = []
        found.append(of_member)
        if member.id not in own_ports:
            for where, address in member.addresses:
                if where == subnet_id and address.version == version:
                    of_member.append(Neighbour(str(address), device, member.mac))
    return found


def _csnat_neighbours(view: HostView, subnet: Subnet, device: str) -> Iterator[Neighbour]:
    """Yield the neighbours of csnat ports."""
    for csnat in view.router.snat_interfaces:
        for fixed in csnat.fixed_ips:
            if fixed.subnet_id == subnet.id and fixed.address.version == subnet.cidr.version:
                yield Neighbour(str(fixed.address), device, csnat.mac)
