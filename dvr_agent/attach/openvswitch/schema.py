"""The part of the database ``Open_vSwitch`` that this driver reads and writes (ovs-vswitchd.conf.db(5)).

All these columns exist since Open vSwitch 2.4, the kind of monitor (``monitor_cond``) since 2.6.  Only they are
monitored: not statistics, tags or anything of other tables.  Here are also their notations in OVSDB messages
(RFC 7047, 5.1; ovsdb-server(7), "Monitor_Cond").
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

DATABASE = "Open_vSwitch"


class Kind(Enum):
    """What a column holds, and its value while it is empty."""

    NUMBER = 0
    TEXT = ""
    OPTIONAL = None
    MAP = "map"
    REFERENCES = "references"

    def empty(self) -> Any:
        """Return the value of an empty column."""
        return {Kind.MAP: dict, Kind.REFERENCES: set}.get(self, lambda: self.value)()


TABLES: Mapping[str, Mapping[str, Kind]] = {
    "Open_vSwitch": {"next_cfg": Kind.NUMBER, "cur_cfg": Kind.NUMBER},
    "Bridge": {"name": Kind.TEXT, "ports": Kind.REFERENCES},
    "Port": {"name": Kind.TEXT},
    "Interface": {
        "name": Kind.TEXT,
        "type": Kind.TEXT,
        "external_ids": Kind.MAP,
        "ofport": Kind.OPTIONAL,
        "error": Kind.OPTIONAL,
        "ifindex": Kind.OPTIONAL,
    },
}


def monitored() -> dict[str, Any]:
    """Return the request to monitor these columns."""
    return {table: [{"columns": list(columns)}] for table, columns in TABLES.items()}


def decode(kind: Kind, value: Any) -> Any:
    """Return a value as Python has it: maps as dictionaries, references as sets of UUIDs.

    :raises ValueError: it is malformed; TypeError, LookupError as well
    """
    if kind is Kind.MAP:
        return dict(value[1])
    if kind is Kind.REFERENCES:
        return {uuid for _, uuid in ([value] if value[0] == "uuid" else value[1])}
    if kind is Kind.OPTIONAL and isinstance(value, list):
        return next(iter(value[1]), None)
    return value
