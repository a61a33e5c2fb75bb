"""Opens the source that the configuration names; a new source is added here and in ``dvr_agent.config``."""

from __future__ import annotations

from oslo_config import cfg

from dvr_agent.sources.api import Source
from dvr_agent.sources.directory import DirectorySource


def open_source(conf: cfg.ConfigOpts) -> Source:
    """The configured source; nothing is read yet."""
    return DirectorySource(conf.directory.path, conf.dvr_agent.max_document_size)
