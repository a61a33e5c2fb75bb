"""The demo's router document: two tenant networks, a gateway, floating IPs.  ``etc/examples`` holds the same.

It has the form of Neutron's ``sync_routers``, without the keys that this agent does not read.
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_DNS, uuid5

HOST = "demo"
EXTERNAL_BRIDGE = "br-ext"
INTERNET_ADDRESS = "198.51.100.10"
EXTERNAL_GATEWAY = "203.0.113.1"
SNAT_ADDRESS = "203.0.113.20"
BLUE, GREEN = "10.10.1", "10.10.2"
FIP_ONE, FIP_TWO = "203.0.113.101", "203.0.113.102"

Json = dict[str, Any]

VMS: dict[str, tuple[str, str]] = {
    "vm1": ("blue", f"{BLUE}.11"),
    "vm2": ("blue", f"{BLUE}.12"),
    "vm3": ("green", f"{GREEN}.11"),
}
"""Name → (network, address)."""


def object_id(name: str) -> str:
    """Derive a UUID from a name."""
    return str(uuid5(NAMESPACE_DNS, f"{name}.demo.dvr-agent.example"))


def mac(name: str) -> str:
    """Derive a MAC address from a name, with the prefix of Neutron's defaults."""
    digest = uuid5(NAMESPACE_DNS, f"mac-{name}").bytes
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def network_bridge(network: str) -> str:
    """The Linux bridge of a tenant network."""
    return f"brq{object_id(f'network-{network}')[:11]}"


def document(fip_one: str = "vm1", routes: list[Json] | None = None) -> Json:
    """The router with its neighbours, as an envelope.

    :param fip_one: the VM that has the first floating IP
    :param routes: extra routes
    """
    router = {
        "id": object_id("router"),
        "name": "demo",
        "distributed": True,
        "ha": False,
        "enable_snat": True,
        "gw_port_host": HOST,
        "gw_port": _port("gateway", "external", SNAT_ADDRESS, "network:router_gateway", 1500),
        "_interfaces": [
            _port(f"router-{net}", net, f"{stem}.1", "network:router_interface_distributed")
            for net, stem in (("blue", BLUE), ("green", GREEN))
        ],
        "_snat_router_interfaces": [
            _port(f"csnat-{net}", net, f"{stem}.2", "network:router_centralized_snat")
            for net, stem in (("blue", BLUE), ("green", GREEN))
        ],
        "_floatingip_agent_interfaces": [
            _port("agent-gateway", "external", "203.0.113.30", "network:floatingip_agent_gateway", 1500)
        ],
        "_floatingips": [_floating_ip(FIP_ONE, fip_one), _floating_ip(FIP_TWO, "vm3")],
        "routes": routes or [],
    }
    return {
        "router": router,
        "ports_by_subnet": {object_id(f"subnet-{net}"): _vm_ports(net) for net in ("blue", "green")},
    }


def _cidr(network: str) -> tuple[str, str]:
    """(subnet, gateway address) of a network."""
    if network == "external":
        return "203.0.113.0/24", EXTERNAL_GATEWAY
    stem = BLUE if network == "blue" else GREEN
    return f"{stem}.0/24", f"{stem}.1"


def _port(name: str, network: str, address: str, owner: str, mtu: int = 1450) -> Json:
    cidr, gateway = _cidr(network)
    subnet = object_id(f"subnet-{network}")
    return {
        "id": object_id(f"port-{name}"),
        "network_id": object_id(f"network-{network}"),
        "device_owner": owner,
        "mac_address": mac(name),
        "mtu": mtu,
        "admin_state_up": True,
        "binding:host_id": HOST if owner.endswith("agent_gateway") else "",
        "fixed_ips": [{"ip_address": address, "prefixlen": 24, "subnet_id": subnet}],
        "subnets": [{"id": subnet, "cidr": cidr, "gateway_ip": gateway}],
        "extra_subnets": [],
        "address_scopes": {"4": None, "6": None},
    }


def _floating_ip(address: str, vm: str) -> Json:
    return {
        "id": object_id(f"fip-{address}"),
        "floating_ip_address": address,
        "floating_network_id": object_id("network-external"),
        "fixed_ip_address": VMS[vm][1],
        "fixed_ip_address_scope": None,
        "port_id": object_id(f"port-{vm}"),
        "host": HOST,
    }


def _vm_ports(network: str) -> list[Json]:
    subnet = object_id(f"subnet-{network}")
    return [
        {
            "id": object_id(f"port-{name}"),
            "mac_address": mac(name),
            "device_owner": "compute:nova",
            "fixed_ips": [{"ip_address": address, "subnet_id": subnet}],
            "allowed_address_pairs": [],
        }
        for name, (net, address) in VMS.items()
        if net == network
    ]
