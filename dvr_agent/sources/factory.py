"""Opens the source that the configuration names; a new source is added here and in ``dvr_agent.options``."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.config import Settings
from dvr_agent.settings import SourceSettings
from dvr_agent.sources.api import Source
from dvr_agent.sources.directory import DirectorySource
from dvr_agent.sources.refused_documents import documents_path, refusals


def open_source(settings: Settings) -> Source:
    """The configured source, for the daemon; nothing is read and nobody asked yet.

    :raises ConfigError: it cannot be used as it is configured
    """
    if settings.source.kind == "neutron":
        from dvr_agent.sources.neutron.open import open_neutron  # the extra dvr-agent[neutron]

        return open_neutron(settings)
    source = settings.source
    return DirectorySource(source.directory, source.rescan_interval, source.max_document_size)


def open_documents(settings: SourceSettings) -> Source:
    """The documents of the configured source as they lie on this host, for dvrctl.

    With Neutron these are the ones that the daemon keeps: a server is never asked, since asking has side effects there.
    """
    path: str | Path = settings.directory
    if settings.kind == "neutron":
        path = documents_path(settings.state_path, settings.host)
    return DirectorySource(str(path), settings.rescan_interval, settings.max_document_size)


def refused_documents(settings: SourceSettings) -> dict[str, str]:
    """Router id → why its newest document cannot be used, where that document is not among those on this host.

    Neutron's documents are kept while they are good; a directory has the bad ones, too.
    """
    return refusals(documents_path(settings.state_path, settings.host)) if settings.kind == "neutron" else {}
