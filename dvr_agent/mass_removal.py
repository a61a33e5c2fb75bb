"""The limit above which a removal of routers looks like a fault of the source; for daemon, dvrctl and sources."""

from __future__ import annotations

GUARD_MINIMUM = 10
"""A removal of fewer routers than this is never held back."""


def is_mass_removal(stale: int, present: int) -> bool:
    """True if the removal of ``stale`` of ``present`` routers is rather a fault of the source than the truth."""
    return stale >= GUARD_MINIMUM and stale * 2 > present
