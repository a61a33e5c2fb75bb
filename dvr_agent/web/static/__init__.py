"""The files of the page.  All are read at the start: the process that serves them may open none later."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class File(NamedTuple):
    """One file: its Content-Type and its content."""

    type: str
    data: bytes


Files = Mapping[str, File]


def read_files() -> Files:
    """Return path of the URL → file; ``/`` is the page."""
    found = {}
    for entry in resources.files(__name__).iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in TYPES:
            found[f"/{entry.name}"] = File(TYPES[suffix], entry.read_bytes())
    found["/"] = found.pop("/index.html")
    return found
