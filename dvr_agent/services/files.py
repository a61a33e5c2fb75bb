"""Reads, writes and removes the files of helper processes; errors name the file.  Used by all services."""

from __future__ import annotations

from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import ServiceError

FILE_BYTES = 4 * 1024 * 1024


def read_text(path: Path) -> str:
    """Return the text of a file, empty if it cannot be read."""
    try:
        return securefiles.read(path, FILE_BYTES).data.decode(errors="replace")
    except OSError:
        return ""


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file as a whole.

    :raises ServiceError: naming the file
    """
    try:
        securefiles.replace(path, text.encode(), mode)
    except OSError as exc:
        raise ServiceError(f"{path} cannot be written: {exc.strerror}") from exc


def remove_file(path: Path) -> None:
    """Remove a file, if it exists.

    :raises ServiceError: naming the file
    """
    try:
        securefiles.remove(path)
    except OSError as exc:
        raise ServiceError(f"{path} cannot be removed: {exc.strerror}") from exc


def make_directory(path: Path) -> None:
    """Make a directory and its parents; each gets the owner of its parent, since neutron-l3-agent writes there too.

    :raises ServiceError: naming the directory
    """
    try:
        securefiles.ensure_directory(path)
    except OSError as exc:
        raise ServiceError(f"{path} cannot be made: {exc.strerror}") from exc
