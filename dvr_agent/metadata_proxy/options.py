"""What dvr-metadata-proxy reads from a configuration file, if it is given one: where its control socket is.

What else is in there, it goes by until the agent tells it otherwise (``dvr_agent.services.metadata.settings``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log

from dvr_agent import __version__
from dvr_agent.errors import ConfigError
from dvr_agent.options import (
    METADATA_HAPROXY_OPTS,
    METADATA_PROXY_OPTS,
    METADATA_PROXY_SOCKET,
    METADATA_RATE_LIMITING_OPTS,
    STATE_PATH,
)
from dvr_agent.services.metadata.settings import ProxySettings, proxy_settings

PROG = "dvr-metadata-proxy"
GROUPS: list[tuple[str | None, list[Any]]] = [
    (None, [STATE_PATH, METADATA_PROXY_SOCKET]),
    ("metadata_proxy", METADATA_PROXY_OPTS),
    ("metadata_rate_limiting", METADATA_RATE_LIMITING_OPTS),
    ("metadata_haproxy", METADATA_HAPROXY_OPTS),
]


def load(args: Sequence[str]) -> tuple[cfg.ConfigOpts, ProxySettings]:
    """Read the configuration.

    :raises ConfigError: naming the file or the option and its value
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for group, opts in GROUPS:
        conf.register_opts(opts, group=group)
    try:
        files = cfg.find_config_files(project="dvr-agent", prog="dvr-agent")
        conf(list(args), project="dvr-agent", prog=PROG, version=__version__, default_config_files=files[:1])
        return conf, proxy_settings(conf)
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(str(exc)) from exc
