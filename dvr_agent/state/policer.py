"""Filters of traffic control by which neutron-l3-agent limits bandwidth: found at takeover, and removed, never made.

Likewise filters of ours, where limits are in nf_tables by now.
"""

from __future__ import annotations

from typing import NamedTuple

from dvr_agent.state.kind import Kind, only_device
from dvr_agent.state.limit import Direction


class Policer(NamedTuple):
    """A u32 filter for packets from or to one address.  Identity: all of it.

    :ivar handle: of the filter; 0: all filters of a ``clsact`` qdisc, which goes with them
    :ivar parent: handle of its qdisc, or number of its hook
    """

    handle: int
    parent: int
    device: str
    direction: Direction
    address: str

    @property
    def text(self) -> str:
        """The filter in tc's terms."""
        if not self.handle:
            return f"tc qdisc dev {self.device} clsact"
        side = "src" if self.direction == "leaving" else "dst"
        handle = f"{self.handle >> 20:x}:{self.handle >> 12 & 0xFF or ''}:{self.handle & 0xFFF:x}"
        minor = f"{self.parent & 0xFFFF:x}" if self.parent & 0xFFFF else ""
        parent = f"{self.parent >> 16:x}:{minor}"
        return f"tc filter dev {self.device} parent {parent} handle {handle} match ip {side} {self.address}"


POLICER_KIND = Kind(
    Policer,
    name="policer",
    field="policers",
    build_rank=26,
    remove_rank=26,  # late: our limits are in by then
    owned=lambda ownership, policer: ownership.limits(policer.device),
    devices=only_device,
)
