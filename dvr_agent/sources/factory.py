"""Opens the source that the configuration names; a new source is added here and in ``dvr_agent.options``."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.config import Settings
from dvr_agent.settings import SourceSettings
from dvr_agent.sources.api import Source
from dvr_agent.sources.cached_documents import documents_path, refusals
from dvr_agent.sources.directory import DirectorySource


def open_source(settings: Settings) -> Source:
    """Open the configured source for the daemon; it reads nothing and connects to nothing before its first ``rescan``.

    :raises ConfigError: it cannot be used as it is configured
    """
    if settings.source.kind == "neutron":
        from dvr_agent.sources.neutron.open import open_neutron  # the extra dvr-agent[neutron]

        return open_neutron(settings)
    source = settings.source
    return DirectorySource(source.directory, source.rescan_interval, source.max_document_size)


def open_documents(settings: SourceSettings) -> Source:
    """Open the documents of the configured source that are on this host, for dvrctl.

    With Neutron these are the cached documents: neutron-server is never asked, since it schedules
    routers and binds ports when it is asked.
    """
    path: str | Path = settings.directory
    if settings.kind == "neutron":
        path = documents_path(settings.state_path, settings.host)
    return DirectorySource(str(path), settings.rescan_interval, settings.max_document_size)


def refused_documents(settings: SourceSettings) -> dict[str, str]:
    """Return, by router id, why the newest document of neutron-server was refused, so that an older one is cached.

    Empty for a directory: its bad documents are files in it, and :func:`open_documents` reports them.
    """
    return refusals(documents_path(settings.state_path, settings.host)) if settings.kind == "neutron" else {}
