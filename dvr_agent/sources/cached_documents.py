"""The directory in which ``sources.neutron`` caches router documents: its path, file names, and notes about refusals.

``sources.neutron`` writes the files (``store.document_cache``) and reads them at a start without the server
(``fallback``); dvrctl reads them too, without the extra ``dvr-agent[neutron]``.
"""

from __future__ import annotations

import os
from pathlib import Path

from dvr_agent.errors import DocumentError
from dvr_agent.model.reader import printable
from dvr_agent.model.values import canonical_id
from dvr_agent.securedirs import open_directory
from dvr_agent.sources import files

SUFFIX = ".json"
"""Suffix of the newest good document of a router."""
REFUSED = ".refused"
"""Suffix of a text file that says why the router's newest document cannot be used; an older one may be cached."""
MARKER = ".complete"
"""Name of an empty file; its modification time is the time of the last complete set of documents."""
_REASON_LENGTH = 4096


def documents_path(state_path: str, host: str) -> Path:
    """Return the directory in which the neutron source caches documents, one ``<router id>.json`` each.

    :param host: several emulated hosts may share a ``state_path`` (tests); their documents differ
    """
    return Path(state_path) / "dvr-agent" / host / "routers"


def refusals(path: Path) -> dict[str, str]:
    """Return why the newest document of a router was refused, by router id.

    :param path: the directory; the result is empty if it is missing or cannot be read
    """
    try:
        directory = open_directory(path)
    except OSError:
        return {}
    try:
        names = [name for name in os.listdir(directory) if name.endswith(REFUSED)]
        found = {canonical_id(name.removesuffix(REFUSED)): _reason(name, directory) for name in names}
    except OSError:
        return {}
    finally:
        os.close(directory)
    return {router_id: reason for router_id, reason in found.items() if router_id is not None}


def _reason(name: str, directory: int) -> str:
    unknown = "the reason is not known"
    if files.is_link(name, directory):
        return unknown
    try:
        found = files.read(name, directory, _REASON_LENGTH)
    except (DocumentError, OSError):
        return unknown
    text = found.data.decode("utf-8", "replace") if found is not None else ""
    return printable(text, _REASON_LENGTH) or unknown
