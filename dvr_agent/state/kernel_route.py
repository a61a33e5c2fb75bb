"""Routes that the kernel makes with an address: the connected one, to its subnet, and the local one, to itself.

The kernel makes and removes them with the address, so they are not part of a desired state.  But another program can
remove them alone (``ip route flush dev X``); an observation names those that are lost, and they are added again.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_interface
from typing import NamedTuple

from dvr_agent.state.address import Address
from dvr_agent.state.kind import Kind, on_own_device, only_device

LINK_LOCAL_NETWORK = "fe80::/64"


class KernelRoute(NamedTuple):
    """A route that the kernel makes with an address.  Identity: :attr:`key`.

    :ivar device: empty in an event that does not tell it
    :ivar cidr: the address; in an event of a connected IPv6 route its subnet
    :ivar is_local: it leads to the address itself, not to its subnet
    """

    device: str
    cidr: str
    is_local: bool = False

    @property
    def dst(self) -> str:
        """The destination, as routes have it."""
        return _destination(self.cidr, self.is_local)

    @property
    def key(self) -> tuple[str, str, bool]:
        """Identity: addresses of one subnet have one connected route by a device."""
        return (self.device, self.dst, self.is_local)

    @property
    def text(self) -> str:
        """The route in iproute2's terms."""
        device = f" dev {self.device}" if self.device else ""
        return f"{'local' if self.is_local else 'connected'} route {self.dst}{device}"


@lru_cache(maxsize=64)
def _destination(cidr: str, is_local: bool) -> str:
    found = ip_interface(cidr)
    return f"{found.ip}/{found.max_prefixlen}" if is_local else str(found.network)


def connected_route(address: Address) -> KernelRoute:
    """Return the route to the subnet of an address."""
    return KernelRoute(address.device, address.cidr)


KERNEL_ROUTE_KIND = Kind(
    KernelRoute,
    name="kernel route",
    field="lost_routes",
    build_rank=lambda route: 21 if route.is_local else 22,  # a local one first: a connected one has it as its source
    remove_rank=30,
    owned=on_own_device,
    devices=only_device,
    key=lambda route: route.key,
    removable=False,
)
