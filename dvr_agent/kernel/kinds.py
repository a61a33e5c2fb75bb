"""The registry of netlink handlers, one per kind of object; ``docs/adding-a-kind.md`` describes how a kind is added.

Used by ``observe``, ``apply`` and the fake kernel.  Three kinds have no handler: a link is made in several ways (veth
pair, end of a pair, attach driver) and read before all others, see ``link_changes.py`` and ``observe.py``; a sysctl is
a file, see ``sysctl.py``; limits are in nf_tables, see ``nftables/limits.py``, or in traffic control, see
``tc_limits.py``.
"""

from __future__ import annotations

from dvr_agent.kernel.netlink import address, kernel_route, neighbour, policer, proxy_neighbour, route, rule
from dvr_agent.kernel.netlink.handler import AnyHandler
from dvr_agent.state.kind import AnyKind, KernelObject
from dvr_agent.state.limit import LIMIT_KIND
from dvr_agent.state.link import LINK_KIND
from dvr_agent.state.sysctl import SYSCTL_KIND

HANDLERS: tuple[AnyHandler, ...] = (
    address.HANDLER,
    route.HANDLER,
    rule.HANDLER,
    neighbour.HANDLER,
    proxy_neighbour.HANDLER,
    policer.HANDLER,
)
"""All handlers, in the order in which kinds are read."""

HANDLER_OF: dict[type[KernelObject], AnyHandler] = {
    handler.kind.type: handler for handler in (*HANDLERS, kernel_route.HANDLER)
}
"""Class of a value → its handler; routes that the kernel makes are written like other kinds, but not read."""

SPECIAL: tuple[AnyKind, ...] = (LINK_KIND, SYSCTL_KIND, LIMIT_KIND)
"""Kinds without handler; ``tests/unit/test_kinds.py`` checks that each kind is here or in :data:`HANDLERS`."""
