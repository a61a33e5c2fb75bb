"""Configuration files of the cloud, as an operator of an ML2/OVS DVR cloud would write them.

``neutron.conf`` and ``l3_agent.ini`` of a host are read unchanged by neutron-l3-agent and by dvr-agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SERVER = "192.168.110.1"
"""Where the server side (RabbitMQ, MariaDB, API) is found, in the management network of the sandbox."""
API_PORT = 9696
NOVA_PORT = 8775
METADATA_SECRET = "between Nova and Neutron"
PHYSNETS = ("physnet1", "physnet2")
HA_PHYSNET = "physha"
"""The switch that joins the network nodes: each project's HA network is one of its VLANs."""
SERVICE_PLUGINS = "router,port_forwarding,qos,conntrack_helper,ndp_proxy"
EXTENSIONS = ("port_forwarding", "fip_qos", "gateway_ip_qos", "ndp_proxy", "conntrack_helper")
"""Those of the L3 agent, with which it serves what the plugins offer."""


@dataclass(frozen=True)
class HostPlan:
    """What one host is.

    :ivar number: the last byte of its addresses
    :ivar mode: ``agent_mode`` of its L3 agent
    :ivar metadata: it has a neutron-metadata-agent, and metadata proxies
    :ivar kind: how its name begins
    """

    number: int
    mode: str
    metadata: bool = False
    kind: str = "compute"

    @property
    def name(self) -> str:
        return f"{self.kind}{self.number}"

    @property
    def uplinks(self) -> tuple[str, ...]:
        """The networks it is cabled to, apart from management and tunnels."""
        return (*PHYSNETS, HA_PHYSNET)

    @property
    def management_ip(self) -> str:
        return f"192.168.110.{10 + self.number}"

    @property
    def tunnel_ip(self) -> str:
        return f"192.168.120.{10 + self.number}"


def neutron_conf(host: str, state: Path, rpc_timeout: int, paste: Path | None = None) -> str:
    """The one that server and agents share; nothing in it is for dvr-agent.

    :param rpc_timeout: seconds for an answer over the message bus
    """
    return f"""\
[DEFAULT]
host = {host}
auth_strategy = noauth
core_plugin = ml2
service_plugins = {SERVICE_PLUGINS}
l3_ha_network_type = vlan
l3_ha_network_physical_name = {HA_PHYSNET}
transport_url = rabbit://neutron:secret@{SERVER}:5672/
state_path = {state}
rpc_response_timeout = {rpc_timeout}
{f"api_paste_config = {paste}" if paste else ""}
router_distributed = True
enable_dvr = True
notify_nova_on_port_status_changes = False
notify_nova_on_port_data_changes = False
dhcp_agent_notification = False
allow_automatic_l3agent_failover = False
agent_down_time = 75
rpc_workers = 1
rpc_state_report_workers = 1
pagination_max_limit = -1
use_stderr = True
debug = False

[database]
connection = mysql+pymysql://neutron:secret@{SERVER}:3306/neutron?charset=utf8
max_pool_size = 30
max_overflow = 30

[quotas]
quota_network = -1
quota_subnet = -1
quota_port = -1
quota_router = -1
quota_floatingip = -1

[oslo_concurrency]
lock_path = {state}/lock

[agent]
root_helper = env
report_interval = 10
use_helper_for_ns_read = False

[oslo_messaging_rabbit]
rabbit_quorum_queue = False

{_privsep()}"""


def _privsep() -> str:
    # As many threads as the machine has cores by default; every "arping -w 2" holds one for up to two seconds, so on a
    # small machine the reference agent would wait for arping most of the time.
    names = ("privsep", "privsep_namespace", "privsep_link", "privsep_ovs_vsctl", "privsep_conntrack")
    return "\n".join(f"[{name}]\nthread_pool_size = 32" for name in names) + "\n"


ML2_CONF = f"""\
[ml2]
type_drivers = flat,vlan,vxlan
tenant_network_types = vxlan
mechanism_drivers = openvswitch,l2population
extension_drivers = port_security,qos
[ml2_type_flat]
flat_networks = *
[ml2_type_vlan]
network_vlan_ranges = {HA_PHYSNET}:100:199
[ml2_type_vxlan]
vni_ranges = 1:2000
[securitygroup]
enable_security_group = False
"""


def l3_agent_ini(plan: HostPlan, state: Path) -> str:
    # neutron-l3-agent fails at every distributed router with conntrack_helper on a host that has no SNAT.
    extensions = [name for name in EXTENSIONS if name != "conntrack_helper" or plan.mode == "dvr_snat"]
    return f"""\
[DEFAULT]
interface_driver = openvswitch
agent_mode = {plan.mode}
ha_vrrp_health_check_interval = 0
enable_metadata_proxy = {plan.metadata}
metadata_proxy_socket = {state}/metadata_proxy
[agent]
extensions = {",".join(extensions)}
[ovs]
integration_bridge = br-int
ovsdb_connection = tcp:127.0.0.1:6640
"""


def metadata_agent_ini(state: Path) -> str:
    return f"""\
[DEFAULT]
nova_metadata_host = {SERVER}
nova_metadata_port = {NOVA_PORT}
metadata_proxy_shared_secret = {METADATA_SECRET}
metadata_proxy_socket = {state}/metadata_proxy
metadata_proxy_socket_mode = all
metadata_workers = 0
"""


def ovs_agent_ini(plan: HostPlan) -> str:
    return f"""\
[ovs]
local_ip = {plan.tunnel_ip}
bridge_mappings = {",".join(f"{name}:br-{name}" for name in plan.uplinks)}
datapath_type = netdev
integration_bridge = br-int
tunnel_bridge = br-tun
of_listen_address = 127.0.0.1
of_listen_port = 6633
ovsdb_connection = tcp:127.0.0.1:6640
[agent]
polling_interval = 1
tunnel_types = vxlan
l2_population = True
enable_distributed_routing = True
arp_responder = True
drop_flows_on_start = False
[securitygroup]
firewall_driver = noop
enable_security_group = False
"""


RABBITMQ_CONF = f"""\
listeners.tcp.default = {SERVER}:5672
default_user = neutron
default_pass = secret
log.console = true
log.console.level = info
"""


def rabbitmq_environment(folder: Path) -> dict[str, str]:
    """Everything below ``folder``, no plug-ins, the distribution port on loopback."""
    return {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_PID_FILE": str(folder / "rabbit.pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
