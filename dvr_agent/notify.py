"""Talk to systemd: sd_notify(3) over the socket in NOTIFY_SOCKET.  Without systemd all of it does nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notifier:
    """Sends state to the service manager.  A manager that does not listen is no reason to stop: errors are ignored."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.is_ready = False
        self.watchdog_seconds = _watchdog_seconds() if address else None
        """How often the service manager wants to hear from us at the latest; None: it does not watch."""

    def send(self, *lines: str) -> None:
        """Assignments as sd_notify(3) names them, one each."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.sendto(
                "\n".join(line.replace("\n", " ") for line in lines).encode("utf-8", "backslashreplace"), self._address
            )

    def ready(self, status: str) -> None:
        self.is_ready = True
        self.send("READY=1", f"STATUS={status}")

    def starting(self, status: str, seconds: float) -> None:
        """Still at work on the first sync: the start timeout must not strike within these seconds."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={status}")

    def reloading(self) -> None:
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        self.send("WATCHDOG=1")

    def stopping(self) -> None:
        self.send("STOPPING=1", "STATUS=stopping")


def _watchdog_seconds() -> float | None:
    pid, usec = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6
