"""Small routers in the model's terms, for tests that reconcile them on a real kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from dvr_agent.desired import names
from dvr_agent.model.router import FixedIp, FloatingIp, Router, RouterPort, Subnet, SubnetPort
from tests.support.packet_documents import mac, uid

HOST = "compute1"
EXTERNAL = uid("network", "external")


def port(name: str, network: str, *cidrs: str, mtu: int = 1450) -> RouterPort:
    """A port with these addresses; the first address of each subnet is its gateway."""
    fixed, subnets = [], []
    for cidr in cidrs:
        address, _, length = cidr.partition("/")
        net = ip_network(cidr, strict=False)
        subnet = Subnet(uid("subnet", network, str(net)), net, net[1])
        fixed.append(FixedIp(ip_address(address), int(length), subnet.id))
        subnets.append(subnet)
    return RouterPort(uid("port", name), network, mac(name), mtu, tuple(fixed), tuple(subnets))


def fip(address: str, fixed: str) -> FloatingIp:
    return FloatingIp(uid("fip", address), ip_address(address), ip_address(fixed), EXTERNAL, HOST)  # type: ignore[arg-type]


def make_router(name: str, number: int, mtu: int = 1450, ipv6: bool = True) -> Router:
    """A router with one network (IPv4 and, if wanted, IPv6), a neighbour in it, and a gateway."""
    network, prefix = uid("network", name), f"10.{number}.0"
    v6 = [f"2001:db8:{number}::{end}/64" for end in (1, 2)] if ipv6 else ["", ""]
    inside, csnat = (
        port(f"{name}-{what}", network, f"{prefix}.{end}/24", *filter(None, [v6[end - 1]]), mtu=mtu)
        for what, end in (("qr", 1), ("sg", 2))
    )
    subnet = inside.fixed_ips[0].subnet_id
    neighbour = SubnetPort(uid("vm", name), mac("vm", name), "compute:nova", ((subnet, ip_address(f"{prefix}.9")),))
    return Router(
        id=uid("router", name),
        name=name,
        gateway=port(f"{name}-qg", EXTERNAL, f"203.0.113.{number}/24", mtu=mtu),
        gateway_host=HOST,
        interfaces=(inside,),
        snat_interfaces=(csnat,),
        agent_gateways=(port("fg", EXTERNAL, "203.0.113.200/24", mtu=mtu),),
        ports_by_subnet=((subnet, (neighbour,)),),
    )


def qrouter(router: Router) -> str:
    """Name of the router's namespace."""
    return names.QROUTER + router.id
