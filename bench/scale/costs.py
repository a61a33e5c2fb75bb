"""Unit costs of the model; docs/scale.md says where each comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor seconds of the server per call, and of an agent per router.

    :ivar sync_call: of ``sync_routers``, whatever the number of routers
    :ivar sync_router: of ``sync_routers``, for each router
    :ivar list_router: of ``get_router_ids``, for each router of the host
    :ivar ports: of ``get_ports_by_subnet``
    :ivar statuses: of ``update_floatingip_statuses``
    :ivar other: of any other call, also of those at the start of an agent
    :ivar build: of our agent for a router on an empty host
    :ivar reference_build: of neutron-l3-agent and its processes for the same
    """

    sync_call: float = 0.2
    sync_router: float = 0.05
    list_router: float = 0.02
    ports: float = 0.02
    statuses: float = 0.07
    other: float = 0.01
    build: float = 0.04
    reference_build: float = 4.03

    def listing(self, routers: int) -> float:
        """Return the seconds of ``get_router_ids``."""
        return self.other + self.list_router * routers

    def describing(self, routers: int) -> float:
        """Return the seconds of ``sync_routers``."""
        return self.sync_call + self.sync_router * routers


@dataclass(frozen=True, slots=True)
class Site:
    """A cloud, and what happens to it.

    :ivar boot: seconds within which all hosts start, evenly spread
    :ivar subnets: of each router
    :ivar cores: processors of a host
    :ivar cached: the hosts have documents of before
    :ivar timeout: ``rpc_response_timeout``
    :ivar max_timeout: ``rpc_response_max_timeout``
    """

    hosts: int
    routers: int
    workers: int
    boot: float = 60.0
    subnets: int = 1
    cores: int = 16
    cached: bool = True
    timeout: float = 60.0
    max_timeout: float = 600.0
