"""Names a process for people (:func:`command_of`).  Used by ``port_owner`` and ``iptables/lock``."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 100
"""Characters of a command line that are shown."""


def name_of(pid: int | str) -> str:
    """Return the name of a process's program, ``ip``; empty if it has ended, or is in another process namespace."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def command_of(pid: int | str) -> str:
    """Return ``bash (process 4711: bash -c …)``, with its command line as far as it is short; else shortened; empty as
    for :func:`name_of`.
    """
    name = name_of(pid)
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").split()
    except OSError:
        words = []
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(words))
    shown = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    return f"{name} (process {pid}{f': {shown}' if shown else ''})" if name else ""


def parent_of(pid: int | str) -> int:
    """Return the id of a process's parent; 0 if it has ended, or its parent is in another process namespace."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def parent_text(pid: int | str) -> str:
    """Return the process that has started a process, as :func:`command_of`; empty if it is not known, or is init."""
    parent = parent_of(pid)
    return command_of(parent) if parent > 1 else ""
