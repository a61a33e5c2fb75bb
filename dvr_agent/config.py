"""Configuration options, under Neutron's names where Neutron has one.

``load`` reads files into a :class:`oslo_config.cfg.ConfigOpts` of its own (never the global one);
``host_settings`` turns them into types.  ``list_opts`` feeds oslo-config-generator (``etc/dvr-agent.conf.sample``).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg, types
from oslo_log import log

from dvr_agent import __version__
from dvr_agent.desired.settings import AgentMode, HostSettings
from dvr_agent.errors import ConfigError

DEFAULT_OPTS = [
    cfg.HostAddressOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<host name>",
        help="Name of this host as Neutron knows it (port bindings, gw_port_host).",
    ),
    cfg.StrOpt(
        "state_path",
        default="/var/lib/neutron",
        help="Directory for state files: fip-linklocal-networks and fip-priorities, in Neutron's format.",
    ),
    cfg.StrOpt(
        "agent_mode",
        default=AgentMode.DVR_SNAT.value,
        choices=[
            (AgentMode.DVR.value, "compute node: floating IPs on this host, SNAT elsewhere"),
            (AgentMode.DVR_SNAT.value, "the same, and the SNAT of routers whose gateway is on this host"),
            (AgentMode.DVR_NO_EXTERNAL.value, "compute node without external network: all by the SNAT host"),
        ],
        help="What this host does for distributed routers.",
    ),
    cfg.StrOpt(
        "interface_driver",
        default="bridge",
        choices=[("bridge", "Linux bridges, one per network")],
        help="How router ports are connected to their networks.",
    ),
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
]

AGENT_OPTS = [
    cfg.BoolOpt("use_random_fully", default=True, help="SNAT picks source ports fully at random."),
]

DVR_AGENT_OPTS = [
    cfg.StrOpt(
        "source",
        default="directory",
        choices=[("directory", "router documents in a directory, see [directory]")],
        help="Where router documents come from.",
    ),
    cfg.StrOpt(
        "admin_socket",
        default="/run/dvr-agent/admin.sock",
        help="Unix socket of the admin interface (HTTP; mode 0600); dvrctl status asks here.",
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
        help="Let a full sync remove more than half of the routers (and at least 10). Off, such a removal is "
        "refused and logged, since it looks like a fault of the source; dvrctl cleanup removes by hand.",
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

GROUPS: list[tuple[str, list[Any]]] = [
    ("DEFAULT", DEFAULT_OPTS),
    ("AGENT", AGENT_OPTS),
    ("dvr_agent", DVR_AGENT_OPTS),
    ("directory", DIRECTORY_OPTS),
    ("bridge", BRIDGE_OPTS),
]


def list_opts() -> list[tuple[str, list[Any]]]:
    """All options of this project, for oslo-config-generator."""
    return [(group, list(opts)) for group, opts in GROUPS]


def load(args: Sequence[str], prog: str = "dvr-agent") -> cfg.ConfigOpts:
    """Read the configuration from ``--config-file`` and ``--config-dir`` arguments.

    Without arguments ``/etc/dvr-agent/dvr-agent.conf`` is read if it is there.

    :raises ConfigError: naming the file or the option and its value
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for group, opts in GROUPS:
        conf.register_opts(opts, group=None if group == "DEFAULT" else group)
    try:
        files = cfg.find_config_files(project="dvr-agent", prog="dvr-agent")
        conf(list(args), project="dvr-agent", prog=prog, version=__version__, default_config_files=files[:1])
        for group, opts in GROUPS:
            section = conf if group == "DEFAULT" else conf[group]
            for opt in opts:
                getattr(section, opt.dest)
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(str(exc)) from exc
    return conf


def host_settings(conf: cfg.ConfigOpts) -> HostSettings:
    """The settings that shape the data plane.

    :raises ConfigError: a mark that is no number of 16 bits
    """
    return HostSettings(
        host=conf.host,
        mode=AgentMode(conf.agent_mode),
        random_fully=conf.AGENT.use_random_fully,
        metadata_mark=_mark(conf, "metadata_access_mark"),
        ingress_mark=_mark(conf, "external_ingress_mark"),
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
