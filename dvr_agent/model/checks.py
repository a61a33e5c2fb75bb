"""What must hold between the parts of one document: no two ports alike, floating IPs on the gateway's network.

What does not hold makes the document bad; single objects that cannot be built are left out, see ``external``.

Used by ``parse`` with the places of the parts, before the parts are sorted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dvr_agent.model.reader import At, Invalid, Unique, Verbatim
from dvr_agent.model.router import FloatingIp, RouterPort

DEVICE_ID_LENGTH = 11
"""Characters of a port id in a device name: 3 of prefix + 11 (neutron_lib.constants.DEVICE_NAME_MAX_LEN = 14)."""


class PlacedPort(NamedTuple):
    """A port with its place in the document.

    :ivar indexes: where each of its fixed IPs stands in the document's list
    """

    port: RouterPort
    at: At
    indexes: tuple[int, ...]


class RouterChecks:
    """Collects what must be unique among the ports and floating IPs of one router."""

    def __init__(self) -> None:
        self._ports = Unique("a port id that is there once")
        self._devices = Unique(f"a port id whose first {DEVICE_ID_LENGTH} characters, the device name, are there once")
        self._addresses = Unique("an address that is there once")
        self._floating = Unique("a floating IP id that is there once")

    def ports(self, ports: Iterable[PlacedPort]) -> None:
        """Port ids, device names and addresses.

        :raises Invalid: two of them are the same
        """
        for port, at, indexes in ports:
            id_at: At = (at, "id")
            self._ports.add(port.id, id_at, port.id)
            self._devices.add(port.id[:DEVICE_ID_LENGTH], id_at, port.id)
            for index, fixed in zip(indexes, port.fixed_ips, strict=True):
                place: At = (((at, "fixed_ips"), index), "ip_address")
                self._addresses.add(fixed.address, place, str(fixed.address))

    def floating_ip(self, fip: FloatingIp, gateway: RouterPort | None, at: At, left_out: bool = False) -> None:
        """A floating IP is not there twice and belongs to the gateway's network.

        :param left_out: it is not built: its address may be anything
        :raises Invalid: it is not so
        """
        if gateway is None:
            text = "no floating IP on a router without gateway port (gw_port)"
            raise Invalid(at, Verbatim(str(fip.address)), text)
        if fip.network_id != gateway.network_id:
            text = f"the network of the gateway port, {gateway.network_id}"
            raise Invalid((at, "floating_network_id"), fip.network_id, text)
        self._floating.add(fip.id, (at, "id"), fip.id)
        if not left_out:
            self._addresses.add(fip.address, (at, "floating_ip_address"), str(fip.address))
