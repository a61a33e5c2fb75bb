"""Router documents as Neutron's ``sync_routers`` shapes them, from few words.

A :class:`Cloud` knows networks and VMs; a :class:`RouterDocument` is edited (a floating IP moved, a network added) and
turned into an envelope again and again, with the same ids each time.  Nothing of the code under test is used here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
NEEDS_BINDING = "FLOATING_IP_HOST_NEEDS_BINDING"


def uid(*words: str) -> str:
    """The same UUID for the same words, always."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(words)))


def mac(*words: str) -> str:
    """The same MAC for the same words, in Neutron's default range."""
    digest = hashlib.sha256("/".join(words).encode()).hexdigest()
    return f"fa:16:3e:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


@dataclass(frozen=True)
class Network:
    """A network with one subnet per CIDR; the first address of each is the gateway.

    :ivar scope: name of the IPv4 address scope of its subnets, "" for none
    :ivar agent_gateway: addresses of this host's agent gateway port, for external networks
    """

    name: str
    cidrs: tuple[str, ...]
    mtu: int = 1450
    scope: str = ""
    agent_gateway: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return uid("network", self.name)

    @property
    def bridge(self) -> str:
        """Where the bridge driver connects its ports, unless told otherwise."""
        return f"brq{self.id[:11]}"

    def subnet_id(self, cidr: str) -> str:
        return uid("subnet", self.name, cidr)

    def gateway(self, cidr: str) -> str:
        return str(ipaddress.ip_network(cidr)[1])

    def cidr_of(self, address: str) -> str:
        return next(cidr for cidr in self.cidrs if ipaddress.ip_address(address) in ipaddress.ip_network(cidr))

    def interface(self, address: str) -> str:
        """``10.1.0.5`` → ``10.1.0.5/24``."""
        return f"{address}/{ipaddress.ip_network(self.cidr_of(address)).prefixlen}"


@dataclass(frozen=True)
class Vm:
    """A VM with one port; ``host`` is where it runs, ``behind`` are networks it routes to."""

    name: str
    network: Network
    addresses: tuple[str, ...]
    host: str = ""
    behind: tuple[str, ...] = ()

    @property
    def mac(self) -> str:
        return mac("vm", self.name)

    @property
    def address(self) -> str:
        return self.addresses[0]

    def port(self) -> Json:
        """The port as ``get_ports_by_subnet`` lists it."""
        return {
            "id": uid("port", self.name),
            "mac_address": self.mac,
            "network_id": self.network.id,
            "device_owner": "compute:nova",
            "status": "ACTIVE",
            "allowed_address_pairs": [],
            "fixed_ips": [
                {"ip_address": one, "subnet_id": self.network.subnet_id(self.network.cidr_of(one))}
                for one in self.addresses
            ],
        }


@dataclass
class Cloud:
    """What there is besides routers."""

    host: str = "node1"
    vms: dict[str, Vm] = field(default_factory=dict)

    def vm(
        self, name: str, network: Network, *addresses: str, host: str | None = None, behind: tuple[str, ...] = ()
    ) -> Vm:
        """A VM on this host (or the named one; ``""``: bound nowhere)."""
        self.vms[name] = Vm(name, network, addresses, self.host if host is None else host, behind)
        return self.vms[name]

    def router(self, name: str, *networks: Network) -> RouterDocument:
        return RouterDocument(self, name, list(networks))


@dataclass
class RouterDocument:
    """One router, to be edited at will."""

    cloud: Cloud
    name: str
    networks: list[Network]
    external: Network | None = None
    gateway_addresses: tuple[str, ...] = ()
    snat: bool = True
    floating: dict[str, tuple[Vm, str, bool]] = field(default_factory=dict)
    """Floating address → (VM, fixed address, centralized)."""
    routes: list[tuple[str, str]] = field(default_factory=list)
    legacy: bool = False
    """Not distributed."""

    @property
    def id(self) -> str:
        return uid("router", self.name)

    @property
    def qrouter(self) -> str:
        return f"qrouter-{self.id}"

    @property
    def snat_namespace(self) -> str:
        return f"snat-{self.id}"

    def gateway(self, external: Network, *addresses: str, snat: bool = True) -> RouterDocument:
        self.external, self.gateway_addresses, self.snat = external, addresses, snat
        return self

    def floating_ip(self, address: str, vm: Vm, fixed: str = "", central: bool = False) -> RouterDocument:
        """Associate (or move) a floating IP; ``central``: ``dvr_snat_bound``."""
        self.floating[address] = (vm, fixed or vm.address, central)
        return self

    def no_floating_ip(self, address: str) -> RouterDocument:
        del self.floating[address]
        return self

    def route(self, destination: str, *nexthops: str) -> RouterDocument:
        self.routes += [(destination, nexthop) for nexthop in nexthops]
        return self

    def envelope(self) -> Json:
        """The document, with the ports that the server would list."""
        csnat = [self._port("csnat", net, cidr, 250) for net in self.networks for cidr in net.cidrs]
        interfaces = [self._port("interface", net, cidr, 1) for net in self.networks for cidr in net.cidrs]
        ports: dict[str, list[Json]] = {}
        listed = (
            [vm.port() for vm in self.cloud.vms.values()]
            + interfaces
            + (csnat if self.external and not self.legacy else [])
        )
        for net in self.networks:
            for subnet_id in map(net.subnet_id, net.cidrs):
                ports[subnet_id] = [
                    port for port in listed if subnet_id in [fixed["subnet_id"] for fixed in port["fixed_ips"]]
                ]
        router: Json = {
            "id": self.id,
            "name": self.name,
            "admin_state_up": True,
            "distributed": not self.legacy,
            "ha": False,
            "enable_snat": self.snat,
            "gw_port": None,
            "gw_port_host": None,
            "external_gateway_info": None,
            "routes": [{"destination": destination, "nexthop": nexthop} for destination, nexthop in self.routes],
            "_interfaces": interfaces,
        }
        if self.external:
            router |= self._external_part(self.external, csnat)
        return {"router": router, "ports_by_subnet": ports}

    def raw(self) -> bytes:
        return json.dumps(self.envelope()).encode()

    def _external_part(self, external: Network, csnat: list[Json]) -> Json:
        gateway = port(external, "network:router_gateway", self.gateway_addresses, "gateway", self.name)
        agent = port(external, "network:floatingip_agent_gateway", external.agent_gateway, "fg", self.cloud.host)
        for one in (gateway, agent, *csnat):
            one["binding:host_id"] = self.cloud.host
        distributed: Json = {
            "_snat_router_interfaces": csnat,
            "_floatingip_agent_interfaces": [agent] if external.agent_gateway else [],
        }
        return {
            "gw_port": gateway,
            "gw_port_id": gateway["id"],
            "gw_port_host": self.cloud.host,
            "external_gateway_info": {"network_id": external.id, "enable_snat": self.snat},
            "_floatingips": [self._fip(external, address) for address in self.floating],
        } | ({} if self.legacy else distributed)

    def _fip(self, external: Network, address: str) -> Json:
        vm, fixed, central = self.floating[address]
        fip: Json = {
            "id": uid("fip", address),
            "floating_ip_address": address,
            "floating_network_id": external.id,
            "fixed_ip_address": fixed,
            "fixed_ip_address_scope": scope_id(vm.network.scope),
            "router_id": self.id,
            "port_id": vm.port()["id"],
            "port_details": {"mac_address": vm.mac, "network_id": vm.network.id, "device_owner": "compute:nova"},
        }
        if self.legacy:
            return fip
        fip |= {"host": NEEDS_BINDING if central else vm.host, "dest_host": None}
        return fip | {"dvr_snat_bound": True} if central else fip

    def _port(self, kind: str, network: Network, cidr: str, number: int) -> Json:
        owner = "network:router_interface_distributed" if kind == "interface" else "network:router_centralized_snat"
        address = str(ipaddress.ip_network(cidr)[number])
        return port(network, owner, (address,), kind, self.name, cidr)


def port(network: Network, owner: str, addresses: tuple[str, ...], *words: str) -> Json:
    """A port of a router, as ``sync_routers`` describes it."""
    cidrs = list(dict.fromkeys(network.cidr_of(one) for one in addresses))
    return {
        "id": uid("port", *words, network.name),
        "network_id": network.id,
        "mac_address": mac("port", *words, network.name),
        "mtu": network.mtu,
        "device_owner": owner,
        "admin_state_up": True,
        "allowed_address_pairs": [],
        "binding:host_id": "",
        "address_scopes": {"4": scope_id(network.scope), "6": None},
        "extra_subnets": [],
        "fixed_ips": [
            {
                "ip_address": one,
                "prefixlen": ipaddress.ip_network(network.cidr_of(one)).prefixlen,
                "subnet_id": network.subnet_id(network.cidr_of(one)),
            }
            for one in addresses
        ],
        "subnets": [
            {"id": network.subnet_id(cidr), "cidr": cidr, "gateway_ip": network.gateway(cidr)} for cidr in cidrs
        ],
    }


def scope_id(name: str) -> str | None:
    return uid("scope", name) if name else None
