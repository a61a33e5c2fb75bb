"""Reads the state of a process from ``/proc``: does it run, or is it stopped?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for the kernel",
    "I": "idle",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "ended, and not waited for by its parent",
}
"""States of proc(5)."""


class Process(NamedTuple):
    """A process.

    :ivar name: of its program (``comm``)
    :ivar state: the letter that ``ps`` shows
    """

    pid: int
    name: str
    state: str

    @property
    def is_stopped(self) -> bool:
        """True if a signal has stopped it, and SIGCONT continues it."""
        return self.state == "T"

    @property
    def text(self) -> str:
        """What there is to say of it."""
        meaning = f" ({_STATES[self.state]})" if self.state in _STATES else ""
        wake = f"; `kill -CONT {self.pid}` continues it" if self.is_stopped else ""
        return f"process {self.pid} ({self.name}) exists and is in state {self.state}{meaning}{wake}"


def find_process(pid: int) -> Process | None:
    """Return a process by its id; None: there is none, or it is not in sight from this PID namespace."""
    if pid <= 0:
        return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "backslashreplace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    return Process(pid, name, rest.split()[0])
