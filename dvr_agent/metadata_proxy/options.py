"""Options of dvr-metadata-proxy, which reads a configuration file only if ``--config-file`` names one.

Its settings come from the agent, over the control socket (``dvr_agent.metadata.settings``): the user of the proxy must
not read the files in /etc/dvr-agent, which may be links to Neutron's files with secrets.  A file is needed where
``[metadata_proxy] control_socket`` is not the default; other options in it apply until the agent sends its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log

from dvr_agent import config_files
from dvr_agent.metadata.settings import ProxySettings, proxy_settings
from dvr_agent.options import (
    METADATA_HAPROXY_OPTS,
    METADATA_PROXY_OPTS,
    METADATA_PROXY_SOCKET,
    METADATA_RATE_LIMITING_OPTS,
    STATE_PATH,
)

PROG = "dvr-metadata-proxy"
GROUPS: list[tuple[str | None, list[Any]]] = [
    (None, [STATE_PATH, METADATA_PROXY_SOCKET]),
    ("metadata_proxy", METADATA_PROXY_OPTS),
    ("metadata_rate_limiting", METADATA_RATE_LIMITING_OPTS),
    ("metadata_haproxy", METADATA_HAPROXY_OPTS),
]


def load(args: Sequence[str]) -> tuple[cfg.ConfigOpts, ProxySettings]:
    """Read the command line, and the files that it names.

    :raises ConfigError: naming the file, and the option with its value
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for group, opts in GROUPS:
        conf.register_opts(opts, group=group)
    config_files.parse(conf, args, PROG, default_files=(), default_dirs=())
    return conf, proxy_settings(conf)
