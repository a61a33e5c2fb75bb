"""Makes the neutron source from the configuration; ``dvr_agent.sources.factory`` and ``one_shot`` call it."""

from __future__ import annotations

import logging
import os
import warnings

from dvr_agent.config import Settings
from dvr_agent.desired import names
from dvr_agent.errors import ConfigError
from dvr_agent.kernel.netns import NETNS_DIR
from dvr_agent.sources.api import Source
from dvr_agent.sources.cached_documents import documents_path
from dvr_agent.sources.neutron.api import Bus
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.source import NeutronSource

EXTRA = "pip install 'dvr-agent[neutron]'"


def open_neutron(settings: Settings) -> Source:
    """Make the source; it connects at its first ``rescan``.

    :raises ConfigError: the extra is not installed, or the message bus is not configured
    """
    return NeutronSource(open_bus(settings), settings.dataplane, neutron_options(settings))


def open_bus(settings: Settings) -> Bus:
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
    return oslo_bus.open_bus(settings.neutron, settings.host)


def neutron_options(settings: Settings) -> NeutronOptions:
    """Return the settings of the source."""
    neutron, source = settings.neutron, settings.source
    return NeutronOptions(
        resync_interval=neutron.resync_interval,
        fallback_after=neutron.fallback_after,
        jitter=neutron.periodic_fuzzy_delay,
        report_interval=neutron.report_interval,
        availability_zone=neutron.availability_zone,
        log_agent_heartbeats=neutron.log_agent_heartbeats,
        handle_internal_only_routers=neutron.handle_internal_only_routers,
        interface_driver=neutron.interface_driver,
        documents=documents_path(source.state_path, source.host),
        max_document_size=source.max_document_size,
        has_booted=not _has_routers(),
    )


def _has_routers() -> bool:
    """Return True if this host has a namespace of a router; where that cannot be told, too."""
    try:
        return any(name.startswith(names.QROUTER) for name in os.listdir(NETNS_DIR))
    except FileNotFoundError:
        return False
    except OSError:
        return True
