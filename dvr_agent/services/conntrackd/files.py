"""The files of one router's conntrackd, below ``ha_confs_path``, as neutron-l3-agent names them."""

from __future__ import annotations

import os
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.services.files import make_directory, read_text, remove_file, write
from dvr_agent.services.ha_files import BACKUP, CONNTRACKD, CONNTRACKD_CONFIG, PRIMARY, remove_files


class ConntrackdFiles:
    """The files of one router.

    :ivar config: configuration of conntrackd
    :ivar control: its control socket
    :ivar lock: is there from its start to its end; a stale one keeps it from starting
    :ivar pid: its process id, written by the agent
    """

    def __init__(self, confs: Path, router_id: str) -> None:
        self._directory = confs / router_id
        self.config = self._directory / CONNTRACKD_CONFIG
        self.control, self.lock, self.pid, self._marker, self._told = (
            self._directory / f"{CONNTRACKD}{one}" for one in ("ctl", "lock", "pid", "unread", "told")
        )

    @property
    def text(self) -> str:
        """The configuration, empty if there is none."""
        return read_text(self.config)

    @property
    def is_unread(self) -> bool:
        """True from before a configuration is written until conntrackd has begun with it and asked for connections."""
        return os.path.lexists(self._marker)

    @property
    def told(self) -> str:
        """State of this host that the agent last told conntrackd of; empty: none, keepalived tells it."""
        return read_text(self._told)

    @property
    def exist(self) -> bool:
        """True if the router has any file of conntrackd."""
        if not os.path.lexists(self._directory):  # quick, for all routers that are none of VRRP's
            return False
        try:
            return any(name.startswith(CONNTRACKD) for name in securefiles.names(self._directory))
        except OSError:
            return False

    def write(self, text: str) -> None:
        """Replace the configuration as a whole, and note that conntrackd has not read it.

        :raises ServiceError: naming the file
        """
        self.mark_unread()
        write(self.config, text)

    def mark_unread(self) -> None:
        """Note that conntrackd is to begin anew.

        :raises ServiceError: naming the file
        """
        make_directory(self._directory)
        write(self._marker, "")

    def mark_read(self) -> None:
        """Note that conntrackd has begun with the configuration."""
        remove_file(self._marker)

    def note_told(self, is_master: bool) -> None:
        """Note which state conntrackd was told of.

        :raises ServiceError: naming the file
        """
        if self.told != wanted_state(is_master):
            write(self._told, wanted_state(is_master))

    def remove(self) -> None:
        """Remove all files, and the directory if keepalived has no file in it.

        :raises ServiceError: naming the directory
        """
        remove_files(self._directory, of_conntrackd=True)


def wanted_state(is_master: bool) -> str:
    """Return the word for the state of this host."""
    return PRIMARY if is_master else BACKUP
