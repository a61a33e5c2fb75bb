"""The limit above which a removal of routers looks like a fault of the source; for daemon, dvrctl and sources."""

from __future__ import annotations

GUARD_MINIMUM = 10
"""A removal of fewer routers than this is never refused."""


def is_mass_removal(stale: int, present: int) -> bool:
    """Return True if the removal of ``stale`` of ``present`` routers looks like a fault of the source."""
    return stale >= GUARD_MINIMUM and stale * 2 > present
