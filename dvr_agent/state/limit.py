"""Bandwidth limits: bytes from or to one IPv4 address that may pass by a device in one direction.

What is above the limit is dropped (policing, no queue).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Literal, NamedTuple

from dvr_agent.state.kind import Kind, only_device

Direction = Literal["leaving", "entering"]
DIRECTIONS: tuple[Direction, ...] = ("leaving", "entering")

MIN_BURST = 64 * 1024
"""Bytes.  A packet that the host's devices leave whole (GSO) counts with up to 64 KiB: with less it never passed."""
MAX_RATE = 12_500_000_000
"""Bytes per second (100 Gbit/s); with more, what limits of nf_tables count (bytes times nanoseconds) leaves 64 bits."""
MAX_ABOVE_RATE = 0xFFFFFFFF
"""Bytes by which a burst can exceed what passes in a second."""


class Limit(NamedTuple):
    """A limit.  Identity: device, direction and address; rate and burst are its value.

    :ivar direction: ``leaving`` the namespace by the device, from the address; or ``entering`` it, to the address
    :ivar rate: bytes per second
    :ivar burst: bytes that may pass at once after a pause
    """

    device: str
    direction: Direction
    address: str
    rate: int
    burst: int

    @property
    def text(self) -> str:
        """The limit in one line."""
        rate, burst = f"{self.rate * 8 / 1000:.10g} kbit/s", f"{self.burst / 1000:.10g} kB"
        return f"{_place_text(self.device, self.direction, self.address)} to {rate} burst {burst}"


class Drops(NamedTuple):
    """What the limit of an address has dropped since that address is limited on the device."""

    device: str
    direction: Direction
    address: str
    packets: int

    def is_of(self, limit: str) -> bool:
        """Return True for the text of the limit that has dropped them."""
        return limit.startswith(f"{_place_text(self.device, self.direction, self.address)} to ")


def _place_text(device: str, direction: Direction, address: str) -> str:
    return f"limit {'from' if direction == 'leaving' else 'to'} {address} {direction} {device}"


def make_limit(device: str, direction: Direction, address: str, kbps: int, burst: int) -> Limit:
    """Make a limit of a rate and a burst as Neutron gives them.

    The burst is at least what passes in one second, since limits of nf_tables have no smaller ones, and
    :data:`MIN_BURST`.

    :param kbps: kbit/s
    :param burst: kbit
    """
    rate = min(kbps * 125, MAX_RATE)
    return Limit(device, direction, address, rate, min(max(burst * 125, rate, MIN_BURST), rate + MAX_ABOVE_RATE))


LIMIT_KIND = Kind(
    Limit,
    name="limit",
    field="limits",
    build_rank=25,  # the device is there, and traffic does not come yet
    remove_rank=25,
    owned=lambda ownership, limit: ownership.limits(limit.device),
    devices=only_device,
    key=attrgetter("device", "direction", "address"),
)
