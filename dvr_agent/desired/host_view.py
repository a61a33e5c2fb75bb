"""Decide which parts of a router are built on this host (:class:`HostView`).

The conditions of ``docs/dataplane.md`` ("Namespaces") are here and nowhere else; the modules of the namespaces only
compute objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.scope_marks import scope_marks
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.router import FixedIp, FloatingIp, HaInterface, Router, RouterPort, Subnet


@dataclass(frozen=True)
class HostView:
    """A router as this host builds it.

    :ivar agent_gateway: the agent gateway port in use for the router's external network, if this host has one
    :ivar known_marks: (address scope, mark) pairs that tracked connections carry here: these scopes keep their marks
    """

    router: Router
    settings: HostSettings
    agent_gateway: RouterPort | None
    known_marks: tuple[tuple[str, int], ...] = ()

    @cached_property
    def qrouter(self) -> str:
        """Name of the router's namespace."""
        return names.QROUTER + self.router.id

    @cached_property
    def snat(self) -> str:
        """Name of the router's SNAT namespace."""
        return names.SNAT + self.router.id

    @cached_property
    def fip(self) -> str | None:
        """Name of the fip namespace that the router has a pair to, None without one."""
        return names.FIP + self.agent_gateway.network_id if self.agent_gateway else None

    @cached_property
    def rfp(self) -> str:
        """Name of the router's end of the pair to the fip namespace."""
        return names.device(names.ROUTER_TO_FIP, self.router.id)

    @cached_property
    def fpr(self) -> str:
        """Name of the fip namespace's end of the pair to the router."""
        return names.device(names.FIP_TO_ROUTER, self.router.id)

    @cached_property
    def interfaces(self) -> tuple[RouterPort, ...]:
        """Router interface ports that are administratively up."""
        return tuple(port for port in self.router.interfaces if port.admin_state_up)

    @cached_property
    def ha_interface(self) -> HaInterface | None:
        """The port by which this host speaks VRRP for the router, None if it does not."""
        return self.router.ha_interface if self.settings.mode is AgentMode.DVR_SNAT and self.router.ha else None

    @cached_property
    def snat_here(self) -> bool:
        """True if the router's traffic leaves by the snat namespace of this host, or would if it became the master."""
        router, settings = self.router, self.settings
        if settings.mode is not AgentMode.DVR_SNAT or router.gateway is None:
            return False
        return self.ha_interface is not None if router.ha else router.gateway_host == settings.host

    @cached_property
    def local_fips(self) -> tuple[FloatingIp, ...]:
        """Floating IPs bound here: their port is on this host or migrates to it."""
        if self.agent_gateway is None:
            return ()
        return tuple(fip for fip in self.router.floating_ips if self.bound_here(fip))

    def bound_here(self, fip: FloatingIp) -> bool:
        """True if the floating IP belongs on this host, whether the router has a pair to the fip namespace or not."""
        return not fip.is_central and self.settings.host in (fip.host, fip.dest_host)

    @cached_property
    def central_fips(self) -> tuple[FloatingIp, ...]:
        """Floating IPs of the snat namespace."""
        return tuple(fip for fip in self.router.floating_ips if fip.is_central) if self.snat_here else ()

    @cached_property
    def marks(self) -> dict[str | None, int]:
        """Mark of each address scope of the router."""
        router = self.router
        ports = (*router.interfaces, *((router.gateway,) if router.gateway else ()))
        scopes = [scope for port in ports for scope in (port.scope4, port.scope6)]
        return scope_marks([*scopes, *(fip.fixed_scope for fip in router.floating_ips)], dict(self.known_marks))

    def in_external_scope(self, port: RouterPort) -> bool:
        """True if the port's IPv4 traffic is routed by the fip namespace, without NAT."""
        gateway = self.router.gateway
        return (
            self.agent_gateway is not None
            and gateway is not None
            and port.scope4 is not None
            and port.scope4 == gateway.scope4
        )

    @cached_property
    def same_scope_subnets(self) -> tuple[str, ...]:
        """Internal IPv4 subnets in the external network's address scope."""
        found = {
            str(subnet.cidr)
            for port in self.interfaces
            if self.in_external_scope(port)
            for _, subnet in port_subnets(port)
            if isinstance(subnet.cidr, IPv4Network)
        }
        return tuple(sorted(found))

    @cached_property
    def csnat_by_subnet(self) -> dict[str, FixedIp]:
        """Subnet id → the csnat address in it."""
        return {fixed.subnet_id: fixed for port in self.router.snat_interfaces for fixed in port.fixed_ips}


def make_view(router: Router, settings: HostSettings, in_use: RouterPort | None = None) -> HostView:
    """Make the view of a router on this host.

    :param in_use: the agent gateway port that this host uses for the router's external network; all routers use the
        same one, also where a document lists several or still lists its predecessor.  None: the one with the lowest id
    :raises NotSupportedError: the router is not distributed: this agent does not build it
    """
    if is_left_alone(router):
        raise NotSupportedError("not distributed: not supported here, left alone")
    candidates = agent_gateways(router, settings)
    return HostView(router, settings, (in_use or candidates[0]) if candidates else None)


def is_left_alone(router: Router) -> bool:
    """Return True if this agent does not build routers of this kind: not distributed."""
    return not router.distributed


def agent_gateways(router: Router, settings: HostSettings) -> list[RouterPort]:
    """Return the agent gateway ports of this host on the router's external network, lowest id first."""
    if router.gateway is None or settings.mode is AgentMode.DVR_NO_EXTERNAL:
        return []
    return sorted(
        (
            port
            for port in router.agent_gateways
            if port.network_id == router.gateway.network_id and port.host in ("", settings.host)
        ),
        key=lambda port: port.id,
    )


def port_subnets(port: RouterPort) -> list[tuple[FixedIp, Subnet]]:
    """Return each fixed IP with its subnet, as far as the document lists the subnet."""
    subnets = {subnet.id: subnet for subnet in port.subnets}
    return [(fixed, subnets[fixed.subnet_id]) for fixed in port.fixed_ips if fixed.subnet_id in subnets]
