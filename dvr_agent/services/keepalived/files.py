"""The files of one router's keepalived, below ``ha_confs_path``, as neutron-l3-agent names them."""

from __future__ import annotations

import os
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from dvr_agent import securefiles
from dvr_agent.errors import ServiceError
from dvr_agent.services.files import read_text, remove_file, write
from dvr_agent.services.ha_files import BACKUP, CONNTRACKD, CONNTRACKD_CONFIG, PRIMARY, remove_files

CONFIG_MODE = 0o600
"""The configuration may have the password in it."""
SCRIPT_MODE = 0o700
GATEWAY_CHARACTERS = 80
PID_SUFFIXES = (".pid.keepalived", ".pid.keepalived-vrrp")


class RouterFiles:
    """The files of one router.

    :ivar config: configuration of keepalived
    :ivar pid: process id of keepalived
    :ivar child_pid: process id of its child, which speaks VRRP
    :ivar silent: gateway that did not answer when this host was last the master, made by the script
    :ivar conntrackd_config: configuration of the router's conntrackd
    """

    CONFIG_NAME: ClassVar[str] = "keepalived.conf"

    def __init__(self, confs: Path, router_id: str) -> None:
        self._directory = confs / router_id
        self.config = self._directory / self.CONFIG_NAME
        self._marker = self._directory / f"{self.CONFIG_NAME}.unread"
        self._state = self._directory / "state"
        self.silent = self._directory / "silent_gateway"
        self.conntrackd_config = self._directory / CONNTRACKD_CONFIG
        self.pid, self.child_pid = (confs / f"{router_id}{suffix}" for suffix in PID_SUFFIXES)

    @property
    def text(self) -> str:
        """The configuration, empty if there is none."""
        return read_text(self.config)

    @property
    def is_open_to_others(self) -> bool:
        """True if other users may read the configuration, as neutron-l3-agent leaves it."""
        try:
            return bool(stat.S_IMODE(os.lstat(self.config).st_mode) & 0o077)
        except OSError:
            return False

    def script(self, vr_id: int) -> Path:
        """Return the script that checks the gateways of a virtual router."""
        return self._directory / f"ha_check_script_{vr_id}.sh"

    def has_script(self, vr_id: int, text: str) -> bool:
        """Return True if that script has this text, and is nobody else's to read or run."""
        path = self.script(vr_id)
        try:
            return stat.S_IMODE(os.lstat(path).st_mode) == SCRIPT_MODE and read_text(path) == text
        except OSError:
            return False

    @property
    def silent_gateway(self) -> str:
        """The gateway that did not answer when this host was last the master; empty: all of them did."""
        gateway = read_text(self.silent).strip()[:GATEWAY_CHARACTERS]
        try:
            ip_address(gateway)
        except ValueError:
            return ""
        return gateway if gateway.isprintable() else ""  # what stands after % may be anything

    @property
    def is_unread(self) -> bool:
        """True from before a configuration is written until keepalived is told to read it."""
        return os.path.lexists(self._marker)

    @property
    def exist(self) -> bool:
        """True if the router has any file of keepalived, or an empty directory."""
        if any(os.path.lexists(path) for path in (self.pid, self.child_pid)):
            return True
        if not os.path.lexists(self._directory):
            return False
        try:
            names = securefiles.names(self._directory)
        except OSError:
            return True
        return not names or not all(name.startswith(CONNTRACKD) for name in names)

    def write(self, text: str) -> None:
        """Replace the configuration as a whole, and note that keepalived has not read it, unless only its mode changes.

        :raises ServiceError: naming the file
        """
        try:
            securefiles.ensure_directory(self._directory)
            if self.text != text:
                securefiles.replace(self._marker, b"")
            securefiles.replace(self.config, text.encode(), CONFIG_MODE)
        except OSError as exc:
            raise ServiceError(f"{self.config} cannot be written: {exc.strerror}") from exc

    def write_script(self, vr_id: int, text: str) -> None:
        """Replace the script as a whole: keepalived runs the old one or the new one.

        :raises ServiceError: naming the file
        """
        path = self.script(vr_id)
        try:
            securefiles.ensure_directory(self._directory)
            securefiles.replace(path, text.encode(), SCRIPT_MODE)
        except OSError as exc:
            raise ServiceError(f"{path} cannot be written: {exc.strerror}") from exc

    def remove_script(self, vr_id: int) -> None:
        """Remove the script, which keepalived does not run any more, and what it made.

        :raises ServiceError: naming the file
        """
        for path in (self.script(vr_id), self.silent):
            remove_file(path)

    def mark_read(self) -> None:
        """Note that keepalived has been told to read the configuration, or began with it."""
        remove_file(self._marker)

    def is_told_otherwise(self, is_master: bool) -> bool:
        """Return True if the file with the state of this host says something else."""
        return read_text(self._state) != (PRIMARY if is_master else BACKUP)

    @property
    def says_master(self) -> bool:
        """True if this host was the master when that was last noted."""
        return read_text(self._state) == PRIMARY

    def note_state(self, is_master: bool) -> bool:
        """Write the state of this host, from which neutron-l3-agent goes on at a handover.

        :returns: True if the file said something else
        :raises ServiceError: naming the file
        """
        if not self.is_told_otherwise(is_master):
            return False
        write(self._state, PRIMARY if is_master else BACKUP)
        return True

    def remove(self) -> None:
        """Remove all files, also those of neutron-l3-agent's monitor, and the directory unless conntrackd has files.

        :raises ServiceError: naming the file
        """
        for path in (self.pid, self.child_pid):
            remove_file(path)
        remove_files(self._directory, of_conntrackd=False)
