"""The values of a router document: a router as Neutron describes it, in types that cannot hold a bad value.

Names are those of Neutron.  UUIDs are lower-case canonical text, MAC addresses lower-case with colons, addresses and
networks :mod:`ipaddress` values.  ``parse`` makes these from JSON; ``desired`` turns them into namespace states.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from dvr_agent.model.features import NO_FEATURES, Features
from dvr_agent.model.ip import IpAddress as IpAddress
from dvr_agent.model.ip import IpNetwork as IpNetwork
from dvr_agent.model.ip import network_of

NEEDS_BINDING_HOST = "FLOATING_IP_HOST_NEEDS_BINDING"
"""Host of a floating IP whose port is bound nowhere (neutron_lib.constants.FLOATING_IP_HOST_NEEDS_BINDING)."""

IPV6_MIN_MTU = 1280
"""A device with a smaller MTU has no IPv6 at all: no addresses, routes or parameters (RFC 8200, IPV6_MIN_MTU)."""


@dataclass(frozen=True, slots=True)
class FixedIp:
    """An address of a port; ``prefixlen`` is the host length where the document has none (a second gateway IP)."""

    address: IpAddress
    prefixlen: int
    subnet_id: str

    @property
    def cidr(self) -> str:
        """Address and prefix length."""
        return f"{self.address}/{self.prefixlen}"

    @property
    def network(self) -> IpNetwork:
        """The network of address and prefix length."""
        return network_of(self.address, self.prefixlen)


class RaMode(Enum):
    """``ipv6_ra_mode``: address configuration in the router advertisements of an IPv6 subnet."""

    SLAAC = "slaac"
    STATELESS = "dhcpv6-stateless"
    STATEFUL = "dhcpv6-stateful"


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet of a port's network.

    :ivar ra_mode: None: no router advertisements; always None for IPv4
    :ivar nameservers: ``dns_nameservers`` of an IPv6 subnet that are IPv6 addresses, in their order
    """

    id: str
    cidr: IpNetwork
    gateway_ip: IpAddress | None
    ra_mode: RaMode | None = None
    nameservers: tuple[IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class RouterPort:
    """A port of the router: interface, gateway, csnat or agent gateway port.

    :ivar subnets: subnets of the fixed IPs
    :ivar extra_subnets: other subnets of the same network (on-link)
    :ivar extra_gateways: gateway addresses of those
    :ivar scope4: id of the IPv4 address scope, None for none; likewise scope6
    :ivar host: ``binding:host_id``, may be empty
    """

    id: str
    network_id: str
    mac: str
    mtu: int
    fixed_ips: tuple[FixedIp, ...]
    subnets: tuple[Subnet, ...]
    extra_subnets: tuple[IpNetwork, ...] = ()
    extra_gateways: tuple[IpAddress, ...] = ()
    scope4: str | None = None
    scope6: str | None = None
    host: str = ""
    admin_state_up: bool = True


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """A floating IP that is associated with a port.

    :ivar host: host of the port, or :data:`NEEDS_BINDING_HOST`
    :ivar dest_host: target host of a live migration of the port, None if there is none
    :ivar snat_bound: ``dvr_snat_bound``: built centrally, in the snat namespace
    :ivar fixed_scope: id of the fixed address's IPv4 address scope
    :ivar qos_policy_id: its own QoS policy, not that of the external network
    :ivar port_id: the port that has the fixed address, None if the document does not name it; nothing is built by it
    """

    id: str
    address: IPv4Address
    fixed_address: IPv4Address
    network_id: str
    host: str | None = None
    dest_host: str | None = None
    snat_bound: bool = False
    fixed_scope: str | None = None
    qos_policy_id: str | None = None
    port_id: str | None = None

    @property
    def is_central(self) -> bool:
        """True if the host of the snat namespace builds it, whatever host its port is on."""
        return self.snat_bound or self.host == NEEDS_BINDING_HOST


@dataclass(frozen=True, slots=True)
class Omission:
    """An object of a document that cannot be built, while the rest of the router is built.

    :ivar path: JSON path of the wrong value
    :ivar value: the value, cut to 80 characters
    :ivar expected: description of a right value
    :ivar feature: L3 agent extension that the object belongs to; empty: it is the router's own
    """

    path: str
    value: str
    expected: str
    feature: str = ""

    @property
    def text(self) -> str:
        """The reason in one line."""
        feature = f"{self.feature}: " if self.feature else ""
        return f"{feature}{self.path} is {self.value}: expected {self.expected}"


@dataclass(frozen=True, slots=True)
class ExtraRoute:
    """One entry of the router's ``routes``."""

    destination: IpNetwork
    nexthop: IpAddress


@dataclass(frozen=True, slots=True)
class SubnetPort:
    """A port in one of the router's subnets, as ``get_ports_by_subnet`` lists it: it gives permanent neighbours.

    :ivar addresses: (subnet id, address) of each fixed IP in the subnet whose list it is in
    :ivar pairs: allowed address pairs, (MAC, network); only those that are one address give neighbours
    :ivar is_up: administratively up, with status ACTIVE; the default where the document has neither
    """

    id: str
    mac: str
    device_owner: str
    addresses: tuple[tuple[str, IpAddress], ...]
    pairs: tuple[tuple[str, IpNetwork], ...] = ()
    is_up: bool = True


@dataclass(frozen=True, slots=True)
class HaInterface:
    """The port by which the hosts of an HA router speak VRRP, with what they have to agree on.

    :ivar is_active: the L2 agent has wired the port
    :ivar vr_id: virtual router id (``ha_vr_id``), unique in the HA network
    :ivar state: ``_ha_state``: ``active``, ``standby`` or ``unknown``, as the server knows this host
    """

    port: RouterPort
    is_active: bool
    vr_id: int
    priority: int = 50
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """One router document.

    :ivar gateway: the gateway port (``gw_port``), None without an external gateway
    :ivar gateway_host: host of the snat namespace (``gw_port_host``)
    :ivar interfaces: router interface ports (``_interfaces``)
    :ivar snat_interfaces: csnat ports (``_snat_router_interfaces``)
    :ivar agent_gateways: agent gateway ports listed for this host (``_floatingip_agent_interfaces``)
    :ivar ports_by_subnet: (subnet id, its ports), sorted by subnet id
    :ivar omitted: objects of the document that cannot be built; a router with any of them is degraded
    :ivar omitted_floating_ips: the floating IPs among them
    :ivar skipped: ports of the router's subnets that give no neighbour; the router is not degraded by that
    :ivar features: objects that L3 agent extensions act on
    :ivar ha_interface: None where this host takes no part in the router's VRRP
    """

    id: str
    name: str = ""
    distributed: bool = True
    ha: bool = False
    admin_state_up: bool = True
    gateway: RouterPort | None = None
    gateway_host: str | None = None
    enable_snat: bool = True
    interfaces: tuple[RouterPort, ...] = ()
    snat_interfaces: tuple[RouterPort, ...] = ()
    agent_gateways: tuple[RouterPort, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()
    routes: tuple[ExtraRoute, ...] = ()
    ports_by_subnet: tuple[tuple[str, tuple[SubnetPort, ...]], ...] = ()
    omitted: tuple[Omission, ...] = ()
    omitted_floating_ips: tuple[FloatingIp, ...] = ()
    skipped: tuple[Omission, ...] = ()
    features: Features = NO_FEATURES
    ha_interface: HaInterface | None = None

    @property
    def networks(self) -> set[str]:
        """Ids of all networks in which it has a port, or may have one on this host."""
        ports = [*self.interfaces, *self.snat_interfaces, *self.agent_gateways]
        ports += [self.ha_interface.port] if self.ha_interface else []
        return {port.network_id for port in (*ports, *((self.gateway,) if self.gateway else ()))}
