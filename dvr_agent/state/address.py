"""Addresses on devices.

Link-local IPv6 addresses that the kernel makes itself are not part of the state.  It makes one of a device's MAC
address when the device is raised, and keeps it when the MAC address changes: then it is stale.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

LINK_LOCAL_PREFIX = 64
"""Prefix length of the kernel's link-local addresses (addrconf_add_linklocal in net/ipv6/addrconf.c)."""


class Address(NamedTuple):
    """An address with its prefix length on a device.  Identity: all of it."""

    device: str
    cidr: str
    """``10.0.0.1/24``: host bits kept."""

    @property
    def text(self) -> str:
        return f"address {self.cidr} dev {self.device}"

    @property
    def ip(self) -> str:
        return self.cidr.partition("/")[0]


def link_local(mac: str) -> str:
    """Compute the IPv6 link-local address that the kernel makes of a MAC address (EUI-64, RFC 4291 appendix A)."""
    octets = bytes(int(part, 16) for part in mac.split(":"))
    identifier = bytes((octets[0] ^ 0x02, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


@lru_cache(maxsize=16384)
def kernel_link_local(device: str, mac: str) -> Address:
    """Return the address that the kernel gives a device with this MAC address by itself."""
    return Address(device, f"{link_local(mac)}/{LINK_LOCAL_PREFIX}")


@lru_cache(maxsize=16384)
def is_made_of_mac(address: Address) -> bool:
    """True for a link-local address in the form that the kernel makes of a MAC address, whichever that is."""
    if not address.cidr.startswith("fe80:") or not address.cidr.endswith(f"/{LINK_LOCAL_PREFIX}"):
        return False
    raw = IPv6Address(address.ip).packed
    return raw[2:8] == bytes(6) and raw[11:13] == b"\xff\xfe"
