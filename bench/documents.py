"""Router documents as Neutron's ``sync_routers`` shapes them: as many as asked for, all alike.

Each router has a network of its own (and so a bridge) with one IPv4 subnet, a gateway on the one external network,
two floating IPs and four other ports on its network, which become permanent neighbours; or as many as asked for.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from ipaddress import IPv4Address, IPv4Network
from typing import Any

Json = dict[str, Any]

HOST = "bench"
OTHER_HOST = "network-node"
EXTERNAL_BRIDGE = "br-ext"
EXTERNAL = IPv4Network("172.24.0.0/16")
INTERNAL_MTU, EXTERNAL_MTU = 1450, 1500
FIPS, PORTS = 2, 4
MAX_ROUTERS = 4096
NARROW = 200
"""Other ports that fit into a subnet of 24 bits; with more of them a router's subnet has 16."""


def object_id(*words: object) -> str:
    """The same UUID for the same words, always."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, words))))


EXTERNAL_NETWORK = object_id("network", "external")


def router_id(number: int) -> str:
    return object_id("router", number)


def document(number: int, gateway_host: str = OTHER_HOST, fips: int = FIPS, ports: int = PORTS) -> bytes:
    """One router as an envelope with the ports of its subnet.

    :param number: which one, from 0 up to :data:`MAX_ROUTERS`
    :param gateway_host: where its SNAT is
    :param fips: how many floating IPs, at most ``ports``
    :param ports: how many other ports on its network
    """
    cidr = _subnet(number, ports)
    interface = _internal_port(number, "interface", cidr, 1)
    csnat = _internal_port(number, "csnat", cidr, 2)
    gateway = _external_port(f"gateway/{number}", 256 + number)
    agent = _external_port("agent-gateway", 2)
    agent["binding:host_id"] = HOST
    members = [_member(number, index, cidr) for index in range(ports)]
    router = {
        "id": router_id(number),
        "name": f"bench-{number}",
        "admin_state_up": True,
        "distributed": True,
        "ha": False,
        "enable_snat": True,
        "gw_port": gateway,
        "gw_port_id": gateway["id"],
        "gw_port_host": gateway_host,
        "external_gateway_info": {"network_id": EXTERNAL_NETWORK, "enable_snat": True},
        "routes": [],
        "_interfaces": [interface],
        "_snat_router_interfaces": [csnat],
        "_floatingip_agent_interfaces": [agent],
        "_floatingips": [_floating_ip(members[index], number * ports + index, number) for index in range(fips)],
    }
    subnet = object_id("subnet", number)
    return json.dumps({"router": router, "ports_by_subnet": {subnet: [*members, interface, csnat]}}).encode()


def _subnet(number: int, ports: int) -> IPv4Network:
    bits = 8 if ports <= NARROW else 16
    return IPv4Network((IPv4Address("10.0.0.0") + (number << bits), 32 - bits))


def _mac(*words: object) -> str:
    """In the range that Neutron uses by default."""
    return f"fa:16:3e:{hashlib.sha256('/'.join(map(str, words)).encode()).digest()[:3].hex(':')}"


def _internal_port(number: int, kind: str, cidr: IPv4Network, address: int) -> Json:
    owner = "network:router_interface_distributed" if kind == "interface" else "network:router_centralized_snat"
    return _port(f"{kind}/{number}", owner, object_id("network", number), object_id("subnet", number), cidr,
                 address, INTERNAL_MTU)  # fmt: skip


def _external_port(name: str, address: int) -> Json:
    owner = "network:floatingip_agent_gateway" if name == "agent-gateway" else "network:router_gateway"
    return _port(name, owner, EXTERNAL_NETWORK, object_id("subnet", "external"), EXTERNAL, address, EXTERNAL_MTU)


def _port(name: str, owner: str, network: str, subnet: str, cidr: IPv4Network, address: int, mtu: int) -> Json:
    return {
        "id": object_id("port", name),
        "network_id": network,
        "mac_address": _mac("port", name),
        "mtu": mtu,
        "device_owner": owner,
        "admin_state_up": True,
        "allowed_address_pairs": [],
        "binding:host_id": "",
        "address_scopes": {"4": None, "6": None},
        "extra_subnets": [],
        "fixed_ips": [{"ip_address": str(cidr[address]), "prefixlen": cidr.prefixlen, "subnet_id": subnet}],
        "subnets": [{"id": subnet, "cidr": str(cidr), "gateway_ip": str(cidr[1])}],
    }


def _member(number: int, index: int, cidr: IPv4Network) -> Json:
    """A VM's port, as ``get_ports_by_subnet`` lists it."""
    return {
        "id": object_id("port", "vm", number, index),
        "mac_address": _mac("vm", number, index),
        "network_id": object_id("network", number),
        "device_owner": "compute:nova",
        "status": "ACTIVE",
        "allowed_address_pairs": [],
        "fixed_ips": [{"ip_address": str(cidr[10 + index]), "subnet_id": object_id("subnet", number)}],
    }


def _floating_ip(member: Json, place: int, number: int) -> Json:
    """
    :param place: among the addresses of the external network
    """
    address = EXTERNAL[256 + MAX_ROUTERS + place]
    return {
        "id": object_id("fip", address),
        "floating_ip_address": str(address),
        "floating_network_id": EXTERNAL_NETWORK,
        "fixed_ip_address": member["fixed_ips"][0]["ip_address"],
        "fixed_ip_address_scope": None,
        "router_id": router_id(number),
        "port_id": member["id"],
        "host": HOST,
        "dest_host": None,
        "port_details": {
            "mac_address": member["mac_address"],
            "network_id": member["network_id"],
            "device_owner": member["device_owner"],
        },
    }
