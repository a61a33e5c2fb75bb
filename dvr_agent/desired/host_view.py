"""Decide which parts of a router are built on this host (:class:`HostView`).

The conditions of ``docs/dataplane.md`` ("Namespaces") are here and nowhere else; the modules of the namespaces only
compute objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import compress
from operator import attrgetter
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.lazy import lazy
from dvr_agent.desired.scope_marks import scope_marks
from dvr_agent.errors import NotSupportedError
from dvr_agent.extensions import Extension
from dvr_agent.model.features import ForwardingIp
from dvr_agent.model.router import FixedIp, FloatingIp, HaInterface, Router, RouterPort, Subnet
from dvr_agent.state.filter import Family, FilterRule
from dvr_agent.state.itemwise import itemwise

AddressPair = tuple[str, str]
"""Address and fixed address of a floating IP."""


class MissingHelper(NamedTuple):
    """A connection tracking helper that this kernel does not have for a family and a protocol."""

    family: Family
    name: str
    protocol: str


@dataclass(frozen=True, slots=True)
class CentralNamespace:
    """The namespace of a router's gateway port: there are SNAT and the floating IPs that this host has for all others.

    :ivar name: ``snat-<router id>`` of a distributed router, ``qrouter-<router id>`` of a legacy one
    :ivar prefix: of the names of its internal devices
    :ivar ports: its internal ports that are administratively up
    """

    name: str
    prefix: str
    ports: tuple[RouterPort, ...]

    @property
    def inside(self) -> list[tuple[str, RouterPort]]:
        """Internal devices, with their ports."""
        return [(names.device(self.prefix, port.id), port) for port in self.ports]


@dataclass(frozen=True)
class HostView:
    """A router as this host builds it.

    :ivar agent_gateway: the agent gateway port in use for the router's external network, if this host has one
    :ivar known_marks: (address scope, mark) pairs that tracked connections carry here: these scopes keep their marks
    :ivar missing_helpers: of the router's conntrack helpers
    :ivar found_proxies: (namespace, address) of proxied neighbours in the kernel, where the router's are not known
    :ivar found_forwardings: rules in the kernel for port forwardings, where the router's are not known
    """

    router: Router
    settings: HostSettings
    agent_gateway: RouterPort | None
    known_marks: tuple[tuple[str, int], ...] = ()
    missing_helpers: frozenset[MissingHelper] = frozenset()
    found_proxies: tuple[tuple[str, str], ...] = ()
    found_forwardings: tuple[FilterRule, ...] = ()

    @lazy
    def qrouter(self) -> str:
        """Name of the router's namespace."""
        return names.QROUTER + self.router.id

    @lazy
    def snat(self) -> str:
        """Name of the router's SNAT namespace."""
        return names.SNAT + self.router.id

    @lazy
    def fip(self) -> str | None:
        """Name of the fip namespace that the router has a pair to, None without one."""
        return names.FIP + self.agent_gateway.network_id if self.agent_gateway else None

    @lazy
    def rfp(self) -> str:
        """Name of the router's end of the pair to the fip namespace."""
        return names.device(names.ROUTER_TO_FIP, self.router.id)

    @lazy
    def fpr(self) -> str:
        """Name of the fip namespace's end of the pair to the router."""
        return names.device(names.FIP_TO_ROUTER, self.router.id)

    @lazy
    def interfaces(self) -> tuple[RouterPort, ...]:
        """Router interface ports that are administratively up."""
        return tuple(port for port in self.router.interfaces if port.admin_state_up)

    @lazy
    def ha_interface(self) -> HaInterface | None:
        """The port by which this host speaks VRRP for the router, None if it does not."""
        return self.router.ha_interface if self.settings.mode is AgentMode.DVR_SNAT and self.router.ha else None

    @lazy
    def snat_here(self) -> bool:
        """True if the snat namespace of this router belongs on this host; a legacy router has none.

        An HA router has it on each host that takes part in its VRRP, also without a gateway.
        """
        router, settings = self.router, self.settings
        if not router.distributed or settings.mode is not AgentMode.DVR_SNAT:
            return False
        if router.ha:
            return self.ha_interface is not None
        return router.gateway is not None and router.gateway_host == settings.host

    @lazy
    def central(self) -> CentralNamespace | None:
        """The namespace of the gateway port, None if another host has it.

        A legacy router has it without a gateway, too.
        """
        if not self.router.distributed:
            return CentralNamespace(self.qrouter, names.INTERNAL, self.interfaces)
        if not self.snat_here:
            return None
        ports = tuple(port for port in self.router.snat_interfaces if port.admin_state_up)
        return CentralNamespace(self.snat, names.CSNAT, ports)

    @lazy
    def gateway_here(self) -> RouterPort | None:
        """The gateway port, None if its device is not on this host."""
        return self.router.gateway if self.central is not None else None

    @lazy
    def local_fips(self) -> tuple[FloatingIp, ...]:
        """Floating IPs bound here: their port is on this host or migrates to it."""
        if self.agent_gateway is None:
            return ()
        return self.bound_fips

    @lazy
    def bound_fips(self) -> tuple[FloatingIp, ...]:
        """Floating IPs that belong on this host, whether the router has a pair to the fip namespace or not."""
        router, fips = self.router, self.router.floating_ips
        return tuple(compress(fips, _are_bound.each(router.id, fips, self.settings.host, router.distributed)))

    @lazy
    def local_addresses(self) -> tuple[str, ...]:
        """Addresses of the floating IPs that are bound here."""
        return tuple([address for address, _fixed in self.local_pairs])

    @lazy
    def local_pairs(self) -> tuple[AddressPair, ...]:
        """Addresses and fixed addresses of the floating IPs that are bound here."""
        return _address_pairs.each(self.router.id, self.local_fips)

    @lazy
    def central_pairs(self) -> tuple[AddressPair, ...]:
        """Addresses and fixed addresses of :attr:`central_fips`."""
        return _address_pairs.each(self.router.id, self.central_fips)

    def bound_here(self, fip: FloatingIp) -> bool:
        """True if the floating IP belongs on this host, whether the router has a pair to the fip namespace or not."""
        return _is_bound(fip, self.settings.host, self.router.distributed)

    def is_central(self, fip: FloatingIp) -> bool:
        """True if the host of the gateway port builds the floating IP; all those of a legacy router are central."""
        return fip.is_central or not self.router.distributed

    @lazy
    def central_fips(self) -> tuple[FloatingIp, ...]:
        """Floating IPs of the central namespace."""
        fips = self.router.floating_ips if self.gateway_here is not None else ()
        return tuple([fip for fip in fips if fip.is_central]) if self.router.distributed else fips

    @lazy
    def forwarding_ips(self) -> tuple[ForwardingIp, ...]:
        """Floating IPs of port forwardings in the central namespace."""
        is_served = self.gateway_here is not None and Extension.PORT_FORWARDING in self.settings.extensions
        return self.router.features.forwarding_ips if is_served else ()

    @lazy
    def marks(self) -> dict[str | None, int]:
        """Mark of each address scope of the router."""
        router = self.router
        ports = (*router.interfaces, *((router.gateway,) if router.gateway else ()))
        scopes = {scope for port in ports for scope in (port.scope4, port.scope6)}
        return scope_marks(scopes.union(map(attrgetter("fixed_scope"), router.floating_ips)), dict(self.known_marks))

    def in_external_scope(self, port: RouterPort) -> bool:
        """True if the port's IPv4 traffic is routed by the fip namespace, without NAT."""
        gateway = self.router.gateway
        return (
            self.agent_gateway is not None
            and gateway is not None
            and port.scope4 is not None
            and port.scope4 == gateway.scope4
        )

    @lazy
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

    @lazy
    def csnat_by_subnet(self) -> dict[str, FixedIp]:
        """Subnet id → the csnat address in it."""
        return {fixed.subnet_id: fixed for port in self.router.snat_interfaces for fixed in port.fixed_ips}


def _is_bound(fip: FloatingIp, host: str, distributed: bool) -> bool:
    """Return True if a floating IP belongs on a host.

    :param distributed: its router is
    """
    return distributed and not fip.is_central and host in (fip.host, fip.dest_host)


@itemwise
def _are_bound(fips: Sequence[FloatingIp], host: str, distributed: bool) -> list[bool]:
    """Return :func:`_is_bound` of each floating IP."""
    return [_is_bound(fip, host, distributed) for fip in fips]


@itemwise
def _address_pairs(fips: Sequence[FloatingIp]) -> list[AddressPair]:
    """Return the addresses of each floating IP; all that is made of them item by item has the same texts."""
    return [(str(fip.address), str(fip.fixed_address)) for fip in fips]


def make_view(router: Router, settings: HostSettings, in_use: RouterPort | None = None) -> HostView:
    """Make the view of a router on this host.

    :param in_use: the agent gateway port that this host uses for the router's external network; all routers use the
        same one, also where a document lists several or still lists its predecessor.  None: the one with the lowest id
    :raises NotSupportedError: this agent does not build the router on this host
    """
    reason = left_alone_reason(router, settings)
    if reason:
        raise NotSupportedError(f"{reason}: left alone")
    candidates = agent_gateways(router, settings)
    return HostView(router, settings, (in_use or candidates[0]) if candidates else None)


def is_left_alone(router: Router, settings: HostSettings) -> bool:
    """Return True if this agent does not build the router on this host: see :func:`left_alone_reason`."""
    return bool(left_alone_reason(router, settings))


def left_alone_reason(router: Router, settings: HostSettings) -> str:
    """Return why this agent neither builds nor removes a router on this host; empty if it builds it.

    A legacy router is built as a whole on one host: neutron-server lists it for that host only; an HA one for all hosts
    that have a port in its HA network, and for others that have nothing to do with it.
    """
    if router.distributed:
        return ""
    if settings.mode is not AgentMode.DVR_SNAT:
        return f"not distributed: agent_mode is {settings.mode.value}, such routers are built on hosts with dvr_snat"
    if router.ha:
        return "" if router.ha_interface is not None else "HA: it has no HA port (_ha_interface) on this host"
    if router.gateway is not None and router.gateway_host not in (None, "", settings.host):
        return f"not distributed: its host is {router.gateway_host} (gw_port_host)"
    return ""


def agent_gateways(router: Router, settings: HostSettings) -> list[RouterPort]:
    """Return the agent gateway ports of this host on the router's external network, lowest id first."""
    if router.gateway is None or not router.distributed or settings.mode is AgentMode.DVR_NO_EXTERNAL:
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
