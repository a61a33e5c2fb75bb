"""Addresses on devices.  Link-local addresses that the kernel makes itself are not part of the state."""

from __future__ import annotations

from typing import NamedTuple


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
