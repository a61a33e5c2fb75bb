"""All configuration options, under Neutron's names, groups and defaults where Neutron has the option.

Tables only; ``dvr_agent.config`` reads them.  etc/dvr-agent.conf.sample and docs/configuration.md are generated.
"""

from __future__ import annotations

import socket
from typing import Any

from oslo_config import cfg, types

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension

STATE_PATH = cfg.StrOpt(
    "state_path",
    default="/var/lib/neutron",
    help="Directory for state files: fip-linklocal-networks and fip-priorities, in Neutron's format.",
)

METADATA_PROXY_SOCKET = cfg.StrOpt(
    "metadata_proxy_socket",
    default="$state_path/metadata_proxy",
    help="Unix socket of neutron-metadata-agent, to which dvr-metadata-proxy forwards requests. The user of "
    "dvr-metadata-proxy must be allowed to connect to the socket.",
)

CONNTRACKD_OPTS = [
    cfg.BoolOpt(
        "ha_conntrackd_enabled",
        default=False,
        help="Run a conntrackd for each HA router, by which its hosts tell each other of its tracked connections, so "
        "that these survive a fail-over; the same on all hosts.",
    ),
    cfg.IntOpt("ha_conntrackd_hashsize", default=32768, min=1, help="Buckets of the hash tables of a conntrackd."),
    cfg.IntOpt(
        "ha_conntrackd_hashlimit",
        default=131072,
        min=1,
        help="Connections that a conntrackd remembers; twice nf_conntrack_max is recommended.",
    ),
    cfg.IntOpt(
        "ha_conntrackd_unix_backlog",
        default=20,
        min=1,
        help="Clients that wait at the control socket of a conntrackd; ignored since conntrackd 1.4.7.",
    ),
    cfg.IntOpt(
        "ha_conntrackd_socketbuffersize",
        default=262142,
        min=1,
        help="Bytes of the socket buffer for events of the kernel.",
    ),
    cfg.IntOpt(
        "ha_conntrackd_socketbuffersize_max_grown",
        default=655355,
        min=1,
        help="Bytes to which that buffer grows when events get lost.",
    ),
    cfg.IPOpt(
        "ha_conntrackd_ipv4_mcast_addr",
        version=4,
        default="225.0.0.50",
        help="Multicast address by which the hosts of an HA router tell each other; the same on all hosts.",
    ),
    cfg.IntOpt(
        "ha_conntrackd_group",
        default=3780,
        min=0,
        max=65280,
        help="Number that is added to the id of the virtual router; the sum is the UDP port. The same on all hosts.",
    ),
    cfg.IntOpt(
        "ha_conntrackd_sndsocketbuffer",
        default=24985600,
        min=1,
        help="Bytes of the socket buffer for sending to other hosts.",
    ),
    cfg.IntOpt(
        "ha_conntrackd_rcvsocketbuffer",
        default=24985600,
        min=1,
        help="Bytes of the socket buffer for receiving from other hosts.",
    ),
]

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
            (AgentMode.DVR_SNAT.value, "as dvr, and SNAT and legacy routers whose gateway port is bound to this host"),
            (
                AgentMode.DVR_NO_EXTERNAL.value,
                "compute node without external network: floating IPs and SNAT on the SNAT host",
            ),
            (
                "legacy",
                "mode of hosts without distributed routers; refused by this agent",
            ),
        ],
        help="Functions of distributed routers on this host. Not set: dvr_snat if the source is a directory; an "
        "error if the source is neutron, since Neutron's own default is legacy.",
    ),
    cfg.StrOpt(
        "interface_driver",
        sample_default="bridge",
        help="Driver that connects router ports to their networks: bridge (Linux bridges, one per network) or "
        "openvswitch (needs dvr-agent[ovs]). Not set: openvswitch if the source is neutron, else bridge.",
    ),
    cfg.BoolOpt(
        "ovs_use_veth",
        default=False,
        help="Plug veth pairs into Open vSwitch instead of internal ports.",
    ),
    cfg.BoolOpt(
        "handle_internal_only_routers",
        default=True,
        help="Also build routers without external gateway.",
    ),
    cfg.IntOpt(
        "periodic_interval",
        default=40,
        min=1,
        help="Seconds within which a resync on request of neutron-server begins.",
    ),
    cfg.IntOpt(
        "periodic_fuzzy_delay",
        default=5,
        min=0,
        help="Seconds; a resync after a reconnect to the message bus or a revival of the agent is delayed by a "
        "random part of them, so that not all hosts send requests at once.",
    ),
    cfg.BoolOpt(
        "enable_metadata_proxy",
        sample_default=True,
        help="Serve metadata to instances: redirect their requests to the dvr-metadata-proxy of the host, which "
        "forwards them to neutron-metadata-agent. Not set: true if the source is neutron, else false.",
    ),
    cfg.PortOpt(
        "metadata_port", default=9697, help="TCP port in router namespaces to which metadata requests are redirected."
    ),
    cfg.StrOpt(
        "metadata_access_mark",
        default="0x1",
        help="Packet mark of metadata requests; at most 16 bits.",
    ),
    cfg.StrOpt(
        "external_ingress_mark",
        default="0x2",
        help="Packet mark of packets from the external network; at most 16 bits.",
    ),
    cfg.StrOpt(
        "ipv6_gateway",
        default="",
        help="IPv6 next hop (a link-local address) of external networks that have no IPv6 subnet. Empty: the next "
        "hop is learned from router advertisements.",
    ),
    cfg.StrOpt("ra_confs", default="$state_path/ra", help="Directory of radvd's configuration files, one per router."),
    cfg.StrOpt(
        "external_pids",
        default="$state_path/external/pids",
        help="Directory of the process id files of radvd, one per router, where neutron-l3-agent keeps them too.",
    ),
    cfg.StrOpt("radvd_user", default="", help="User that radvd runs as. Empty: the user of the agent (root)."),
    cfg.IntOpt(
        "min_rtr_adv_interval", default=30, min=3, help="Minimum number of seconds between two router advertisements."
    ),
    cfg.IntOpt(
        "max_rtr_adv_interval",
        default=100,
        min=4,
        max=1800,
        help="Maximum number of seconds between two router advertisements.",
    ),
    cfg.StrOpt(
        "ha_confs_path",
        default="$state_path/ha_confs",
        help="Directory of the files of keepalived and conntrackd, which serve HA routers: configuration, state and "
        "process ids.",
    ),
    cfg.StrOpt(
        "ha_vrrp_auth_type",
        default="PASS",
        choices=[
            ("AH", "IPsec, which this agent does not have: with a password HA routers are not served"),
            ("PASS", "the password is in every advertisement"),
        ],
        help="Authentication of VRRP advertisements; the same on all hosts.",
    ),
    cfg.StrOpt(
        "ha_vrrp_auth_password",
        secret=True,
        help="Password of VRRP advertisements, of which 8 characters count; the same on all hosts. Not set: none.",
    ),
    cfg.IntOpt(
        "ha_vrrp_advert_int",
        default=2,
        min=1,
        max=255,
        help="Seconds between two VRRP advertisements; the same on all hosts. A host that hears none for three times "
        "as long becomes master.",
    ),
    cfg.IntOpt(
        "ha_vrrp_health_check_interval",
        default=0,
        max=3600,
        help="Seconds between two checks of the master of an HA router whether its external gateways answer an echo "
        "request. It yields to another host after two checks without an answer. 0 or less: no checks. Neutron "
        "recommends 5.",
    ),
    *CONNTRACKD_OPTS,
    METADATA_PROXY_SOCKET,
]

AGENT_OPTS = [
    cfg.BoolOpt("use_random_fully", default=True, help="Choose source ports of SNAT fully at random."),
    cfg.FloatOpt(
        "report_interval", default=30, min=1, help="Seconds between two reports of the agent's state to Neutron."
    ),
    cfg.StrOpt("availability_zone", default="nova", help="Availability zone of this agent, for Neutron's scheduler."),
    cfg.ListOpt(
        "extensions",
        default=[],
        help="Extensions of neutron-l3-agent to serve: "
        + ", ".join(one.value for one in Extension)
        + ". Objects of an "
        "extension that is not named are not built. Any other name is logged at the start and ignored.",
    ),
    cfg.BoolOpt("log_agent_heartbeats", default=False, help="Have neutron-server log each report of this agent."),
    cfg.StrOpt(
        "check_child_processes_action",
        default="respawn",
        choices=[
            ("respawn", "the process is started again"),
            ("exit", "the agent ends with an error, so that the service manager acts"),
        ],
        help="Action when a helper process (radvd, keepalived, conntrackd) dies.",
    ),
    cfg.IntOpt(
        "check_child_processes_interval",
        default=60,
        min=0,
        help="Seconds between checks of adopted helper processes and of stale ones; 0: never. The death of a "
        "helper process is noticed at once, without a check.",
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
        help="Source of router documents. Not set: neutron if transport_url is set, as in neutron.conf, else "
        "directory.",
    ),
    cfg.StrOpt(
        "ha_vrrp",
        default="keepalived",
        choices=[
            ("keepalived", "a keepalived for each router, as neutron-l3-agent has it"),
            ("builtin", "one dvr-vrrp for all routers of the host; it understands keepalived on other hosts"),
        ],
        help="Program that speaks VRRP for HA routers.",
    ),
    cfg.StrOpt(
        "packet_filter",
        default="auto",
        choices=[
            ("auto", "legacy tables where this kernel has them, else nf_tables"),
            ("legacy", "legacy tables, those of iptables-legacy"),
            ("nftables", "tables ip dvr and ip6 dvr of nf_tables, which nft list ruleset shows"),
        ],
        help="Packet filter of all routers of this host. When it is changed, rules of the other one are removed after "
        "the new ones are in place.",
    ),
    cfg.StrOpt(
        "admin_socket",
        default="/run/dvr-agent/admin.sock",
        help="Unix socket of the admin interface (HTTP; mode 0600), which dvrctl status reads.",
    ),
    cfg.IntOpt(
        "ready_timeout",
        default=90,
        min=1,
        help="Seconds after the start until READY is reported to systemd even if the first resync is not over, for "
        "example because documents or the message bus are unavailable. The status text names the obstacle.",
    ),
    cfg.IntOpt(
        "audit_interval",
        default=60,
        min=0,
        help="Seconds between audits, which compare the kernel with the desired state and repair drift that no event "
        "told of; 0: never. Audits take at most 0.15 % of a processor: those of many routers come later, after 20 "
        "times so many seconds at most. Packet filter tables are compared at this interval all the same.",
    ),
    cfg.IntOpt(
        "retry_interval",
        default=2,
        min=1,
        help="Seconds until the first retry of a router that failed; doubled after each failure, with jitter.",
    ),
    cfg.IntOpt(
        "retry_interval_max",
        default=300,
        min=1,
        help="Maximum number of seconds between two tries of a router that fails.",
    ),
    cfg.IntOpt(
        "stuck_timeout",
        default=120,
        min=5,
        help="Seconds without progress after which /healthz fails and systemd's watchdog is not fed any more, so that "
        "systemd restarts the agent: the worker thread hangs in a system call, using no processor time, or jobs wait "
        "and none starts. With Open vSwitch at least three times ovsdb_timeout: the agent waits for it that long "
        "by right.",
    ),
    cfg.IntOpt(
        "max_document_size",
        default=16 * 1024 * 1024,
        min=1024,
        help="Maximum size of a router document in bytes; a larger one is a bad document and is not read.",
    ),
    cfg.IntOpt(
        "history_entries",
        default=100,
        min=0,
        help="Maximum number of changes of each router that are kept for dvrctl history; 0: none. Those of all routers "
        "take at most 4 MiB of memory: the oldest go first.",
    ),
    cfg.IntOpt(
        "history_file_size",
        default=8 * 1024 * 1024,
        min=64 * 1024,
        help="Maximum size in bytes of the file in which changes survive a restart, "
        "<state_path>/dvr-agent/<host>/history.jsonl. When it is full the older half is dropped.",
    ),
    cfg.BoolOpt(
        "allow_mass_removal",
        default=False,
        help="Allow the stale sweep to remove more than half of the routers (and at least 10), or any router while "
        "the document directory is empty. Otherwise such a removal is refused and logged, since it looks like "
        "a fault of the source; dvrctl cleanup removes stale routers by hand.",
    ),
]

DIRECTORY_OPTS = [
    cfg.StrOpt("path", default="/etc/dvr-agent/routers", help="Directory of router documents (*.json)."),
    cfg.IntOpt(
        "rescan_interval",
        default=30,
        min=1,
        help="Seconds between rescans of the directory, which find changes whose notification was lost.",
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
        help="Seconds between resyncs with neutron-server, give or take a tenth. They find changes that the server "
        "does not announce, such as changes of a subnet's host routes.",
    ),
    cfg.FloatOpt(
        "fallback_after",
        default=20,
        min=0,
        help="Seconds after the start without an answer of neutron-server until cached documents of the last run "
        "(<state_path>/dvr-agent/<host>/routers) are used instead. Cached documents never lead to a removal.",
    ),
]

OVS_OPTS = [
    cfg.StrOpt("integration_bridge", default="br-int", help="Bridge that router ports are plugged into."),
    cfg.StrOpt(
        "ovsdb_connection",
        default="tcp:127.0.0.1:6640",
        help="Connection to the OVSDB server: tcp:…, unix:… or ssl:….",
    ),
    cfg.IntOpt(
        "ovsdb_timeout",
        default=10,
        min=1,
        help="Seconds within which a transaction must end, or a new port must appear.",
    ),
    cfg.StrOpt("ssl_key_file", help="Private key for an ssl connection to the OVSDB server."),
    cfg.StrOpt("ssl_cert_file", help="Certificate for an ssl connection to the OVSDB server."),
    cfg.StrOpt(
        "ssl_ca_cert_file", help="Certificate of the authority that signed the certificate of the OVSDB server."
    ),
    cfg.BoolOpt("ovsdb_debug", default=False, help="Log at DEBUG in the OVSDB library too."),
]

METRICS_OPTS = [
    cfg.StrOpt(
        "listen",
        default="",
        help="Address and TCP port of the loopback device (127.0.0.1:9794, [::1]:9794) at which /metrics, /healthz and "
        "/readyz are served to every user of this host, without documents and secrets. Empty: only on the admin "
        "socket.",
    ),
    cfg.StrOpt(
        "textfile",
        default="",
        help="File, *.prom, into which the metrics are written for the textfile collector of node_exporter, such as "
        "/var/lib/prometheus/node-exporter/dvr-agent.prom. Empty: none.",
    ),
    cfg.BoolOpt(
        "floating_ips",
        default=False,
        help="Count the bytes from and to each floating IP of this host: two packet filter rules each, and two series "
        "each in the metrics, two more of limited ones. Every packet of a router passes the rules of all its floating "
        "IPs.",
    ),
    cfg.IntOpt(
        "floating_ips_interval",
        default=60,
        min=5,
        help="Seconds between two readings of these counters from the kernel.",
    ),
    cfg.IntOpt("textfile_interval", default=30, min=5, help="Seconds between two writes of textfile."),
]

METADATA_PROXY_OPTS = [
    cfg.StrOpt(
        "control_socket",
        default="/run/dvr-metadata-proxy/control.sock",
        help="Unix socket on which dvr-metadata-proxy receives the routers' listening sockets from dvr-agent.",
    ),
    cfg.IntOpt(
        "connections_per_client",
        default=32,
        min=1,
        help="Maximum number of open connections per client address of a router.",
    ),
    cfg.IntOpt(
        "connections_per_router",
        default=512,
        min=1,
        help="Maximum number of open connections of all clients of a router.",
    ),
    cfg.IntOpt(
        "requests_per_router",
        default=8,
        min=1,
        help="Maximum number of requests per router that are forwarded to neutron-metadata-agent at a time; "
        "further requests of the router wait.",
    ),
    cfg.IntOpt(
        "max_header_size", default=16384, min=1024, help="Maximum size of a request's first line and headers in bytes."
    ),
    cfg.IntOpt("max_body_size", default=65536, min=0, help="Maximum size of a request's body in bytes."),
]

METADATA_RATE_LIMITING_OPTS = [
    cfg.BoolOpt("rate_limit_enabled", default=False, help="Limit the rate of metadata requests per client."),
    cfg.ListOpt(
        "ip_versions",
        default=["4"],
        item_type=types.Integer(choices=[4, 6]),
        sample_default="4",
        help="IP versions of clients whose rate is limited: 4, 6 or both.",
    ),
    cfg.IntOpt(
        "base_window_duration", default=10, min=1, help="Seconds of the window in which base_query_rate_limit applies."
    ),
    cfg.IntOpt(
        "base_query_rate_limit", default=10, min=1, help="Maximum number of requests per client in the base window."
    ),
    cfg.IntOpt(
        "burst_window_duration",
        default=10,
        min=1,
        help="Seconds of the window in which burst_query_rate_limit applies.",
    ),
    cfg.IntOpt(
        "burst_query_rate_limit", default=10, min=1, help="Maximum number of requests per client in the burst window."
    ),
]

METADATA_HAPROXY_OPTS = [
    cfg.IntOpt(
        "timeout_connect",
        default=30,
        min=1,
        help="Seconds within which neutron-metadata-agent must accept a connection; 504 after that.",
    ),
    cfg.IntOpt(
        "timeout_client",
        default=32,
        min=1,
        help="Seconds after which a connection is closed whose client neither sends nor receives.",
    ),
    cfg.IntOpt(
        "timeout_server",
        default=32,
        min=1,
        help="Seconds without data after which an answer of neutron-metadata-agent is given up; 504 after that.",
    ),
    cfg.IntOpt(
        "timeout_http_request",
        default=30,
        min=1,
        help="Seconds within which the complete headers of a request must arrive.",
    ),
    cfg.IntOpt(
        "timeout_http_keep_alive",
        default=30,
        min=1,
        help="Seconds after which a connection without a further request is closed.",
    ),
]

VRRP_OPTS = [
    cfg.StrOpt(
        "control_socket",
        default="/run/dvr-vrrp/control.sock",
        help="Unix socket on which dvr-vrrp receives virtual routers from dvr-agent; its option --control-socket.",
    ),
]

WEB_OPTS = [
    cfg.StrOpt(
        "listen",
        sample_default="127.0.0.1:9699",
        help="Loopback address and TCP port on which dvr-agent-web.service serves the page of dvrctl web all the time. "
        "Not set: it does not; dvrctl web by hand then serves it on 127.0.0.1:9699.",
    ),
    cfg.StrOpt(
        "token_file",
        default="/run/dvr-agent-web/token",
        help="File with the secret that a browser needs for the page (mode 0600). It is made if it is missing; remove "
        "it and restart to have a new one.",
    ),
]

GROUPS: list[tuple[str, list[Any]]] = [
    ("DEFAULT", DEFAULT_OPTS),
    ("AGENT", AGENT_OPTS),
    ("dvr_agent", DVR_AGENT_OPTS),
    ("directory", DIRECTORY_OPTS),
    ("bridge", BRIDGE_OPTS),
    ("neutron", NEUTRON_OPTS),
    ("OVS", OVS_OPTS),
    ("vrrp", VRRP_OPTS),
    ("metrics", METRICS_OPTS),
    ("web", WEB_OPTS),
    ("metadata_proxy", METADATA_PROXY_OPTS),
    ("metadata_rate_limiting", METADATA_RATE_LIMITING_OPTS),
    ("metadata_haproxy", METADATA_HAPROXY_OPTS),
]
