"""What a service that speaks VRRP has to know of one router, and the interface of such a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dvr_agent.services.api import Service
from dvr_agent.state.virtual_router import VirtualRouterState


@dataclass(frozen=True, slots=True)
class VrrpPlace:
    """The virtual router of a router on this host.

    :ivar namespace: in which its addresses are; empty: there is none of it on this host
    :ivar state: None: this host takes no part in it, or it is no HA router
    :ivar is_master: this host is the master, by what the namespace had when it was read
    """

    router_id: str
    namespace: str
    state: VirtualRouterState | None = None
    is_master: bool = False


class VrrpService(Service, Protocol):
    """A service of all HA routers of this host: it speaks VRRP (there is one such), or follows it."""

    def plan(self, place: VrrpPlace) -> list[str]:
        """Return the changes that :meth:`apply` would make, as lines; empty if there are none.  Writes nothing."""

    def apply(self, place: VrrpPlace) -> None:
        """Speak VRRP for the router, whose namespaces are in sync.

        :raises ServiceError: it is not spoken; the call may be repeated
        """

    def leave(self, place: VrrpPlace) -> bool:
        """End VRRP of a router that is none of VRRP's any more, before its namespaces change.

        Addresses stay if their namespace does; else another host may take over at once.

        :returns: True if there was something to end
        :raises ServiceError: a process does not end; the call may be repeated
        """
