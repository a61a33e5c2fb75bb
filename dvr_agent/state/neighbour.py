"""Permanent neighbour entries.  Entries that the kernel learns are not part of the state."""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from dvr_agent.state.kind import Kind, on_own_device, only_device


class Neighbour(NamedTuple):
    """A permanent entry.  Identity: :attr:`key`, which is address and device; the MAC address is its value."""

    dst: str
    device: str
    mac: str

    @property
    def key(self) -> tuple[str, str]:
        """Identity: address and device."""
        return (self.dst, self.device)

    @property
    def text(self) -> str:
        """The entry in iproute2's terms."""
        return f"neighbour {self.dst} lladdr {self.mac} dev {self.device} permanent"


NEIGHBOUR_KIND = Kind(
    Neighbour,
    name="neighbour",
    field="neighbours",
    build_rank=30,
    remove_rank=20,
    owned=on_own_device,
    devices=only_device,
    key=attrgetter("dst", "device"),
    flushed_on_new_mac=True,  # neigh_changeaddr (net/core/neighbour.c)
)
