"""Check capabilities of this process (capabilities(7)).

Used by ``services/radvd.py`` before it starts a child as another user.
"""

from __future__ import annotations

from pathlib import Path

CAP_SETGID, CAP_SETUID = 6, 7
"""Bits (include/uapi/linux/capability.h)."""


def has(*bits: int) -> bool:
    """True if this process has all of these capabilities, or if they cannot be read: then the kernel refuses in time.

    :param bits: ``CAP_…``
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), -1)
    return all(effective >> bit & 1 for bit in bits)
