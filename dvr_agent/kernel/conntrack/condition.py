"""Conditions by which :mod:`.manager` selects the connections to delete.  Pure.

A condition is made of the caller's addresses, and checked for every entry of a dump that may have one of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from dvr_agent.kernel.conntrack.message import AddressField, Connection, destination_port
from dvr_agent.kernel.iptables.layout import PROTOCOLS
from dvr_agent.state.filter import Ports

Version = Literal[4, 6]


@dataclass(frozen=True, slots=True)
class Condition:
    """Selects connections by their addresses.

    :ivar version: IP version
    :ivar addresses: packed; each selected connection has one of them
    :ivar fields: fields of an entry in which such an address counts
    :ivar also: further condition of an entry that has one of the addresses
    """

    version: Version
    addresses: frozenset[bytes]
    fields: tuple[AddressField, ...]
    also: Callable[[Connection], bool]

    @property
    def dumps(self) -> int:
        """Number of filtered dumps that find all selected connections."""
        return len(self.addresses) * len(self.fields)

    def accepts(self, connection: Connection) -> bool:
        """True if the connection is selected."""
        found = connection.addresses
        return any(found[field] in self.addresses for field in self.fields) and self.also(connection)


def anywhere(address: str) -> Condition:
    """Select the connections with this address on either side of either direction.

    :raises ValueError: no IP address
    """
    wanted = ipaddress.ip_address(address)
    return Condition(wanted.version, frozenset({wanted.packed}), tuple(AddressField), lambda _: True)


def to_ports(address: str, ports: Iterable[Ports]) -> Condition:
    """Select the connections that began to one of these ports of an IPv4 address.

    All ports count where the kernel does not tell them (DCCP from Linux 6.17 on).

    :raises ValueError: no IPv4 address
    """
    wanted = frozenset({ipaddress.IPv4Address(address).packed})
    ranges = [(PROTOCOLS[protocol], first, last) for protocol, first, last in ports]

    def began_there(connection: Connection) -> bool:
        protocol, port = destination_port(connection)
        return any(protocol == one and (port <= 0 or first <= port <= last) for one, first, last in ranges)

    return Condition(4, wanted, (AddressField.ORIGINAL_DESTINATION,), began_there)


def untranslated_outward(addresses: Iterable[str], inside: Iterable[str]) -> Condition:
    """Select untranslated connections that one of these IPv4 addresses began, except those to a network of ``inside``.

    :raises ValueError: no IPv4 address or network
    """
    wanted = frozenset(ipaddress.IPv4Address(address).packed for address in addresses)
    networks = tuple(map(_network, inside))

    def outward(connection: Connection) -> bool:
        if connection.is_translated:
            return False
        destination = int.from_bytes(connection.addresses[AddressField.ORIGINAL_DESTINATION] or b"", "big")
        return not any(destination & mask == network for network, mask in networks)

    return Condition(4, wanted, (AddressField.ORIGINAL_SOURCE,), outward)


@lru_cache(maxsize=1 << 10)
def _network(text: str) -> tuple[int, int]:
    """Return address and mask of an IPv4 network.

    :raises ValueError: it is none
    """
    network = ipaddress.IPv4Network(text)
    return int(network.network_address), int(network.netmask)
