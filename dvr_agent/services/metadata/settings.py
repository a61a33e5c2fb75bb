"""What dvr-metadata-proxy goes by.  The agent reads it in the configuration, which may hold secrets, and tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from dvr_agent.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests of one client in so many seconds."""

    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Times are in seconds, sizes in bytes.  The options of the same names say more (``dvr_agent.options``).

    :ivar upstream: path of neutron-metadata-agent's Unix socket
    :ivar limited: IP versions whose clients are limited; empty: none is
    :ivar base: in addition to ``burst``
    """

    upstream: str
    connections_per_client: int = 32
    connections_per_router: int = 512
    requests_per_router: int = 8
    max_header_size: int = 16384
    max_body_size: int = 65536
    timeout_connect: float = 30
    timeout_client: float = 32
    timeout_server: float = 32
    timeout_http_request: float = 30
    timeout_http_keep_alive: float = 30
    limited: tuple[int, ...] = ()
    base: Rate = Rate(10, 10)
    burst: Rate = Rate(10, 10)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ProxySettings:
        """
        :raises ServiceError: a value is missing, unknown, or of a wrong type
        """
        try:
            whole = {key: value for key, value in values.items() if key not in ("limited", "base", "burst")}
            found = cls(
                **whole,
                limited=tuple(int(version) for version in values["limited"]),
                base=Rate(**values["base"]),
                burst=Rate(**values["burst"]),
            )
        except (TypeError, ValueError, KeyError) as exc:
            raise ServiceError(f"these are no settings of the metadata proxy: {exc}") from exc
        numbers = (value for key, value in whole.items() if key != "upstream")
        if not isinstance(found.upstream, str) or not all(isinstance(value, int | float) for value in numbers):
            raise ServiceError("these are no settings of the metadata proxy: a value of a wrong type")
        return found


def proxy_settings(conf: cfg.ConfigOpts) -> ProxySettings:
    """The part of the configuration that the proxy goes by."""
    own, times, rates = conf.metadata_proxy, conf.metadata_haproxy, conf.metadata_rate_limiting
    return ProxySettings(
        upstream=conf.metadata_proxy_socket,
        connections_per_client=own.connections_per_client,
        connections_per_router=own.connections_per_router,
        requests_per_router=own.requests_per_router,
        max_header_size=own.max_header_size,
        max_body_size=own.max_body_size,
        timeout_connect=times.timeout_connect,
        timeout_client=times.timeout_client,
        timeout_server=times.timeout_server,
        timeout_http_request=times.timeout_http_request,
        timeout_http_keep_alive=times.timeout_http_keep_alive,
        limited=tuple(rates.ip_versions) if rates.rate_limit_enabled else (),
        base=Rate(rates.base_query_rate_limit, rates.base_window_duration),
        burst=Rate(rates.burst_query_rate_limit, rates.burst_window_duration),
    )
