"""Names a process for people (:func:`program_of`).  Used by ``port_owner`` and ``iptables/lock``."""

from __future__ import annotations

from pathlib import Path


def program_of(pid: int | str) -> str:
    """Return ``ip (process 4711)``; empty if the process has ended, or is in another process namespace."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""
    return f"{name} (process {pid})"
