"""The files of one router's keepalived, below ``ha_confs_path``, as neutron-l3-agent names them."""

from __future__ import annotations

import os
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from dvr_agent import securefiles
from dvr_agent.errors import ServiceError

FILE_BYTES = 4 * 1024 * 1024
CONFIG_MODE = 0o600
"""The configuration may have the password in it."""
SCRIPT_MODE = 0o700
GATEWAY_CHARACTERS = 80
PRIMARY, BACKUP = "primary", "backup"
PID_SUFFIXES = (".pid.keepalived", ".pid.keepalived-vrrp")


class RouterFiles:
    """The files of one router.

    :ivar config: configuration of keepalived
    :ivar pid: process id of keepalived
    :ivar child_pid: process id of its child, which speaks VRRP
    :ivar silent: gateway that did not answer when this host was last the master, made by the script
    """

    CONFIG_NAME: ClassVar[str] = "keepalived.conf"

    def __init__(self, confs: Path, router_id: str) -> None:
        self._directory = confs / router_id
        self.config = self._directory / self.CONFIG_NAME
        self._marker = self._directory / f"{self.CONFIG_NAME}.unread"
        self._state = self._directory / "state"
        self.silent = self._directory / "silent_gateway"
        self.pid, self.child_pid = (confs / f"{router_id}{suffix}" for suffix in PID_SUFFIXES)

    @property
    def text(self) -> str:
        """The configuration, empty if there is none."""
        return _text(self.config)

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
            return stat.S_IMODE(os.lstat(path).st_mode) == SCRIPT_MODE and _text(path) == text
        except OSError:
            return False

    @property
    def silent_gateway(self) -> str:
        """The gateway that did not answer when this host was last the master; empty: all of them did."""
        gateway = _text(self.silent).strip()[:GATEWAY_CHARACTERS]
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
        """True if the router has any file."""
        return any(os.path.lexists(path) for path in (self._directory, self.pid, self.child_pid))

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
            if os.path.lexists(path):
                _remove(path)

    def mark_read(self) -> None:
        """Note that keepalived has been told to read the configuration, or began with it."""
        _remove(self._marker)

    def is_told_otherwise(self, is_master: bool) -> bool:
        """Return True if the file with the state of this host says something else."""
        return _text(self._state) != (PRIMARY if is_master else BACKUP)

    @property
    def says_master(self) -> bool:
        """True if this host was the master when that was last noted."""
        return _text(self._state) == PRIMARY

    def note_state(self, is_master: bool) -> bool:
        """Write the state of this host, from which neutron-l3-agent goes on at a handover.

        :returns: True if the file said something else
        :raises ServiceError: naming the file
        """
        if not self.is_told_otherwise(is_master):
            return False
        try:
            securefiles.replace(self._state, (PRIMARY if is_master else BACKUP).encode())
        except OSError as exc:
            raise ServiceError(f"{self._state} cannot be written: {exc.strerror}") from exc
        return True

    def remove(self) -> None:
        """Remove the directory with all its files, also those of neutron-l3-agent's monitor.

        :raises ServiceError: naming the file
        """
        for path in (self.pid, self.child_pid):
            _remove(path)
        try:
            for name in securefiles.names(self._directory):
                _remove(self._directory / name)
            securefiles.remove_directory(self._directory)
        except OSError as exc:
            raise ServiceError(f"{self._directory} cannot be removed: {exc.strerror}") from exc


def routers_with_files(confs: Path) -> set[str]:
    """Return the names of routers' files, which are router ids if they are of this agent or of neutron-l3-agent."""
    try:
        found = securefiles.names(confs)
    except OSError:
        return set()
    return {name.partition(".pid.")[0] for name in found}


def _text(path: Path) -> str:
    try:
        return securefiles.read(path, FILE_BYTES).data.decode(errors="replace")
    except OSError:
        return ""


def _remove(path: Path) -> None:
    try:
        securefiles.remove(path)
    except OSError as exc:
        raise ServiceError(f"{path} cannot be removed: {exc.strerror}") from exc
