"""Makes the neutron source of the configuration; ``dvr_agent.sources.factory`` calls it."""

from __future__ import annotations

import logging
import warnings

from oslo_config import cfg

from dvr_agent.config import driver_name, host_settings
from dvr_agent.errors import ConfigError
from dvr_agent.sources.api import Source
from dvr_agent.sources.neutron.api import Bus
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.source import NeutronSource
from dvr_agent.sources.refused_documents import documents_path

EXTRA = "pip install 'dvr-agent[neutron]'"


def open_neutron(conf: cfg.ConfigOpts) -> Source:
    """Make the source; it connects at its first ``rescan``.

    :raises ConfigError: the extra is not installed, or the message bus is not configured
    """
    return NeutronSource(open_bus(conf), host_settings(conf), neutron_options(conf))


def open_bus(conf: cfg.ConfigOpts) -> Bus:
    """Make the message bus; it is not connected yet.

    :raises ConfigError: the extra is not installed, or the message bus is not configured
    """
    try:
        with warnings.catch_warnings():
            # The library imports classes made for eventlet too, which warn; none of them is used here.
            warnings.simplefilter("ignore", DeprecationWarning)
            logging.getLogger("oslo_service").setLevel(logging.WARNING)
            from dvr_agent.sources.neutron.wire import oslo_bus
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("dvr_agent"):
            raise
        raise ConfigError(f"[dvr_agent] source = neutron needs the module {exc.name}: {EXTRA}") from exc
    return oslo_bus.open_bus(conf)


def neutron_options(conf: cfg.ConfigOpts) -> NeutronOptions:
    """Return the settings of the source."""
    return NeutronOptions(
        resync_interval=conf.neutron.resync_interval,
        fallback_after=conf.neutron.fallback_after,
        jitter=conf.periodic_fuzzy_delay,
        report_interval=conf.AGENT.report_interval,
        availability_zone=conf.AGENT.availability_zone,
        log_agent_heartbeats=conf.AGENT.log_agent_heartbeats,
        handle_internal_only_routers=conf.handle_internal_only_routers,
        interface_driver=driver_name(conf),
        documents=documents_path(conf.state_path, conf.host),
        max_document_size=conf.dvr_agent.max_document_size,
    )
