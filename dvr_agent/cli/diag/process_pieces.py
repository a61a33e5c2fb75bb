"""What the processes do: units, helper processes, threads of the daemon, and its environment without values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dvr_agent.cli.diag.piece import Piece, text_piece
from dvr_agent.cli.diag.sources import PieceError, command, file, process_behind

PROCESSES = (
    "dvr-agent,dvr-metadata-p,dvr-vrrp,radvd,keepalived,conntrackd,haproxy,neutron-l3-agen,ovs-vswitchd,ovsdb-server"
)
SHOWN = (
    "PATH",
    "LANG",
    "LC_",
    "TZ",
    "PYTHON",
    "EVENTLET_",
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
    "WATCHDOG_",
    "INVOCATION_ID",
)
"""Beginnings of the names of environment variables whose value is shown; of others only that they are set."""


def pieces(socket: str) -> Iterator[Piece]:
    """Yield the pieces.

    :param socket: path of the admin socket: who listens on it is the daemon, also where it hangs
    """
    units = ("dvr-agent", "dvr-metadata-proxy", "dvr-vrrp", "neutron-l3-agent")
    words = ("systemctl", "--no-pager", "--full", "--lines=0", "status", *units)
    yield text_piece("processes/units.txt", partial(command, *words, fine=(0, 3, 4)))
    yield text_piece(
        "processes/unit-files.txt", partial(command, "systemctl", "--no-pager", "cat", *units, fine=(0, 1))
    )
    listing = ("ps", "-o", "pid,ppid,user,nlwp,stat,rss,etime,wchan:20,args", "-C", PROCESSES)
    yield text_piece("processes/list.txt", partial(command, *listing, fine=(0, 1)))
    yield text_piece(
        "processes/host.txt", lambda: "\n".join(file(Path("/proc", name)) for name in ("loadavg", "meminfo"))
    )
    yield text_piece("processes/daemon-threads.txt", lambda: _threads(process_behind(socket)))
    yield text_piece("processes/daemon-environment.txt", lambda: _environment(process_behind(socket)))


def environment_of(pid: int | str) -> dict[str, str]:
    """Return the environment of a process.

    :raises PieceError: it cannot be read
    """
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise PieceError(f"environment of process {pid}: {exc.strerror}") from exc
    return dict(one.partition("=")[::2] for one in data.split("\0") if one)


def _threads(pid: int) -> str:
    """Return what each thread waits for in the kernel: where a worker hangs stands here."""
    lines = []
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        base = Path(f"/proc/{pid}/task/{task}")
        lines.append(f"thread {task} ({_content(base / 'comm')}): {_content(base / 'wchan')}")
        lines += [f"  {line}" for line in _content(base / "stack").splitlines()]
        lines += [f"  {line}" for line in _content(base / "status").splitlines() if "ctxt" in line or "State" in line]
    return "\n".join(lines) + "\n"


def _content(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError as exc:
        return f"({exc.strerror})"


def _environment(pid: int) -> str:
    found = environment_of(pid)
    lines = (f"{name}={found[name]}" if name.startswith(SHOWN) else f"{name} (not shown)" for name in sorted(found))
    return "\n".join(lines) + "\n"
