"""Proxied neighbours: IPv6 addresses for which a device answers neighbour solicitations in place of their owner."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from dvr_agent.state.kind import Kind, only_device

if TYPE_CHECKING:
    from dvr_agent.state.ownership import Ownership


class ProxyNeighbour(NamedTuple):
    """An entry of ``ip -6 neighbour show proxy``.  Identity: the whole value.

    It has an effect where the parameter ``proxy_ndp`` of the device is 1.
    """

    dst: str
    device: str

    @property
    def text(self) -> str:
        """The entry in iproute2's terms."""
        return f"neighbour proxy {self.dst} dev {self.device}"


def _owned(ownership: Ownership, proxy: ProxyNeighbour) -> bool:
    """True if the address is in one of the networks whose proxied neighbours the slice owns.

    The device is not asked for: in a fip namespace the entries of all routers are on the one device they share.
    """
    if not ownership.proxied or ":" not in proxy.dst:
        return False
    address = _number(proxy.dst)
    return any(address & mask == first for first, mask in map(_range, ownership.proxied))


@lru_cache(maxsize=1 << 12)
def _number(address: str) -> int:
    return int(IPv6Address(address))


@lru_cache(maxsize=1 << 12)
def _range(network: str) -> tuple[int, int]:
    """Return the first address of a network and its mask."""
    parsed = IPv6Network(network)
    return int(parsed.network_address), int(parsed.netmask)


PROXY_NEIGHBOUR_KIND = Kind(
    ProxyNeighbour,
    name="proxied neighbour",
    field="proxy_neighbours",
    build_rank=55,  # after the routes: nobody asks for the address before there is a way to it
    remove_rank=5,
    owned=_owned,
    devices=only_device,
    on_own_devices=False,
)
