"""Reads the configuration files and makes typed settings; the options themselves are in ``dvr_agent.options``.

``load`` reads files into a :class:`oslo_config.cfg.ConfigOpts` of its own (never the global one); ``make_settings``
turns it into :class:`Settings`, the only form in which the rest of the agent gets its options.  ``list_opts`` feeds
oslo-config-generator (``etc/dvr-agent.conf.sample``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_log import log

from dvr_agent import config_files
from dvr_agent.desired.host_settings import AgentMode, HostSettings, VrrpAuth, VrrpSettings
from dvr_agent.errors import ConfigError
from dvr_agent.extensions import Extension
from dvr_agent.metadata.settings import ProxySettings, proxy_settings
from dvr_agent.options import GROUPS
from dvr_agent.settings import (
    AttachSettings,
    ConntrackdSettings,
    DaemonSettings,
    FilterChoice,
    HaSettings,
    MetadataSettings,
    MetricsSettings,
    NeutronSettings,
    OvsSettings,
    RadvdSettings,
    RetryPolicy,
    SourceSettings,
)

OVS_DRIVER_CLASS = "neutron.agent.linux.interface.OVSInterfaceDriver"
"""Neutron's long name of its Open vSwitch driver, found in old configuration files."""

OVSDB_WAITS = 3
"""A job waits for Open vSwitch up to ``ovsdb_timeout`` several times in a row, without using the processor between."""

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+@:-]*")
_CONNTRACKD_CONFS_LENGTH = 107 - len(f"/{uuid.UUID(int=0)}/conntrackd.ctl")
"""conntrackd copies the path of its control socket into ``sun_path``, which has 108 bytes."""

TRANSPORT_URL = cfg.StrOpt("transport_url", secret=True, help="Message bus; the whole set of options: oslo.messaging.")
"""Registered to see whether it is set: oslo.messaging registers its own options in a configuration of its own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process.

    :ivar files: the configuration files that were read, in their order
    """

    host: str
    state_path: Path
    files: tuple[Path, ...]
    dataplane: HostSettings
    daemon: DaemonSettings
    source: SourceSettings
    neutron: NeutronSettings
    attach: AttachSettings
    radvd: RadvdSettings
    ha: HaSettings
    metadata: MetadataSettings
    metadata_proxy: ProxySettings
    metrics: MetricsSettings
    packet_filter: FilterChoice = "auto"

    @property
    def stuck_timeout(self) -> float:
        """Seconds without progress after which the agent counts as stuck; longer than any wait for Open vSwitch."""
        ovs = self.attach.ovs.ovsdb_timeout if self.attach.driver == "openvswitch" else 0
        return max(self.daemon.stuck_timeout, OVSDB_WAITS * ovs)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return all options of this project, for oslo-config-generator."""
    return [(group, list(opts)) for group, opts in GROUPS]


def load(args: Sequence[str], prog: str = "dvr-agent", readable_only: bool = False) -> cfg.ConfigOpts:
    """Read the configuration from ``--config-file`` and ``--config-dir`` arguments.

    Without arguments ``/etc/dvr-agent/dvr-agent.conf`` is read if it is there.

    :param readable_only: leave out default files, all of them, if this user cannot read one
    :raises ConfigError: naming the file, and the option with its value
    """
    conf = make_options()
    files, directories = default_files()
    if readable_only and not all(os.access(one, os.R_OK) for one in config_files.files_named((), files, directories)):
        files, directories = [], []
    config_files.parse(conf, args, prog, files, directories)
    return conf


def make_options() -> cfg.ConfigOpts:
    """Return a configuration on which all options are registered, and that has read no file yet."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.register_opt(TRANSPORT_URL)
    for group, opts in GROUPS:
        conf.register_opts(opts, group=None if group == "DEFAULT" else group)
    return conf


def default_files() -> tuple[list[str], list[str]]:
    """Return the files and the directories of files that are read where the command line names none."""
    return (
        cfg.find_config_files(project=config_files.PROJECT, prog=config_files.PROJECT)[:1],
        cfg.find_config_dirs(project=config_files.PROJECT, prog=config_files.PROJECT)[:1],
    )


def config_arguments(conf: cfg.ConfigOpts) -> list[str]:
    """Return the command line arguments that name this configuration's files."""
    arguments = []
    for path in conf.config_file or []:
        arguments += ["--config-file", path]
    for path in conf.config_dir or []:
        arguments += ["--config-dir", path]
    return arguments


def host_settings(conf: cfg.ConfigOpts) -> HostSettings:
    """Return the settings that shape the data plane.

    :raises ConfigError: a mark is no number of 16 bits, or the IPv6 gateway is no link-local address
    """
    return HostSettings(
        host=conf.host,
        mode=_mode(conf),
        random_fully=conf.AGENT.use_random_fully,
        metadata_mark=_mark(conf, "metadata_access_mark"),
        ingress_mark=_mark(conf, "external_ingress_mark"),
        metadata=metadata_wanted(conf),
        metadata_port=conf.metadata_port,
        ipv6_gateway=_ipv6_gateway(conf),
        extensions=_extensions(conf),
        vrrp=_vrrp_settings(conf),
        count_floating_ips=conf.metrics.floating_ips,
    )


def make_settings(conf: cfg.ConfigOpts) -> Settings:
    """Return all settings of a configuration.

    :raises ConfigError: an option has a value that cannot be used; the text names the file too
    """
    try:
        return Settings(
            host=conf.host,
            state_path=Path(conf.state_path),
            files=tuple(config_files.files_of(conf)),
            dataplane=host_settings(conf),
            daemon=_daemon_settings(conf),
            source=source_settings(conf),
            neutron=_neutron_settings(conf),
            attach=attach_settings(conf),
            radvd=_radvd_settings(conf),
            ha=_ha_settings(conf),
            metadata=_metadata_settings(conf),
            metadata_proxy=proxy_settings(conf),
            metrics=_metrics_settings(conf),
            packet_filter=conf.dvr_agent.packet_filter,
        )
    except ConfigError as exc:
        raise ConfigError(config_files.with_file(conf, str(exc))) from exc


def source_settings(conf: cfg.ConfigOpts) -> SourceSettings:
    """Return the settings of the source of router documents."""
    return SourceSettings(
        kind=source_name(conf),
        host=conf.host,
        state_path=conf.state_path,
        directory=conf.directory.path,
        rescan_interval=conf.directory.rescan_interval,
        max_document_size=conf.dvr_agent.max_document_size,
    )


def attach_settings(conf: cfg.ConfigOpts) -> AttachSettings:
    """Return the settings of the attach drivers.

    :raises ConfigError: ``interface_driver`` names no driver
    """
    ovs = OvsSettings(
        integration_bridge=conf.OVS.integration_bridge,
        ovsdb_connection=conf.OVS.ovsdb_connection,
        ovsdb_timeout=conf.OVS.ovsdb_timeout,
        ssl_key_file=conf.OVS.ssl_key_file,
        ssl_cert_file=conf.OVS.ssl_cert_file,
        ssl_ca_cert_file=conf.OVS.ssl_ca_cert_file,
        ovsdb_debug=conf.OVS.ovsdb_debug,
        ovs_use_veth=conf.ovs_use_veth,
    )
    return AttachSettings(_driver_name(conf), dict(conf.bridge.external_networks), ovs)


def source_name(conf: cfg.ConfigOpts) -> str:
    """Return ``directory`` or ``neutron``: the option ``source``, or its default, by ``transport_url``."""
    if conf.dvr_agent.source:
        return str(conf.dvr_agent.source)
    return "neutron" if conf.transport_url else "directory"


def metadata_wanted(conf: cfg.ConfigOpts) -> bool:
    """Return True if instances get metadata: ``enable_metadata_proxy``, or its default, which depends on the source."""
    wanted: bool | None = conf.enable_metadata_proxy
    return source_name(conf) == "neutron" if wanted is None else wanted


def _daemon_settings(conf: cfg.ConfigOpts) -> DaemonSettings:
    return DaemonSettings(
        admin_socket=conf.dvr_agent.admin_socket,
        ready_timeout=conf.dvr_agent.ready_timeout,
        audit_interval=conf.dvr_agent.audit_interval,
        check_services_interval=conf.AGENT.check_child_processes_interval,
        retry=RetryPolicy(conf.dvr_agent.retry_interval, conf.dvr_agent.retry_interval_max),
        allow_mass_removal=conf.dvr_agent.allow_mass_removal,
        history_entries=conf.dvr_agent.history_entries,
        history_file_size=conf.dvr_agent.history_file_size,
        stuck_timeout=conf.dvr_agent.stuck_timeout,
    )


def _neutron_settings(conf: cfg.ConfigOpts) -> NeutronSettings:
    return NeutronSettings(
        config_arguments=tuple(config_arguments(conf)),
        resync_interval=conf.neutron.resync_interval,
        fallback_after=conf.neutron.fallback_after,
        periodic_fuzzy_delay=conf.periodic_fuzzy_delay,
        report_interval=conf.AGENT.report_interval,
        availability_zone=conf.AGENT.availability_zone,
        log_agent_heartbeats=conf.AGENT.log_agent_heartbeats,
        handle_internal_only_routers=conf.handle_internal_only_routers,
        interface_driver=_driver_name(conf),
    )


def _radvd_settings(conf: cfg.ConfigOpts) -> RadvdSettings:
    """Return the settings of radvd.

    :raises ConfigError: radvd takes no such pair of intervals
    """
    if conf.min_rtr_adv_interval > 0.75 * conf.max_rtr_adv_interval:  # radvd.conf(5)
        raise ConfigError(
            f"[DEFAULT] min_rtr_adv_interval = {conf.min_rtr_adv_interval}: expected at most three quarters of "
            f"max_rtr_adv_interval, which is {conf.max_rtr_adv_interval}"
        )
    return RadvdSettings(
        ra_confs=Path(conf.ra_confs),
        external_pids=Path(conf.external_pids),
        user=conf.radvd_user,
        min_interval=conf.min_rtr_adv_interval,
        max_interval=conf.max_rtr_adv_interval,
        on_death=conf.AGENT.check_child_processes_action,
    )


def _ha_settings(conf: cfg.ConfigOpts) -> HaSettings:
    return HaSettings(
        builtin=conf.dvr_agent.ha_vrrp == "builtin",
        control_socket=conf.vrrp.control_socket,
        confs=Path(conf.ha_confs_path),
        external_pids=Path(conf.external_pids),
        on_death=conf.AGENT.check_child_processes_action,
        conntrackd=_conntrackd_settings(conf),
    )


def _conntrackd_settings(conf: cfg.ConfigOpts) -> ConntrackdSettings:
    """Return the settings of conntrackd.

    :raises ConfigError: conntrackd and keepalived cannot have the path of its files in their configuration
    """
    settings = ConntrackdSettings(
        **{one.name: conf[f"ha_conntrackd_{one.name}"] for one in dataclasses.fields(ConntrackdSettings)}
    )
    confs = conf.ha_confs_path
    if settings.enabled and not (_PLAIN_PATH.fullmatch(confs) and len(confs) <= _CONNTRACKD_CONFS_LENGTH):
        raise ConfigError(
            f"[DEFAULT] ha_confs_path = {confs}: with ha_conntrackd_enabled expected an absolute path of letters, "
            f"digits and / . _ + @ : -, at most {_CONNTRACKD_CONFS_LENGTH} characters: conntrackd's control socket is "
            "below it"
        )
    return settings


def _vrrp_settings(conf: cfg.ConfigOpts) -> VrrpSettings:
    """Return what the hosts of HA routers agree on.

    :raises ConfigError: the password has a character that keepalived's configuration cannot have
    """
    password = conf.ha_vrrp_auth_password or ""
    if any(one.isspace() or not one.isprintable() or one in '#!"{}$' for one in password):
        raise ConfigError(
            '[DEFAULT] ha_vrrp_auth_password: expected letters, digits and punctuation other than # ! " { } $ '
            "(its value is not shown)"
        )
    check = max(0, conf.ha_vrrp_health_check_interval)  # Neutron takes a negative one for none
    return VrrpSettings(conf.ha_vrrp_advert_int, VrrpAuth(conf.ha_vrrp_auth_type), password, check)


def _metadata_settings(conf: cfg.ConfigOpts) -> MetadataSettings:
    return MetadataSettings(
        enabled=metadata_wanted(conf),
        port=conf.metadata_port,
        control_socket=conf.metadata_proxy.control_socket,
        external_pids=Path(conf.external_pids),
        haproxy_confs=Path(conf.state_path) / "ns-metadata-proxy",
    )


def _metrics_settings(conf: cfg.ConfigOpts) -> MetricsSettings:
    metrics = conf.metrics
    if metrics.textfile and not (metrics.textfile.startswith("/") and metrics.textfile.endswith(".prom")):
        raise ConfigError(f"[metrics] textfile = {metrics.textfile!r}: expected an absolute path that ends with .prom")
    textfile = Path(metrics.textfile) if metrics.textfile else None
    counted = metrics.floating_ips_interval if metrics.floating_ips else None
    return MetricsSettings(_loopback(metrics.listen), textfile, metrics.textfile_interval, counted)


def _loopback(text: str) -> tuple[str, int] | None:
    """Return (address, port), None for an empty text.

    :raises ConfigError: it is none of the loopback device, which other hosts cannot reach
    """
    if not text:
        return None
    host, _, port = text.rpartition(":")
    with contextlib.suppress(ValueError):
        address = ip_address(host.removeprefix("[").removesuffix("]") if host.startswith("[") else host)
        if address.is_loopback and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return str(address), int(port)
    raise ConfigError(
        f"[metrics] listen = {text!r}: expected address and port of the loopback device, such as 127.0.0.1:9794"
    )


def _driver_name(conf: cfg.ConfigOpts) -> str:
    """Return the attach driver, ``bridge`` or ``openvswitch``.

    :raises ConfigError: ``interface_driver`` names another driver
    """
    name = conf.interface_driver or ("openvswitch" if source_name(conf) == "neutron" else "bridge")
    known = {"bridge": "bridge", "openvswitch": "openvswitch", OVS_DRIVER_CLASS: "openvswitch"}
    if name not in known:
        raise ConfigError(f"[DEFAULT] interface_driver = {name!r}: expected bridge or openvswitch")
    return known[name]


def _mode(conf: cfg.ConfigOpts) -> AgentMode:
    mode = conf.agent_mode
    if mode is None and source_name(conf) == "directory":
        return AgentMode.DVR_SNAT
    if mode in (None, "legacy"):
        raise ConfigError(
            f"[DEFAULT] agent_mode = {mode or '(not set, which is legacy in Neutron)'}: expected dvr, dvr_snat or "
            "dvr_no_external; routers that are not distributed are built with dvr_snat"
        )
    return AgentMode(mode)


def _extensions(conf: cfg.ConfigOpts) -> frozenset[Extension]:
    """Return the extensions that are asked for and served; ``l3_agent_options`` names the others."""
    wanted = {name.strip() for name in conf.AGENT.extensions}
    return frozenset(extension for extension in Extension if extension.value in wanted)


def _ipv6_gateway(conf: cfg.ConfigOpts) -> IPv6Address | None:
    if not conf.ipv6_gateway:
        return None
    with contextlib.suppress(ValueError):
        address = IPv6Address(conf.ipv6_gateway)
        if address.is_link_local and address.scope_id is None:
            return address
    raise ConfigError(
        f"[DEFAULT] ipv6_gateway = {conf.ipv6_gateway!r}: expected a link-local IPv6 address, such as fe80::1"
    )


def _mark(conf: cfg.ConfigOpts, option: str) -> int:
    text = getattr(conf, option)
    try:
        mark = int(text, 0)
    except ValueError:
        mark = -1
    if not 0 < mark <= 0xFFFF:
        raise ConfigError(f"[DEFAULT] {option} = {text!r}: expected a number from 0x1 to 0xffff")
    return mark
