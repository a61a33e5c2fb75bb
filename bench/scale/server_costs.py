"""What calls of L3 agents take of neutron-server: ``.venv-neutron/bin/python bench/scale/server_costs.py``.

Neutron in this process, on SQLite, without a message bus (``make ready`` makes the environment).  Its plugins make the
routers, some seconds each: a network, a subnet, a gateway, six ports, two floating IPs.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST, PROJECT = "compute1", "project"
CONF = """
[DEFAULT]
core_plugin = ml2
service_plugins = router
transport_url = fake://
router_distributed = true
state_path = {base}
api_paste_config = {paste}
[database]
connection = sqlite:///{base}/neutron.db
[oslo_concurrency]
lock_path = {base}/lock
[ml2]
type_drivers = flat,vxlan
project_network_types = vxlan
mechanism_drivers = openvswitch,l2population
[ml2_type_vxlan]
vni_ranges = 1:100000
[ml2_type_flat]
flat_networks = *
"""
L2_AGENT = {
    "tunnel_types": ["vxlan"],
    "tunneling_ip": "192.0.2.1",
    "bridge_mappings": {"physnet1": "br-ex"},
    "l2_population": True,
    "datapath_type": "system",
    "ovs_capabilities": {},
    "enable_distributed_routing": True,
}
L3_AGENT = {"agent_mode": "dvr_snat", "handle_internal_only_routers": True, "interface_driver": "openvswitch"}
AGENTS = (
    ("neutron-openvswitch-agent", "Open vSwitch agent", "N/A", L2_AGENT),
    ("neutron-l3-agent", "L3 agent", "l3_agent", L3_AGENT),
)


class Neutron:
    """A neutron-server in this process."""

    def __init__(self, base: Path) -> None:
        from neutron import manager
        from neutron.common import config
        from neutron.db.migration.models import head  # noqa: F401 - tables of all models
        from neutron_lib import context
        from neutron_lib.db import api, model_base
        from neutron_lib.plugins import directory

        paste = Path(sys.prefix) / "etc/neutron/api-paste.ini"
        (base / "neutron.conf").write_text(CONF.format(base=base, paste=paste))
        config.register_common_config_options()
        config.init(["--config-file", str(base / "neutron.conf")])
        self.context: Any = context.get_admin_context()
        with api.CONTEXT_WRITER.using(self.context) as session:
            model_base.BASEV2.metadata.create_all(session.get_bind())
        manager.init()
        self.core: Any = directory.get_plugin()
        self.l3: Any = directory.get_plugin("L3_ROUTER_NAT")
        self.report()
        self.external = self._network("external", True)
        self._subnet(self.external, "203.0.0.0/16", "203.0.0.1")

    def report(self) -> None:
        """Have the agents of the host alive for the next 75 seconds."""
        from oslo_utils import timeutils

        now = timeutils.utcnow()
        for binary, kind, topic, configurations in AGENTS:
            agent = {"binary": binary, "agent_type": kind, "topic": topic, "configurations": configurations}
            self.core.create_or_update_agent(self.context, {**agent, "host": HOST, "availability_zone": "nova"}, now)

    def add(self, number: int) -> tuple[str, str, list[str]]:
        """Make a router; returns its id, its subnet's and its floating IPs'."""
        self.report()
        network, prefix = self._network(f"net{number}", False), f"10.{number // 250}.{number % 250}"
        subnet = self._subnet(network, f"{prefix}.0/24", f"{prefix}.1")
        gateway = {"external_gateway_info": {"network_id": self.external}}
        router = self._make(self.l3.create_router, "router", name=f"r{number}", distributed=True, **gateway)
        self.l3.add_router_interface(self.context, router, {"subnet_id": subnet})
        ports = [self._port(network) for _ in range(6)]
        return router, subnet, [self._floating_ip(port) for port in ports[:2]]

    def _make(self, create: Callable[..., Any], kind: str, **values: object) -> str:
        body = {"tenant_id": PROJECT, "project_id": PROJECT, "admin_state_up": True, **values}
        return str(create(self.context, {kind: body})["id"])

    def _network(self, name: str, external: bool) -> str:
        where = {"network_type": "flat", "physical_network": "physnet1"} if external else {}
        provider = {
            f"provider:{key}": where.get(key, _UNSET) for key in ("network_type", "physical_network", "segmentation_id")
        }
        more = {"router:external": external, "is_default": False, "vlan_transparent": _UNSET, "mtu": 1450}
        return self._make(self.core.create_network, "network", name=name, shared=False, **provider, **more)

    def _subnet(self, network: str, cidr: str, gateway: str) -> str:
        unset = ("allocation_pools", "dns_nameservers", "host_routes", "prefixlen", "ipv6_ra_mode", "ipv6_address_mode")
        values = {"network_id": network, "name": "", "cidr": cidr, "ip_version": 4, "gateway_ip": gateway}
        more = {"enable_dhcp": False, "subnetpool_id": None, **dict.fromkeys(unset, _UNSET)}
        return self._make(self.core.create_subnet, "subnet", **values, **more)

    def _port(self, network: str) -> str:
        binding = {"binding:host_id": HOST, "binding:profile": {}, "binding:vnic_type": "normal"}
        values = {"network_id": network, "name": "", "fixed_ips": _UNSET, "mac_address": _UNSET, "device_id": "vm"}
        more = {"device_owner": "compute:nova", "security_groups": [], "port_security_enabled": False}
        return self._make(self.core.create_port, "port", **values, **binding, **more)

    def _floating_ip(self, port: str) -> str:
        names = ("dns_name", "dns_domain", "description")
        values = {"floating_network_id": self.external, "port_id": port, **dict.fromkeys(names, "")}
        unset = dict.fromkeys(("fixed_ip_address", "subnet_id", "floating_ip_address"))
        return self._make(self.l3.create_floatingip, "floatingip", **values, **unset)


_UNSET: object = None


def main() -> None:
    """Make routers and print what calls take."""
    global _UNSET
    parser = argparse.ArgumentParser("server_costs", description=__doc__)
    parser.add_argument("--routers", type=int, default=32)
    count = parser.parse_args().routers
    from neutron.api.rpc.handlers.l3_rpc import L3RpcCallback
    from neutron_lib import constants

    _UNSET = constants.ATTR_NOT_SPECIFIED
    with tempfile.TemporaryDirectory(prefix="neutron-costs-") as base:
        neutron = Neutron(Path(base))
        logging.disable(logging.CRITICAL)
        routers = [neutron.add(number) for number in range(count)]
        rpc, context = L3RpcCallback(), neutron.context
        ids = [router for router, _, _ in routers]
        for router in ids:  # binds its ports
            neutron.report()
            rpc.sync_routers(context, host=HOST, router_ids=[router])
        router, subnet, floating_ips = routers[0]
        statuses = dict.fromkeys(floating_ips, "ACTIVE")
        calls: dict[str, Callable[[], object]] = {
            "get_router_ids": lambda: rpc.get_router_ids(context, host=HOST),
            "sync_routers, one": lambda: rpc.sync_routers(context, host=HOST, router_ids=[router]),
            f"sync_routers, {count}": lambda: rpc.sync_routers(context, host=HOST, router_ids=ids),
            "get_ports_by_subnet": lambda: rpc.get_ports_by_subnet(context, host=HOST, subnet_id=subnet),
            "update_floatingip_statuses": lambda: rpc.update_floatingip_statuses(
                context, router_id=router, fip_statuses=statuses
            ),
            "get_host_ha_router_count": lambda: rpc.get_host_ha_router_count(context, host=HOST),
            "reports of two agents": neutron.report,
        }
        for name, call in calls.items():
            neutron.report()
            print(f"{name:28} {min(_seconds(call) for _ in range(3)) * 1000:8.1f} ms", flush=True)


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
