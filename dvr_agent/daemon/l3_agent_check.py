"""Refuses a start beside ``neutron-l3-agent``: both agents would take messages from one queue, each a part of them.

The unit file tells systemd the same (``Conflicts=``); this check is for agents that were started in another way.
"""

from __future__ import annotations

import os
from pathlib import Path

from dvr_agent.errors import LockedError

PROGRAM = "neutron-l3-agent"
PROC = Path("/proc")
UNSEEN = "unseen"
WITH_VALUE = ("-W", "-X")
"""Options of Python whose value is the next argument."""


def check_no_l3_agent(proc: Path = PROC) -> None:
    """Check that no ``neutron-l3-agent`` runs in this network namespace.

    :param proc: mount point of procfs
    :raises LockedError: one runs; the text names its process and the command that stops it
    """
    ours = _network(proc / "self")
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if is_l3_agent(_command(entry)) and _network(entry) in (ours, UNSEEN):
            raise LockedError(
                f"{PROGRAM} runs on this host (process {entry.name}), and both agents would take the same messages: "
                f"stop it first (systemctl stop {PROGRAM})"
            )


def is_l3_agent(command: list[str]) -> bool:
    """Return True for a command line of neutron-l3-agent: its name, after a Python, or the process title that it sets.

    The title is ``neutron-l3-agent (<command line>)`` as one argument (neutron/cmd/agents/l3.py).
    """
    if not command:
        return False
    program, *rest = command
    if Path(program.split(" ")[0]).name.rstrip(":") == PROGRAM:
        return True
    if not Path(program).name.startswith("python"):
        return False
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in WITH_VALUE else rest[1:]
    return bool(rest) and Path(rest[0]).name == PROGRAM


def _command(process: Path) -> list[str]:
    """Return the command line of a process; empty for kernel threads, and for a process that ended meanwhile."""
    try:
        text = (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return []
    return [word for word in text.split("\0") if word]


def _network(process: Path) -> str | None:
    """Return the network namespace of a process; ``UNSEEN`` without permission, None if the process ended meanwhile."""
    try:
        return os.readlink(process / "ns" / "net")
    except PermissionError:
        return UNSEEN
    except OSError:
        return None
