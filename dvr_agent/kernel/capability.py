"""Capabilities of this process (capabilities(7))."""

from __future__ import annotations

from pathlib import Path

CAP_SETGID, CAP_SETUID = 6, 7
"""Bits of linux/capability.h."""


def has(*bits: int) -> bool:
    """True if this process has all of them; also where that cannot be seen: then the kernel has the last word."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), -1)
    return all(effective >> bit & 1 for bit in bits)
