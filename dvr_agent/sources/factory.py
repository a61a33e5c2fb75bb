"""Opens the source that the configuration names; a new source is added here and in ``dvr_agent.options``."""

from __future__ import annotations

from oslo_config import cfg

from dvr_agent.config import source_name
from dvr_agent.sources.api import Source
from dvr_agent.sources.directory import DirectorySource
from dvr_agent.sources.refused_documents import documents_path, refusals


def open_source(conf: cfg.ConfigOpts) -> Source:
    """The configured source, for the daemon; nothing is read and nobody asked yet.

    :raises ConfigError: it cannot be used as it is configured
    """
    if source_name(conf) == "neutron":
        from dvr_agent.sources.neutron.open import open_neutron  # the extra dvr-agent[neutron]

        return open_neutron(conf)
    return DirectorySource(conf.directory.path, conf.directory.rescan_interval, conf.dvr_agent.max_document_size)


def open_documents(conf: cfg.ConfigOpts) -> Source:
    """The documents of the configured source as they lie on this host, for dvrctl.

    With Neutron these are the ones that the daemon keeps: a server is never asked, since asking has side effects there.
    """
    path = conf.directory.path
    if source_name(conf) == "neutron":
        path = documents_path(conf.state_path, conf.host)
    return DirectorySource(str(path), conf.directory.rescan_interval, conf.dvr_agent.max_document_size)


def refused_documents(conf: cfg.ConfigOpts) -> dict[str, str]:
    """Router id → why its newest document cannot be used, where that document is not among those on this host.

    Neutron's documents are kept while they are good; a directory has the bad ones, too.
    """
    return refusals(documents_path(conf.state_path, conf.host)) if source_name(conf) == "neutron" else {}
