"""Routes.  Only routes of protocol static and boot can be ours; the kernel's own routes are not part of the state."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from dvr_agent.state.kind import Kind
from dvr_agent.state.routing_tables import table_name

MAIN_TABLE = 254
"""RT_TABLE_MAIN (include/uapi/linux/rtnetlink.h)."""
DEFAULT_V4 = "0.0.0.0/0"
DEFAULT_V6 = "::/0"


class Hop(NamedTuple):
    """One next hop: a gateway (None: on-link) by a device; ``onlink``: the gateway need not be in a subnet."""

    gateway: str | None
    device: str
    onlink: bool = False


class Route(NamedTuple):
    """A unicast route.  Identity: :attr:`key`, which is destination and table; the next hops are its value.

    Several hops make one multipath route; hops are sorted, so that equal routes are equal values.
    """

    dst: str
    """Network in canonical text, ``0.0.0.0/0`` or ``::/0`` for a default route."""
    table: int
    hops: tuple[Hop, ...]

    @property
    def key(self) -> tuple[str, int]:
        """Identity: destination and table."""
        return (self.dst, self.table)

    @property
    def text(self) -> str:
        """The route in iproute2's terms."""
        table = "" if self.table == MAIN_TABLE else f" table {table_name(self.table)}"
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
    """Make a route with its hops in canonical order."""
    if len(hops) > 1:
        hops = tuple(sorted(hops, key=lambda hop: (hop.gateway or "", hop.device)))
    return Route(dst, table, hops)


def _build_rank(route: Route) -> int:
    """Return 50 for on-link routes, which come first, since a gateway may be reachable only by them; else 51."""
    return 50 if route.hops[0].gateway is None else 51


def on_link_first(routes: Iterable[Route]) -> list[Route]:
    """Return routes in an order in which they can be added one by one."""
    return sorted(routes, key=lambda route: (_build_rank(route), route.dst))


ROUTE_KIND = Kind(
    Route,
    name="route",
    field="routes",
    build_rank=_build_rank,
    remove_rank=lambda route: 10 if route.hops[0].gateway is None else 11,
    owned=lambda ownership, route: ownership.owns_route(route.table, tuple([hop.device for hop in route.hops])),
    devices=lambda route: tuple([hop.device for hop in route.hops]),
    key=attrgetter("dst", "table"),
    table=attrgetter("table"),
)
