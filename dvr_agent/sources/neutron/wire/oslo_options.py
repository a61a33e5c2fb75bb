"""Options of oslo.messaging, read from the daemon's configuration files: neutron.conf is used as it is.

oslo.messaging registers its options on the configuration object that it is given; it is given one of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Sequence
from typing import Any
from urllib import parse

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts as library_options

from dvr_agent import config_files
from dvr_agent.errors import ConfigError

RABBIT = "oslo_messaging_rabbit"
CONTROL_EXCHANGE = "neutron"
AMQP_PORT = 5672
"""Port of a broker that is named without one (IANA: amqp)."""
MAX_TIMEOUT = cfg.IntOpt("rpc_response_max_timeout", default=600, help="Seconds that a call's time-out never exceeds.")
"""Neutron's option (neutron_lib.rpc): a call that timed out gets twice the time next time, up to this."""

DEFAULTS: dict[str, object] = {"rabbit_retry_backoff": 1, "rabbit_interval_max": 4}
"""Seconds.  oslo.messaging waits up to 30 s between tries (after 2 s more each time): so long after a long outage of
the broker changes would be missed.  Values in the files have precedence."""

UNLISTED = {
    "oslo_messaging_metrics": "oslo_messaging._metrics.client",
    "oslo_messaging_tracing": "oslo_messaging._tracing.client",
}
"""Groups that the library registers on the global configuration only, though every call reads them from the one it was
given, and in which module it keeps them, under the group's name.  Older versions have not all of them."""

QUIET = ("amqp", "kombu")
"""They log what they send, authentication among it, at DEBUG."""


def messaging_options(config_arguments: Sequence[str]) -> cfg.ConfigOpts:
    """Return all options of oslo.messaging as the configuration files set them.

    :param config_arguments: command line arguments that name the files

    :raises ConfigError: one of them cannot be used, or ``transport_url`` is not set
    """
    for name in QUIET:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    options = cfg.ConfigOpts()
    oslo_messaging.set_transport_defaults(CONTROL_EXCHANGE)
    for group, table in _tables():
        options.register_opts(table, group=group)
    options.register_opt(MAX_TIMEOUT)
    for name, value in DEFAULTS.items():
        options.set_default(name, value, group=RABBIT)
    # Values are checked now, not at the first call; the error for a wrong one does not show a secret.
    config_files.parse(options, config_arguments, config_files.PROJECT, default_files=(), default_dirs=())
    if not _is_set(options):
        raise ConfigError("[DEFAULT] transport_url is not set: the message bus of Neutron, as in neutron.conf")
    return options


def secrets_of(options: cfg.ConfigOpts) -> tuple[str, ...]:
    """Return the passwords in ``transport_url``, plain and as they are written in an URL: they must not be logged."""
    found: set[str] = set()
    for chunk in str(options.transport_url or "").split("@")[:-1]:
        password = chunk.rpartition("/")[2].rpartition(",")[2].partition(":")[2]
        found |= {password, parse.unquote(password)}
    return tuple(sorted(filter(None, found), key=len, reverse=True))


def brokers_of(options: cfg.ConfigOpts) -> str:
    """Return ``host:port`` of each broker in ``transport_url``, for messages; nothing else of the URL.

    :raises oslo_messaging.InvalidTransportURL: it is none
    """
    found = []
    for one in oslo_messaging.TransportURL.parse(options).hosts:
        host = (one.hostname or "").rpartition("@")[2]  # a password may hold an @ that should have been written %40
        found.append(f"{f'[{host}]' if ':' in host else host}:{one.port or AMQP_PORT}")
    return hide(", ".join(found), secrets_of(options)) or "no broker"


def hide(text: str, secrets: tuple[str, ...]) -> str:
    """Replace secrets in a text by asterisks."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _tables() -> list[tuple[str | None, list[Any]]]:
    tables: list[tuple[str | None, list[Any]]] = library_options.list_opts()
    for group, module in UNLISTED.items():
        with contextlib.suppress(ImportError):
            tables.append((group, getattr(importlib.import_module(module), group)))
    return tables


def _is_set(options: cfg.ConfigOpts) -> bool:
    """Return True if a file sets ``transport_url``: the default is a broker on this host with a well-known password."""
    where: Any = options.get_location("transport_url")
    return bool(options.transport_url) and where is not None and where.location.is_user_controlled
