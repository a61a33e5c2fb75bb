"""The part of the database ``Open_vSwitch`` that this driver reads and writes (ovs-vswitchd.conf.db(5)).

Passed to python-ovs as a constant: fetching the schema from the server would be a round trip without a time limit.  All
these columns exist since Open vSwitch 2.4, with these types.  Only they are monitored: not statistics, tags or
anything of other tables.
"""

from __future__ import annotations

from typing import Any

DATABASE = "Open_vSwitch"

_INTEGERS = {"key": "integer", "min": 0, "max": 1}
_STRINGS = {"key": "string", "min": 0, "max": 1}


def schema() -> dict[str, Any]:
    """Return the schema in the notation of RFC 7047, 3.2; a new dict each time, since python-ovs changes it."""
    return {
        "name": DATABASE,
        "version": "8.0.0",
        "tables": {
            "Open_vSwitch": {
                "columns": {"next_cfg": {"type": "integer"}, "cur_cfg": {"type": "integer"}},
                "isRoot": True,
                "maxRows": 1,
            },
            "Bridge": {"columns": {"name": {"type": "string"}, "ports": {"type": _references("Port")}}},
            "Port": {"columns": {"name": {"type": "string"}, "interfaces": {"type": _references("Interface")}}},
            "Interface": {
                "columns": {
                    "name": {"type": "string"},
                    "type": {"type": "string"},
                    "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
                    "ofport": {"type": _INTEGERS},
                    "error": {"type": _STRINGS},
                    "ifindex": {"type": _INTEGERS},
                }
            },
        },
    }


def _references(table: str) -> dict[str, Any]:
    return {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}
