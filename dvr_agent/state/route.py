"""Routes.  Only those of protocol static and boot can be ours; the kernel's own are never looked at."""

from __future__ import annotations

from typing import NamedTuple

MAIN_TABLE = 254
DEFAULT_V4 = "0.0.0.0/0"
DEFAULT_V6 = "::/0"


class Hop(NamedTuple):
    """One next hop: a gateway (None: on-link) by a device; ``onlink``: the gateway need not be in a subnet."""

    gateway: str | None
    device: str
    onlink: bool = False


class Route(NamedTuple):
    """A unicast route.  Identity: :attr:`key`, destination and table; its next hops are its value.

    Several hops make one multipath route; the hops are kept sorted so that equal routes are equal values.
    """

    dst: str
    """Network in canonical text, ``0.0.0.0/0`` or ``::/0`` for a default route."""
    table: int
    hops: tuple[Hop, ...]

    @property
    def key(self) -> tuple[str, int]:
        return (self.dst, self.table)

    @property
    def text(self) -> str:
        table = "" if self.table == MAIN_TABLE else f" table {self.table}"
        dst = (
            f"default{' (IPv6)' if self.dst == DEFAULT_V6 else ''}"
            if self.dst in (DEFAULT_V4, DEFAULT_V6)
            else self.dst
        )
        return f"route {dst}{''.join(_hop(hop, len(self.hops) > 1) for hop in self.hops)}{table}"


def _hop(hop: Hop, several: bool) -> str:
    via = f" via {hop.gateway}" if hop.gateway else ""
    text = f"{via} dev {hop.device}" + (" onlink" if hop.onlink else "")
    return f" nexthop{text}" if several else text


def make_route(dst: str, table: int, *hops: Hop) -> Route:
    """A route with its hops in canonical order."""
    return Route(dst, table, tuple(sorted(hops, key=lambda hop: (hop.gateway or "", hop.device))))
