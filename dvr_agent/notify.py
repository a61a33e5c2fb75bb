"""Notifies systemd: sd_notify(3) over the socket in NOTIFY_SOCKET.  Without systemd nothing is sent."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import time
from collections.abc import Sequence

BARRIER_SECONDS = 5.0
FIRST = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""


class Notifier:
    """Sends notifications to the service manager; errors are ignored, since the agent works without a manager.

    :ivar is_ready: READY was sent
    :ivar watchdog_seconds: interval within which the manager wants a sign of life; None: it does not watch
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.is_ready = False
        self.watchdog_seconds = _watchdog_seconds() if address else None

    @property
    def is_managed(self) -> bool:
        """True if there is a service manager."""
        return bool(self._address)

    def send(self, *lines: str, descriptors: Sequence[int] = ()) -> bool:
        """Send assignments of sd_notify(3), with descriptors; returns False if the manager is too busy to take them."""
        if not self._address:
            return True
        text = "\n".join(line.replace("\n", " ") for line in lines).encode("utf-8", "backslashreplace")
        # Not by socket.send_fds(), which ignores the address (Python 3.11).
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            try:
                out.sendmsg([text], rights, 0, self._address)
            except BlockingIOError:
                return False
        return True

    def wait_until_handled(self) -> None:
        """Wait until the manager has handled what was sent before, for some seconds at most."""
        if not self.is_managed:
            return
        ours, theirs = os.pipe()
        try:
            try:
                was_sent = self.send("BARRIER=1", descriptors=[theirs])
            finally:
                os.close(theirs)
            if was_sent:
                hang_up = select.poll()
                hang_up.register(ours, 0)
                hang_up.poll(BARRIER_SECONDS * 1000)
        finally:
            os.close(ours)

    def ready(self, status: str) -> None:
        """Report the end of the start, or of a reload."""
        self.is_ready = True
        self.send("READY=1", f"STATUS={status}")

    def starting(self, status: str, seconds: float) -> None:
        """Report that the start goes on, and extend its timeout to at least so many seconds from now."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={status}")

    def reloading(self) -> None:
        """Report the begin of a reload."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        """Report a sign of life to the watchdog."""
        self.send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report the begin of a stop."""
        self.send("STOPPING=1", "STATUS=stopping")


def _watchdog_seconds() -> float | None:
    pid, usec = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def store_lines(name: str) -> tuple[str, ...]:
    """Return what asks systemd to keep the descriptor that comes with it, for the next process.

    FDPOLL: whether there is something to read, or an error, is the next process's business.
    """
    return "FDSTORE=1", "FDPOLL=0", f"FDNAME={name}"


def unstore_lines(name: str) -> tuple[str, ...]:
    """Return what asks systemd to close what it keeps by a name."""
    return "FDSTOREREMOVE=1", f"FDNAME={name}"


def passed_descriptors() -> list[tuple[str, int]]:
    """Return (name, descriptor) of all that systemd has passed to this process (sd_listen_fds_with_names(3)), once."""
    pid, number, names = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not number.isdigit():
        return []
    passed = list(zip(names.split(":"), range(FIRST, FIRST + int(number)), strict=False))
    for _name, descriptor in passed:
        with contextlib.suppress(OSError):  # a wrapper may have closed it
            os.set_inheritable(descriptor, False)
    return passed
