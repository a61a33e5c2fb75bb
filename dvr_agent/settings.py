"""Typed settings: frozen values that ``dvr_agent.config`` makes from the options.  Data only.

Each class holds what one part of the agent needs, under the names of the options (``dvr_agent.options`` explains them).
Times are in seconds, sizes in bytes.  Settings of the data plane: ``dvr_agent.desired.host_settings``; of
dvr-metadata-proxy: ``dvr_agent.metadata.settings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FilterChoice = Literal["auto", "legacy", "nftables"]
"""Packet filter of this host's routers; ``auto``: what the kernel has."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Intervals between the tries of a router that fails.

    :ivar first: before the first retry; doubled after each failure
    :ivar maximum: upper bound
    """

    first: float
    maximum: float


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Settings of ``dvr_agent.daemon``.

    :ivar audit_interval: 0: no audits
    :ivar check_services_interval: 0: services are checked on events only
    :ivar history_entries: for each router; 0: no history
    :ivar stuck_timeout: without what Open vSwitch adds to it, see :attr:`dvr_agent.config.Settings.stuck_timeout`
    """

    admin_socket: str
    ready_timeout: float
    audit_interval: float
    check_services_interval: float
    retry: RetryPolicy
    allow_mass_removal: bool
    history_entries: int
    history_file_size: int
    stuck_timeout: float


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Settings of the source of router documents.

    :ivar kind: ``directory`` or ``neutron``
    :ivar directory: documents of the directory source
    """

    kind: str
    host: str
    state_path: str
    directory: str
    rescan_interval: float
    max_document_size: int


@dataclass(frozen=True, slots=True)
class NeutronSettings:
    """Settings of the neutron source.

    :ivar config_arguments: command line arguments that name the configuration files, for the options of oslo.messaging
    """

    config_arguments: tuple[str, ...]
    resync_interval: float
    fallback_after: float
    periodic_fuzzy_delay: float
    report_interval: float
    availability_zone: str
    log_agent_heartbeats: bool
    handle_internal_only_routers: bool
    interface_driver: str


@dataclass(frozen=True, slots=True)
class OvsSettings:
    """Settings of the Open vSwitch driver: group ``[OVS]``, and ``ovs_use_veth``."""

    integration_bridge: str
    ovsdb_connection: str
    ovsdb_timeout: int
    ssl_key_file: str | None
    ssl_cert_file: str | None
    ssl_ca_cert_file: str | None
    ovsdb_debug: bool
    ovs_use_veth: bool


@dataclass(frozen=True, slots=True)
class AttachSettings:
    """Settings of the attach drivers.

    :ivar driver: ``bridge`` or ``openvswitch``
    :ivar external_networks: network id → existing bridge, for the bridge driver
    """

    driver: str
    external_networks: Mapping[str, str]
    ovs: OvsSettings


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Settings of metrics.

    :ivar listen: loopback address and TCP port; None: the admin socket only
    :ivar textfile: None: no file is written
    :ivar floating_ips_interval: None: bytes of floating IPs are not counted
    """

    listen: tuple[str, int] | None
    textfile: Path | None
    textfile_interval: float
    floating_ips_interval: float | None


@dataclass(frozen=True, slots=True)
class RadvdSettings:
    """Settings of radvd.

    :ivar on_death: ``respawn`` or ``exit`` (``check_child_processes_action``)
    """

    ra_confs: Path
    external_pids: Path
    user: str
    min_interval: int
    max_interval: int
    on_death: str


@dataclass(frozen=True, slots=True)
class ConntrackdSettings:
    """Settings of conntrackd, which synchronises tracked connections between the hosts of an HA router.

    :ivar enabled: ``ha_conntrackd_enabled``; the other values are options of the same names after ``ha_conntrackd_``
    :ivar group: number that is added to the virtual router's id; the sum is the UDP port
    """

    enabled: bool
    hashsize: int = 32768
    hashlimit: int = 131072
    unix_backlog: int = 20
    socketbuffersize: int = 262142
    socketbuffersize_max_grown: int = 655355
    ipv4_mcast_addr: str = "225.0.0.50"
    group: int = 3780
    sndsocketbuffer: int = 24985600
    rcvsocketbuffer: int = 24985600


@dataclass(frozen=True, slots=True)
class HaSettings:
    """Settings of VRRP.

    :ivar builtin: dvr-vrrp speaks it, not keepalived (``[dvr_agent] ha_vrrp``)
    :ivar control_socket: of dvr-vrrp
    :ivar confs: files of keepalived (``ha_confs_path``)
    :ivar external_pids: where neutron-l3-agent has the process ids of its monitors
    :ivar on_death: ``respawn`` or ``exit`` (``check_child_processes_action``)
    """

    builtin: bool
    control_socket: str
    confs: Path
    external_pids: Path
    on_death: str
    conntrackd: ConntrackdSettings


@dataclass(frozen=True, slots=True)
class MetadataSettings:
    """Settings of the metadata service on the agent's side.

    :ivar haproxy_confs: configuration files of neutron-l3-agent's haproxies
    """

    enabled: bool
    port: int
    control_socket: str
    external_pids: Path
    haproxy_confs: Path
