"""When the absence of many routers looks like a fault of the source: the guard of removals.  Pure."""

from __future__ import annotations

GUARD_MINIMUM = 10
"""Fewer missing routers than this are never held back."""


def is_mass_removal(missing: int, present: int) -> bool:
    """Return True if ``missing`` of ``present`` routers are rather a fault of the source than the truth."""
    return missing >= GUARD_MINIMUM and missing * 2 > present
