"""Names a process for people (:func:`program_of`).  Used by ``port_owner`` and ``iptables/lock``."""

from __future__ import annotations

from pathlib import Path


def name_of(pid: int | str) -> str:
    """Return the name of a process's program, ``ip``; empty if it has ended, or is in another process namespace."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def program_of(pid: int | str) -> str:
    """Return ``ip (process 4711)``; empty as for :func:`name_of`."""
    name = name_of(pid)
    return f"{name} (process {pid})" if name else ""
