"""Addresses on devices.

Link-local IPv6 addresses that the kernel makes itself are not part of the state.  The kernel makes one from a device's
MAC address when the device is raised, and keeps it when the MAC address changes: then the address is stale.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

from dvr_agent.state.kind import Kind, on_own_device, only_device

LINK_LOCAL_PREFIX = 64
"""Prefix length of the kernel's link-local addresses (addrconf_add_linklocal in net/ipv6/addrconf.c)."""


class Address(NamedTuple):
    """An address with its prefix length on a device.  Identity: the whole value."""

    device: str
    cidr: str
    """``10.0.0.1/24``: host bits kept."""

    @property
    def text(self) -> str:
        """The address in iproute2's terms."""
        return f"address {self.cidr} dev {self.device}"

    @property
    def ip(self) -> str:
        """The address without its prefix length."""
        return self.cidr.partition("/")[0]


def link_local(mac: str) -> str:
    """Compute the IPv6 link-local address that the kernel makes from a MAC address (EUI-64, RFC 4291 appendix A)."""
    a, b, c, d, e, f = bytes.fromhex(mac.replace(":", ""))
    first = (a ^ 0x02) << 8 | b
    # The zeros before it are the longest run in any case, and of the other groups only the last may be zero too.
    return f"fe80::{f'{first:x}:' if first else ''}{c << 8 | 0xFF:x}:{0xFE00 | d:x}:{e << 8 | f:x}"


def has_ethernet_address(mac: str) -> bool:
    """True for a MAC address of six octets; tunnels and InfiniBand have none, or one of another length."""
    return len(mac) == len("00:00:00:00:00:00")


@lru_cache(maxsize=64)
def kernel_link_local(device: str, mac: str) -> Address:
    """Return the link-local address that the kernel adds to a device with this MAC address."""
    return Address(device, f"{link_local(mac)}/{LINK_LOCAL_PREFIX}")


@lru_cache(maxsize=256)
def is_made_of_mac(address: Address) -> bool:
    """True for a link-local address that the kernel made from a MAC address (any MAC address)."""
    if not address.cidr.startswith("fe80:") or not address.cidr.endswith(f"/{LINK_LOCAL_PREFIX}"):
        return False
    raw = IPv6Address(address.ip).packed
    return raw[2:8] == bytes(6) and raw[11:13] == b"\xff\xfe"


def _ipv6_place(address: Address) -> tuple[str, str] | None:
    """Return device and address: the kernel has an IPv6 address once per device, whatever its prefix length."""
    return (address.device, address.ip) if ":" in address.cidr else None


ADDRESS_KIND = Kind(
    Address,
    name="address",
    field="addresses",
    build_rank=20,
    remove_rank=30,
    owned=on_own_device,
    devices=only_device,
    place=_ipv6_place,
)
