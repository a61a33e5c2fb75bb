"""The directory of an HA router below ``ha_confs_path``: keepalived and conntrackd each have files in it."""

from __future__ import annotations

from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import ServiceError

PRIMARY, BACKUP = "primary", "backup"
"""What a file says of the state of this host."""
CONNTRACKD = "conntrackd."
"""The names of conntrackd's files begin so; all others are keepalived's."""
CONNTRACKD_CONFIG = "conntrackd.conf"


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
