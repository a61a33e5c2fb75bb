"""Settings of dvr-metadata-proxy: the agent reads them from files with secrets, and sends them to the proxy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from dvr_agent.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: so many requests of one client in so many seconds."""

    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Settings of the proxy, named and explained as the options (``dvr_agent.options``): seconds and bytes.

    :ivar upstream: path of neutron-metadata-agent's Unix socket (``metadata_proxy_socket``)
    :ivar rates: base and burst; empty without rate limiting
    :ivar limited_versions: the IP versions that ``rates`` are for
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
    rates: tuple[Rate, ...] = ()
    limited_versions: tuple[int, ...] = (4,)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as :meth:`from_json` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: object) -> ProxySettings:
        """Read settings that :meth:`to_json` wrote.

        :raises ServiceError: a value is missing, unknown, or of a wrong type
        """
        if not isinstance(values, dict) or set(values) != {field.name for field in dataclasses.fields(cls)}:
            raise ServiceError("these are not the settings of this version of dvr-metadata-proxy")
        plain = {key: value for key, value in values.items() if key not in ("rates", "limited_versions")}
        numbers = [value for key, value in plain.items() if key != "upstream"]
        try:
            rates = tuple(Rate(int(rate["requests"]), int(rate["seconds"])) for rate in values["rates"])
            versions = tuple(int(version) for version in values["limited_versions"])
        except (TypeError, ValueError, KeyError) as exc:
            raise ServiceError("settings of dvr-metadata-proxy: rates or limited_versions are wrong") from exc
        if not isinstance(plain["upstream"], str) or not all(_is_number(number) for number in numbers):
            raise ServiceError("settings of dvr-metadata-proxy: a value of a wrong type")
        return cls(**plain, rates=rates, limited_versions=versions)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def proxy_settings(conf: cfg.ConfigOpts) -> ProxySettings:
    """Return the settings of the proxy, from the agent's configuration."""
    own, times, limiting = conf.metadata_proxy, conf.metadata_haproxy, conf.metadata_rate_limiting
    rates = (
        Rate(limiting.base_query_rate_limit, limiting.base_window_duration),
        Rate(limiting.burst_query_rate_limit, limiting.burst_window_duration),
    )
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
        rates=rates if limiting.rate_limit_enabled else (),
        limited_versions=tuple(map(int, limiting.ip_versions)),
    )
