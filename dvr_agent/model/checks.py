"""Compares the parts of one document: ports must be unique, floating IPs in the network of the gateway port.

A failed check makes the document bad; single objects that cannot be built are omitted, see ``external``.  ``parse``
checks the parts with their places, before it sorts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dvr_agent.model.reader import At, Invalid, Unique, Verbatim
from dvr_agent.model.router import FloatingIp, RouterPort

DEVICE_ID_LENGTH = 11
"""Characters of a port id in a device name: 3 of prefix + 11 (neutron_lib.constants.DEVICE_NAME_MAX_LEN = 14)."""


class PlacedPort(NamedTuple):
    """A port with its place in the document.

    :ivar indexes: index of each of its fixed IPs in the document's list
    """

    port: RouterPort
    at: At
    indexes: tuple[int, ...]


class RouterChecks:
    """Collects the ids and addresses that must be unique among the ports and floating IPs of one router."""

    def __init__(self) -> None:
        self._ports = Unique("a port id that is there once")
        self._devices = Unique(f"a port id whose first {DEVICE_ID_LENGTH} characters, the device name, are there once")
        self._addresses = Unique("an address that is there once")
        self._floating = Unique("a floating IP id that is there once")

    def ports(self, ports: Iterable[PlacedPort]) -> None:
        """Check port ids, device names and addresses.

        :raises Invalid: two of them are equal
        """
        for port, at, indexes in ports:
            id_at: At = (at, "id")
            self._ports.add(port.id, id_at, port.id)
            self._devices.add(port.id[:DEVICE_ID_LENGTH], id_at, port.id)
            for index, fixed in zip(indexes, port.fixed_ips, strict=True):
                place: At = (((at, "fixed_ips"), index), "ip_address")
                self._addresses.add(fixed.address, place, str(fixed.address))

    def floating_ip(self, fip: FloatingIp, gateway: RouterPort | None, at: At, omitted: bool = False) -> None:
        """Check that a floating IP is unique and in the gateway's network.

        :param omitted: it is not built: its address is not checked
        :raises Invalid: it is a duplicate, or in another network
        """
        if gateway is None:
            text = "no floating IP on a router without gateway port (gw_port)"
            raise Invalid(at, Verbatim(str(fip.address)), text)
        if fip.network_id != gateway.network_id:
            text = f"the network of the gateway port, {gateway.network_id}"
            raise Invalid((at, "floating_network_id"), fip.network_id, text)
        self._floating.add(fip.id, (at, "id"), fip.id)
        if not omitted:
            self._addresses.add(fip.address, (at, "floating_ip_address"), str(fip.address))

    def known_floating_ips(self, fips: Sequence[FloatingIp], count: int, at: At) -> None:
        """Check that floating IPs are unique which passed all other checks with the last document.

        :param count: of their entries in the document
        :raises Invalid: two of them are equal
        """
        if len(fips) != count:
            raise Invalid(at, Verbatim("a list"), "each floating IP once")
        self._floating.add_all([fip.id for fip in fips], at)
        self._addresses.add_all([fip.address for fip in fips], at)
