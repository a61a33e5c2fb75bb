"""A virtual router of VRRP: what the host that is its master has, and no other host of the router."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvr_agent.state.address import Address
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.route import Hop, Route


@dataclass(frozen=True, slots=True)
class VirtualRouterState:
    """What the master of a virtual router has.  A program that speaks VRRP adds and removes it: it *holds* it.

    :ivar interval: seconds between two advertisements
    :ivar device: speaks VRRP
    :ivar source: its own address
    :ivar primary: the primary virtual address, on that device: who has it is the master
    :ivar addresses: all others, in the order in which they are added
    :ivar password: of advertisements; empty: they have none
    :ivar may_start: the device is wired, so that VRRP may begin; a router that speaks it goes on anyway
    :ivar gateways: next hops that the master has to reach, else it yields; empty: that is not checked
    :ivar check_interval: seconds between two such checks
    """

    vr_id: int
    priority: int
    interval: int
    device: str
    source: str
    primary: Address
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    password: str = field(default="", repr=False)
    may_start: bool = True
    gateways: tuple[Hop, ...] = ()
    check_interval: int = 0

    def holds(self, item: KernelObject) -> bool:
        """Return True if an object is the master's: it is neither added, changed nor removed by anybody else."""
        if isinstance(item, Address):
            # A device has an IPv6 address once, whatever its prefix length.
            return item == self.primary or any(
                one == item or (":" in item.cidr and (one.device, one.ip) == (item.device, item.ip))
                for one in self.addresses
            )
        return isinstance(item, Route) and any(one.key == item.key for one in self.routes)
