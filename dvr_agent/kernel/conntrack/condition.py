"""Which connections to delete: addresses, where they must stand, and what else must be true.  Pure.

Made by :mod:`.manager` from the caller's addresses; asked for every entry that a dump may have found.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from dvr_agent.kernel.conntrack.message import Connection, Place

Version = Literal[4, 6]


@dataclass(frozen=True, slots=True)
class Condition:
    """Which connections are wanted.

    :ivar version: IP version
    :ivar addresses: packed; each wanted connection has one of them
    :ivar places: where in an entry such an address can stand
    :ivar also: decides by the entry, once it has one of the addresses
    """

    version: Version
    addresses: frozenset[bytes]
    places: tuple[Place, ...]
    also: Callable[[Connection], bool]

    @property
    def dumps(self) -> int:
        """Number of filtered dumps that find all wanted connections."""
        return len(self.addresses) * len(self.places)

    def accepts(self, connection: Connection) -> bool:
        """True if the connection is wanted."""
        stands = connection.addresses
        return any(stands[place] in self.addresses for place in self.places) and self.also(connection)


def anywhere(address: str) -> Condition:
    """Connections with this address on either side of either direction.

    :raises ValueError: no IP address
    """
    wanted = ipaddress.ip_address(address)
    return Condition(wanted.version, frozenset({wanted.packed}), tuple(Place), lambda _: True)


def untranslated_outward(addresses: Iterable[str], inside: Iterable[str]) -> Condition:
    """Connections that one of these IPv4 addresses began, to no network of ``inside``, and that no NAT rule translates.

    :raises ValueError: no IPv4 address or network
    """
    wanted = frozenset(ipaddress.IPv4Address(address).packed for address in addresses)
    networks = [(int(net.network_address), int(net.netmask)) for net in map(ipaddress.IPv4Network, inside)]

    def outward(connection: Connection) -> bool:
        if connection.is_translated:
            return False
        destination = int.from_bytes(connection.addresses[Place.ORIGINAL_DESTINATION] or b"", "big")
        return not any(destination & mask == network for network, mask in networks)

    return Condition(4, wanted, (Place.ORIGINAL_SOURCE,), outward)
