"""Router documents kept on this host: where they lie.  Who writes and reads them is ``sources.neutron``."""

from __future__ import annotations

from pathlib import Path


def documents_path(state_path: str, host: str) -> Path:
    """Directory of the documents that the neutron source keeps, one ``<router id>.json`` each.

    :param host: several emulated hosts may share a ``state_path`` (tests); their documents differ
    """
    return Path(state_path) / "dvr-agent" / host / "routers"
