"""All configuration options, under Neutron's names, groups and defaults where Neutron has one.

Tables only; ``dvr_agent.config`` reads them.
"""

from __future__ import annotations

import socket
from typing import Any

from oslo_config import cfg, types

from dvr_agent.desired.host_settings import AgentMode

STATE_PATH = cfg.StrOpt(
    "state_path",
    default="/var/lib/neutron",
    help="Directory for state files: fip-linklocal-networks and fip-priorities, in Neutron's format.",
)

METADATA_PROXY_SOCKET = cfg.StrOpt(
    "metadata_proxy_socket",
    default="$state_path/metadata_proxy",
    help="Unix socket of neutron-metadata-agent, which dvr-metadata-proxy forwards to. The user of dvr-metadata-proxy "
    "must be allowed to connect to it.",
)

DEFAULT_OPTS = [
    cfg.HostAddressOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<host name>",
        help="Name of this host as Neutron knows it (port bindings, gw_port_host).",
    ),
    STATE_PATH,
    cfg.StrOpt(
        "agent_mode",
        sample_default=AgentMode.DVR_SNAT.value,
        choices=[
            (AgentMode.DVR.value, "compute node: floating IPs on this host, SNAT elsewhere"),
            (AgentMode.DVR_SNAT.value, "the same, and the SNAT of routers whose gateway is on this host"),
            (AgentMode.DVR_NO_EXTERNAL.value, "compute node without external network: all by the SNAT host"),
            ("legacy", "for routers that are not distributed: known, and refused"),
        ],
        help="What this host does for distributed routers. Documents from a directory: dvr_snat if it is not set. "
        "From Neutron: its own default is legacy, so it must be set.",
    ),
    cfg.StrOpt(
        "interface_driver",
        sample_default="bridge",
        help="How router ports are connected to their networks: bridge (Linux bridges, one per network) or openvswitch "
        "(needs dvr-agent[ovs]). Not set: openvswitch if the source is neutron, else bridge.",
    ),
    cfg.BoolOpt(
        "ovs_use_veth",
        default=False,
        help="Plug veth pairs into Open vSwitch instead of internal ports.",
    ),
    cfg.BoolOpt(
        "handle_internal_only_routers",
        default=True,
        help="Build routers without external gateway too.",
    ),
    cfg.IntOpt(
        "periodic_interval", default=40, min=1, help="Seconds within which a full sync that Neutron asks for begins."
    ),
    cfg.IntOpt(
        "periodic_fuzzy_delay",
        default=5,
        min=0,
        help="Seconds: a full sync after a reconnect or a revival waits for a random part of it, so that not all hosts "
        "ask at once.",
    ),
    cfg.BoolOpt(
        "enable_metadata_proxy",
        sample_default=True,
        help="Serve instances their metadata: lead their requests to the host's one dvr-metadata-proxy, which forwards "
        "them to neutron-metadata-agent. Not set: true if the source is neutron, else false.",
    ),
    cfg.PortOpt("metadata_port", default=9697, help="TCP port of the metadata proxy."),
    cfg.StrOpt(
        "metadata_access_mark",
        default="0x1",
        help="Packet mark of metadata requests; at most 16 bits.",
    ),
    cfg.StrOpt(
        "external_ingress_mark",
        default="0x2",
        help="Packet mark of what comes in from the external network; at most 16 bits.",
    ),
    cfg.StrOpt(
        "ipv6_gateway",
        default="",
        help="IPv6 next hop (a link-local address) of external networks that have no IPv6 subnet. Empty: such gateways "
        "listen to router advertisements.",
    ),
    cfg.StrOpt("ra_confs", default="$state_path/ra", help="Directory of radvd's configuration files, one per router."),
    cfg.StrOpt(
        "external_pids",
        default="$state_path/external/pids",
        help="Directory of the process id files of radvd, one per router, where neutron-l3-agent keeps them too.",
    ),
    cfg.StrOpt("radvd_user", default="", help="User that radvd changes to. Empty: the agent's own (root)."),
    cfg.IntOpt(
        "min_rtr_adv_interval", default=30, min=3, help="Seconds between two router advertisements, at the least."
    ),
    cfg.IntOpt("max_rtr_adv_interval", default=100, min=4, max=1800, help="Seconds between two of them, at the most."),
    METADATA_PROXY_SOCKET,
]

AGENT_OPTS = [
    cfg.BoolOpt("use_random_fully", default=True, help="SNAT picks source ports fully at random."),
    cfg.FloatOpt("report_interval", default=30, min=1, help="Seconds between two reports of our state to Neutron."),
    cfg.StrOpt("availability_zone", default="nova", help="Availability zone of this agent, for Neutron's scheduler."),
    cfg.ListOpt(
        "extensions", default=[], help="L3 agent extensions. None is supported: named once in the log, then ignored."
    ),
    cfg.BoolOpt("log_agent_heartbeats", default=False, help="Reported to Neutron, which logs our reports then."),
    cfg.StrOpt(
        "check_child_processes_action",
        default="respawn",
        choices=[
            ("respawn", "it is started again"),
            ("exit", "the agent ends with an error, so that the service manager acts"),
        ],
        help="What happens when a helper process (radvd) dies.",
    ),
    cfg.IntOpt(
        "check_child_processes_interval",
        default=60,
        min=0,
        help="Seconds between looks at the helper processes that are not watched by a descriptor, and at left-overs; "
        "0: never. One that dies is noticed at once.",
    ),
]

DVR_AGENT_OPTS = [
    cfg.StrOpt(
        "source",
        choices=[
            ("directory", "router documents in a directory, see [directory]"),
            ("neutron", "a neutron-server, by its message bus; needs dvr-agent[neutron]"),
        ],
        sample_default="directory",
        help="Where router documents come from. Not set: neutron if transport_url is set, as in neutron.conf, else "
        "directory.",
    ),
    cfg.StrOpt(
        "admin_socket",
        default="/run/dvr-agent/admin.sock",
        help="Unix socket of the admin interface (HTTP; mode 0600); dvrctl status asks here.",
    ),
    cfg.IntOpt(
        "ready_timeout",
        default=90,
        min=1,
        help="Seconds after the start until systemd is told READY though the first full sync is not over, because "
        "documents or the message bus are away, for example. The status text says what is in the way.",
    ),
    cfg.IntOpt(
        "audit_interval",
        default=60,
        min=0,
        help="Seconds between audits, which compare the kernel with what was applied and repair drift; 0: never.",
    ),
    cfg.IntOpt(
        "retry_interval",
        default=2,
        min=1,
        help="Seconds until a router that failed is tried again; doubled after each failure, with jitter.",
    ),
    cfg.IntOpt(
        "retry_interval_max",
        default=300,
        min=1,
        help="Seconds that the interval between tries never exceeds.",
    ),
    cfg.IntOpt(
        "max_document_size",
        default=16 * 1024 * 1024,
        min=1024,
        help="Bytes; a larger router document is rejected unread.",
    ),
    cfg.BoolOpt(
        "allow_mass_removal",
        default=False,
        help="Let a full sync remove more than half of the routers (and at least 10), or any while the document "
        "directory is empty. Off, such a removal is refused and logged, since it looks like a fault of the source; "
        "dvrctl cleanup removes by hand.",
    ),
]

DIRECTORY_OPTS = [
    cfg.StrOpt("path", default="/etc/dvr-agent/routers", help="Directory of router documents (*.json)."),
    cfg.IntOpt(
        "rescan_interval",
        default=30,
        min=1,
        help="Seconds between rescans, which find changes whose notification was lost.",
    ),
]

BRIDGE_OPTS = [
    cfg.Opt(
        "external_networks",
        type=types.Dict(value_type=types.String()),
        default={},
        sample_default="<network uuid>:<bridge>,...",
        help="Existing bridges of external networks. A network that is not named here gets the bridge brq<id>, "
        "which is created if it is missing.",
    ),
]

NEUTRON_OPTS = [
    cfg.IntOpt(
        "resync_interval",
        default=1800,
        min=10,
        help="Seconds between full syncs, give or take a tenth. They find changes that the server announces to nobody, "
        "such as those of a subnet's host routes.",
    ),
    cfg.FloatOpt(
        "fallback_after",
        default=20,
        min=0,
        help="Seconds after the start without an answer of the server until the documents kept from last time "
        "(<state_path>/dvr-agent/routers) are used instead. They never lead to a removal.",
    ),
]

OVS_OPTS = [
    cfg.StrOpt("integration_bridge", default="br-int", help="Bridge that router ports are plugged into."),
    cfg.StrOpt(
        "ovsdb_connection",
        default="tcp:127.0.0.1:6640",
        help="Connection to the OVSDB server: tcp:…, unix:… or ssl:….",
    ),
    cfg.IntOpt("ovsdb_timeout", default=10, min=1, help="Seconds that a transaction, or a port to show up, may take."),
    cfg.StrOpt("ssl_key_file", help="Private key for an ssl connection to the OVSDB server."),
    cfg.StrOpt("ssl_cert_file", help="Certificate for an ssl connection to the OVSDB server."),
    cfg.StrOpt("ssl_ca_cert_file", help="Certificate of the authority that signed the OVSDB server's one."),
    cfg.BoolOpt("ovsdb_debug", default=False, help="Log what the OVSDB library does."),
]

METADATA_PROXY_OPTS = [
    cfg.StrOpt(
        "control_socket",
        default="/run/dvr-metadata-proxy/control.sock",
        help="Unix socket on which dvr-metadata-proxy takes the routers' listening sockets from dvr-agent.",
    ),
    cfg.IntOpt(
        "connections_per_client",
        default=32,
        min=1,
        help="Connections that one client address of a router may have open at a time.",
    ),
    cfg.IntOpt("connections_per_router", default=512, min=1, help="Connections that a router's clients may have open."),
    cfg.IntOpt(
        "requests_per_router",
        default=8,
        min=1,
        help="Requests of one router that are with neutron-metadata-agent at a time; others of it wait.",
    ),
    cfg.IntOpt("max_header_size", default=16384, min=1024, help="Bytes of a request's first line and headers."),
    cfg.IntOpt("max_body_size", default=65536, min=0, help="Bytes of a request's body."),
]

METADATA_RATE_LIMITING_OPTS = [
    cfg.BoolOpt("rate_limit_enabled", default=False, help="Limit how often one client may ask for metadata."),
    cfg.ListOpt(
        "ip_versions",
        default=["4"],
        item_type=types.Integer(choices=[4, 6]),
        sample_default="4",
        help="Which clients are limited: 4, 6 or both.",
    ),
    cfg.IntOpt("base_window_duration", default=10, min=1, help="Seconds over which base_query_rate_limit counts."),
    cfg.IntOpt("base_query_rate_limit", default=10, min=1, help="Requests of one client in the base window."),
    cfg.IntOpt("burst_window_duration", default=10, min=1, help="Seconds over which burst_query_rate_limit counts."),
    cfg.IntOpt("burst_query_rate_limit", default=10, min=1, help="Requests of one client in the burst window."),
]

METADATA_HAPROXY_OPTS = [
    cfg.IntOpt("timeout_connect", default=30, min=1, help="Seconds to connect to neutron-metadata-agent."),
    cfg.IntOpt("timeout_client", default=32, min=1, help="Seconds that a client may send or take nothing."),
    cfg.IntOpt("timeout_server", default=32, min=1, help="Seconds that neutron-metadata-agent may say nothing."),
    cfg.IntOpt("timeout_http_request", default=30, min=1, help="Seconds for a client's complete request headers."),
    cfg.IntOpt("timeout_http_keep_alive", default=30, min=1, help="Seconds between two requests of a connection."),
]

GROUPS: list[tuple[str, list[Any]]] = [
    ("DEFAULT", DEFAULT_OPTS),
    ("AGENT", AGENT_OPTS),
    ("dvr_agent", DVR_AGENT_OPTS),
    ("directory", DIRECTORY_OPTS),
    ("bridge", BRIDGE_OPTS),
    ("neutron", NEUTRON_OPTS),
    ("OVS", OVS_OPTS),
    ("metadata_proxy", METADATA_PROXY_OPTS),
    ("metadata_rate_limiting", METADATA_RATE_LIMITING_OPTS),
    ("metadata_haproxy", METADATA_HAPROXY_OPTS),
]
