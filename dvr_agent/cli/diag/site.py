"""What ``dvrctl diag`` knows of this host before it collects: configuration, admin socket, router, namespaces.

A configuration that cannot be used is no obstacle: then the defaults count, and the archive says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from oslo_config import cfg

from dvr_agent import config, config_files, options
from dvr_agent.cli.subjects import find_router
from dvr_agent.desired import names
from dvr_agent.errors import ConfigError, DvrError
from dvr_agent.kernel.netns import NETNS_DIR
from dvr_agent.sources.cached_documents import documents_path


@dataclass
class Site:
    """This host.

    :ivar arguments: command line arguments that name the configuration files
    :ivar router: id of the only router that is asked for; empty: all
    :ivar conf: None where the configuration cannot be used
    :ivar error: why it cannot
    """

    arguments: Sequence[str]
    router: str = ""
    conf: cfg.ConfigOpts | None = None
    error: str = ""
    namespaces: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The configuration files."""
        if self.conf is not None:
            return config_files.files_of(self.conf)
        prog = config_files.PROJECT
        found, dirs = cfg.find_config_files(project=prog, prog=prog), cfg.find_config_dirs(project=prog, prog=prog)
        return config_files.files_named(self.arguments, found[:1], dirs[:1])

    @property
    def host(self) -> str:
        """Name of the host, as Neutron knows it."""
        return str(self._value("host", None))

    @property
    def state_path(self) -> Path:
        """``state_path``."""
        return Path(str(self._value("state_path", None)))

    @property
    def socket(self) -> str:
        """Path of the admin socket."""
        return str(self._value("admin_socket", "dvr_agent"))

    @cached_property
    def documents(self) -> Path:
        """The directory of router documents."""
        if self.conf is not None and config.source_name(self.conf) == "neutron":
            return documents_path(str(self.state_path), self.host)
        return Path(str(self._value("path", "directory")))

    @property
    def log_file(self) -> Path | None:
        """The log file, None if the log goes to stdout or the journal."""
        if self.conf is None or not (self.conf.log_file or self.conf.log_dir):
            return None
        return Path(self.conf.log_dir or "", self.conf.log_file or f"{config_files.PROJECT}.log")

    @property
    def has_openvswitch(self) -> bool:
        """True if Open vSwitch is configured."""
        try:
            return self.conf is not None and config.attach_settings(self.conf).driver == "openvswitch"
        except ConfigError:
            return False

    def path(self, option: str) -> Path:
        """Return an option of ``[DEFAULT]`` that is a path."""
        return Path(str(self._value(option, None)))

    def _value(self, option: str, group: str | None) -> object:
        """Return the value of an option, its default where the configuration cannot be used."""
        if self.conf is not None:
            return getattr(getattr(self.conf, group) if group else self.conf, option)
        table = dict(options.GROUPS)[group or "DEFAULT"]
        text = next(one.default for one in table if one.dest == option)
        return str(text).replace("$state_path", str(options.STATE_PATH.default))


def open_site(arguments: Sequence[str], router: str) -> Site:
    """Look at this host.

    :param router: what names a router (``subjects.find_router``); empty: all routers
    :raises NotFoundError: there is no such router, or there are several
    """
    conf, error = None, ""
    try:
        conf = config.load(arguments, prog="dvrctl")
        config.make_settings(conf)
    except ConfigError as exc:
        error = str(exc)
    site = Site(arguments, conf=conf, error=error)
    found = _namespaces()
    if router:
        site.router = _resolve(site, router, found)
        # A fip namespace belongs to all routers of its network.
        found = [one for one in found if one.startswith(names.FIP) or one.endswith(site.router)]
    site.namespaces = found
    return site


def _namespaces() -> list[str]:
    try:
        return sorted(name for name in os.listdir(NETNS_DIR) if names.parse_namespace(name))
    except OSError:
        return []


def _resolve(site: Site, text: str, namespaces: list[str]) -> str:
    known = {parsed[1]: "" for name in namespaces if (parsed := names.parse_namespace(name)) and parsed[0] != names.FIP}
    return find_router(text, known | _documents(site))


def _documents(site: Site) -> dict[str, str]:
    """Return router id → name, as far as documents can be read."""
    from dvr_agent.cli.inputs import read_source

    if site.conf is None:
        return {}
    try:
        documents = read_source(site.conf)
    except DvrError:
        return {}
    return dict.fromkeys(documents.known, "") | documents.names()
