"""The directory of an HA router below ``ha_confs_path``: keepalived and conntrackd each have files in it."""

from __future__ import annotations

from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import ServiceError

FILE_BYTES = 4 * 1024 * 1024
PRIMARY, BACKUP = "primary", "backup"
"""What a file says of the state of this host."""
CONNTRACKD = "conntrackd."
"""The names of conntrackd's files begin so; all others are keepalived's."""
CONNTRACKD_CONFIG = "conntrackd.conf"


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


def remove_files(directory: Path, of_conntrackd: bool) -> None:
    """Remove the files of one of the two programs, and the directory if the other one has none in it.

    :raises ServiceError: naming the directory
    """
    try:
        names = securefiles.names(directory)
        ours = [name for name in names if name.startswith(CONNTRACKD) == of_conntrackd]
        for name in ours:
            securefiles.remove(directory / name)
        if len(ours) == len(names):
            securefiles.remove_directory(directory)
    except OSError as exc:
        raise ServiceError(f"{directory} cannot be removed: {exc.strerror}") from exc


def routers_with_files(confs: Path) -> set[str]:
    """Return the names of routers' files, which are router ids if they are of this agent or of neutron-l3-agent."""
    try:
        found = securefiles.names(confs)
    except OSError:
        return set()
    return {name.partition(".pid.")[0] for name in found}
