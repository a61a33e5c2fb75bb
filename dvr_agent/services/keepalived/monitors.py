"""Ends the monitors that neutron-l3-agent leaves behind: programs that tell it of each change of a VRRP state.

This agent follows the primary address by events of the kernel instead.  A monitor that goes on would write the file
with the state, too.
"""

from __future__ import annotations

import signal
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import ServiceError
from dvr_agent.services.processes import Process, children_of, command_line, open_pid, read_pid_file

PROGRAM = "neutron-keepalived-state-change"
SUFFIX = f".monitor.pid.{PROGRAM}-monitor"
SECONDS = 3.0


def end_monitor(pids: Path, router_id: str) -> None:
    """End a router's monitor with its children, if there is one.

    :param pids: directory of process id files
    :raises ServiceError: it does not end
    """
    path = pids / f"{router_id}{SUFFIX}"
    pid = read_pid_file(path)
    if pid is not None:
        monitor = _open(pid, router_id)
        if monitor is not None:
            _end(monitor)
    try:
        securefiles.remove(path)
    except OSError as exc:
        raise ServiceError(f"{path} cannot be removed: {exc.strerror}") from exc


def _open(pid: int, router_id: str) -> Process | None:
    """Open a process if it is the router's monitor; a Python program may have put its command line into one word."""
    process = open_pid(pid)
    if process is None:
        return None
    words = " ".join(command_line(pid))
    if PROGRAM in words and router_id in words:
        return process
    process.close()
    return None


def _end(monitor: Process) -> None:
    """End a monitor, and the program whose output it reads; the rest of it ends by itself then."""
    children = [child for child in map(open_pid, children_of(monitor.pid)) if child is not None]
    try:
        for process in (monitor, *children):
            process.signal(signal.SIGKILL)
        if not monitor.wait(SECONDS):
            raise ServiceError(f"{PROGRAM} (process {monitor.pid}) does not end")
    finally:
        for process in (monitor, *children):
            process.close()
