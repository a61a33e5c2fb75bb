"""What tests of the daemon on a scripted reconciler share (tests/support/fake_daemon.py)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from tests.support.daemon_lab import Daemon, router_id

MakeDaemon = Callable[..., Daemon]
"""Makes a daemon in a directory of that name, with options."""


def calls(daemon: Daemon) -> list[str]:
    """Calls of the reconciler until now."""
    path = daemon.state / "calls"
    return path.read_text().splitlines() if path.exists() else []


def built(daemon: Daemon) -> set[str]:
    """Ids of routers that are "built"."""
    return {file.name for file in (daemon.state / "built").iterdir()}


def pretend_built(daemon: Daemon, *numbers: int) -> None:
    """Make routers that are "built" before the daemon starts."""
    (daemon.state / "built").mkdir(parents=True)
    for number in numbers:
        (daemon.state / "built" / router_id(number)).write_text("")


class ServiceManager:
    """The service manager's end of the notification socket."""

    def __init__(self) -> None:
        self.address = f"@dvr-agent-test-{os.getpid()}-{id(self)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        self._socket.settimeout(30)

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, what: Callable[[str], bool]) -> str:
        """Receive notifications until one fits; returns that one."""
        while not what(text := self._socket.recv(4096).decode()):
            pass
        return text
