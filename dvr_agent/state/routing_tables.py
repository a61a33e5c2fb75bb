"""Names of routing tables, for texts about routes and rules."""

from __future__ import annotations

_NAMES = {253: "default", 254: "main", 255: "local"}
"""Tables that iproute2 knows by a name on every host (``RT_TABLE_…``, include/uapi/linux/rtnetlink.h)."""


def table_name(table: int) -> str:
    """Return a routing table as iproute2 prints it: its name, or its number."""
    return _NAMES.get(table, str(table))
