"""Router documents kept on this host: where they lie, and of which routers there is a newer one that cannot be used.

Who writes and reads the documents is ``sources.neutron``.
"""

from __future__ import annotations

import os
from pathlib import Path

from dvr_agent.errors import DocumentError
from dvr_agent.model import values
from dvr_agent.model.reader import Invalid, printable
from dvr_agent.securedirs import open_directory
from dvr_agent.sources import files

REFUSED = ".refused"
"""Ending of a file beside the document of a router, or in its place: why the newest document cannot be used."""
_REASON_LENGTH = 4096


def documents_path(state_path: str, host: str) -> Path:
    """Directory of the documents that the neutron source keeps, one ``<router id>.json`` each.

    :param host: several emulated hosts may share a ``state_path`` (tests); their documents differ
    """
    return Path(state_path) / "dvr-agent" / host / "routers"


def refusals(path: Path) -> dict[str, str]:
    """Router id → why its newest document cannot be used, of the routers that keep an older one or have none.

    :param path: the directory; one that is missing or cannot be read tells nothing
    """
    try:
        directory = open_directory(path)
    except OSError:
        return {}
    try:
        names = [name for name in os.listdir(directory) if name.endswith(REFUSED)]
        found = {_router_id(name): _reason(name, directory) for name in names}
    except OSError:
        return {}
    finally:
        os.close(directory)
    return {router_id: reason for router_id, reason in found.items() if router_id is not None}


def _router_id(name: str) -> str | None:
    try:
        return values.uuid(name.removesuffix(REFUSED), None)
    except Invalid:
        return None


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
