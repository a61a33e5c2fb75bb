"""What dvr-metadata-proxy reads from the configuration, which it shares with the agent.

Only the options that it needs are registered: whatever else stands in the file is the agent's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

PROG = "dvr-metadata-proxy"
GROUPS: list[tuple[str | None, list[Any]]] = [
    (None, [STATE_PATH, METADATA_PROXY_SOCKET]),
    ("metadata_proxy", METADATA_PROXY_OPTS),
    ("metadata_rate_limiting", METADATA_RATE_LIMITING_OPTS),
    ("metadata_haproxy", METADATA_HAPROXY_OPTS),
]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests of one client in a window of so many seconds."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All options, under the names of ``dvr_agent.options``; times in seconds, sizes in bytes.

    :ivar upstream: path of neutron-metadata-agent's socket (``metadata_proxy_socket``)
    :ivar rates: base and burst; empty without rate limiting
    :ivar limited_versions: the IP versions that ``rates`` are for
    """

    control_socket: str
    upstream: str
    connections_per_client: int
    connections_per_router: int
    requests_per_router: int
    max_header_size: int
    max_body_size: int
    rates: tuple[Rate, ...]
    limited_versions: frozenset[int]
    timeout_connect: float
    timeout_client: float
    timeout_server: float
    timeout_http_request: float
    timeout_http_keep_alive: float


def load(args: Sequence[str]) -> tuple[cfg.ConfigOpts, Settings]:
    """Read the configuration; the first result is for oslo.log.

    :raises ConfigError: naming the file or the option and its value
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for group, opts in GROUPS:
        conf.register_opts(opts, group=group)
    try:
        files = cfg.find_config_files(project="dvr-agent", prog="dvr-agent")
        conf(list(args), project="dvr-agent", prog=PROG, version=__version__, default_config_files=files[:1])
        return conf, _settings(conf)
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(str(exc)) from exc


def _settings(conf: cfg.ConfigOpts) -> Settings:
    proxy, limiting, times = conf.metadata_proxy, conf.metadata_rate_limiting, conf.metadata_haproxy
    rates = (
        Rate(limiting.base_query_rate_limit, limiting.base_window_duration),
        Rate(limiting.burst_query_rate_limit, limiting.burst_window_duration),
    )
    versions = frozenset(map(int, limiting.ip_versions))
    return Settings(
        control_socket=proxy.control_socket,
        upstream=conf.metadata_proxy_socket,
        connections_per_client=proxy.connections_per_client,
        connections_per_router=proxy.connections_per_router,
        requests_per_router=proxy.requests_per_router,
        max_header_size=proxy.max_header_size,
        max_body_size=proxy.max_body_size,
        rates=rates if limiting.rate_limit_enabled else (),
        limited_versions=versions,
        timeout_connect=times.timeout_connect,
        timeout_client=times.timeout_client,
        timeout_server=times.timeout_server,
        timeout_http_request=times.timeout_http_request,
        timeout_http_keep_alive=times.timeout_http_keep_alive,
    )
