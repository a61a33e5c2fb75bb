"""Reads the configuration; the options themselves are in ``dvr_agent.options``.

``load`` reads files into a :class:`oslo_config.cfg.ConfigOpts` of its own (never the global one);
``host_settings`` turns them into types.  ``list_opts`` feeds oslo-config-generator (``etc/dvr-agent.conf.sample``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Any

from oslo_config import cfg
from oslo_log import log

from dvr_agent import config_files
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import ConfigError
from dvr_agent.options import GROUPS

OVS_DRIVER_CLASS = "neutron.agent.linux.interface.OVSInterfaceDriver"
"""Neutron's long name of its Open vSwitch driver, found in old configuration files."""

TRANSPORT_URL = cfg.StrOpt("transport_url", secret=True, help="Message bus; the whole set of options: oslo.messaging.")
"""Only to see whether it is set: oslo.messaging registers its own options in a configuration of its own."""


def list_opts() -> list[tuple[str, list[Any]]]:
    """All options of this project, for oslo-config-generator."""
    return [(group, list(opts)) for group, opts in GROUPS]


def load(args: Sequence[str], prog: str = "dvr-agent") -> cfg.ConfigOpts:
    """Read the configuration from ``--config-file`` and ``--config-dir`` arguments.

    Without arguments ``/etc/dvr-agent/dvr-agent.conf`` is read if it is there.

    :raises ConfigError: naming the file, and the option with its value
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.register_opt(TRANSPORT_URL)
    for group, opts in GROUPS:
        conf.register_opts(opts, group=None if group == "DEFAULT" else group)
    config_files.parse(
        conf,
        args,
        prog,
        cfg.find_config_files(project=config_files.PROJECT, prog=config_files.PROJECT)[:1],
        cfg.find_config_dirs(project=config_files.PROJECT, prog=config_files.PROJECT)[:1],
    )
    return conf


def config_arguments(conf: cfg.ConfigOpts) -> list[str]:
    """The command line arguments that name this configuration's files."""
    arguments = []
    for path in conf.config_file or []:
        arguments += ["--config-file", path]
    for path in conf.config_dir or []:
        arguments += ["--config-dir", path]
    return arguments


def host_settings(conf: cfg.ConfigOpts) -> HostSettings:
    """The settings that shape the data plane.

    :raises ConfigError: a mark that is no number of 16 bits, or a gateway that is no link-local address
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
    )


def check(conf: cfg.ConfigOpts) -> None:
    """Look at what is not checked when the files are read.

    :raises ConfigError: as :func:`host_settings` and :func:`driver_name`; the text names the file too
    """
    try:
        host_settings(conf)
        driver_name(conf)
    except ConfigError as exc:
        raise ConfigError(config_files.with_file(conf, str(exc))) from exc


def source_name(conf: cfg.ConfigOpts) -> str:
    """``directory`` or ``neutron``: what is configured, or what the rest of the configuration shows."""
    if conf.dvr_agent.source:
        return str(conf.dvr_agent.source)
    return "neutron" if conf.transport_url else "directory"


def driver_name(conf: cfg.ConfigOpts) -> str:
    """``bridge`` or ``openvswitch``.

    :raises ConfigError: another one
    """
    name = conf.interface_driver or ("openvswitch" if source_name(conf) == "neutron" else "bridge")
    known = {"bridge": "bridge", "openvswitch": "openvswitch", OVS_DRIVER_CLASS: "openvswitch"}
    if name not in known:
        raise ConfigError(f"[DEFAULT] interface_driver = {name!r}: expected bridge or openvswitch")
    return known[name]


def metadata_wanted(conf: cfg.ConfigOpts) -> bool:
    """``enable_metadata_proxy``, or what the rest of the configuration shows."""
    wanted: bool | None = conf.enable_metadata_proxy
    return source_name(conf) == "neutron" if wanted is None else wanted


def _mode(conf: cfg.ConfigOpts) -> AgentMode:
    mode = conf.agent_mode
    if mode is None and source_name(conf) == "directory":
        return AgentMode.DVR_SNAT
    if mode in (None, "legacy"):
        raise ConfigError(
            f"[DEFAULT] agent_mode = {mode or '(not set, which is legacy in Neutron)'}: expected dvr, dvr_snat or "
            "dvr_no_external; this agent does distributed routers only"
        )
    return AgentMode(mode)


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
