"""Permanent neighbour entries.  What the kernel learns by itself is never looked at."""

from __future__ import annotations

from typing import NamedTuple


class Neighbour(NamedTuple):
    """A permanent entry.  Identity: :attr:`key`, address and device; the MAC is its value."""

    dst: str
    device: str
    mac: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.dst, self.device)

    @property
    def text(self) -> str:
        return f"neighbour {self.dst} lladdr {self.mac} dev {self.device} permanent"
