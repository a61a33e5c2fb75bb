"""Edits of OVSDB; used by ``driver`` and ``plugging``.

An edit may be made more than once, from a newer copy of the rows each time (another client was faster, the connection
broke): it reads the rows and gives the operations for the differences.  Columns of other programs are never written,
above all ``Port:tag`` and ``other_config`` of Neutron's Open vSwitch agent.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, Protocol

from dvr_agent.attach.openvswitch.connection import Operation
from dvr_agent.attach.openvswitch.row_index import RowIndex
from dvr_agent.attach.openvswitch.rows_copy import Row
from dvr_agent.errors import AttachError


class Edit(Protocol):
    """A change of rows."""

    def operations(self, index: RowIndex) -> list[Operation]:
        """Return the operations; none if nothing has to be changed."""


class AddPort:
    """Adds a port with one interface to the integration bridge; an existing port gets missing ``external_ids``."""

    def __init__(self, name: str, kind: str, ids: Mapping[str, str]) -> None:
        self.name, self.kind, self.ids = name, kind, dict(ids)

    def operations(self, index: RowIndex) -> list[Operation]:
        """Return the operations that insert the rows, or set missing ``external_ids``."""
        if index.find("Interface", self.name) is not None:
            return SetIds(self.name, self.ids).operations(index)
        bridge = index.find("Bridge", index.bridge)
        if bridge is None:
            raise bridge_missing(index.bridge)
        ids = ["map", [list(pair) for pair in self.ids.items()]]
        interface, port = (f"{kind}_{self.name.encode().hex()}" for kind in ("interface", "port"))
        return [
            # Otherwise a write to a bridge that was made anew meanwhile would be lost without an error.
            _is_there(bridge),
            _insert("Interface", interface, {"name": self.name, "type": self.kind, "external_ids": ids}),
            _insert("Port", port, {"name": self.name, "interfaces": ["named-uuid", interface]}),
            mutate(bridge, ["ports", "insert", ["named-uuid", port]]),
        ]


class SetIds:
    """Sets keys of ``Interface:external_ids``; other keys stay."""

    def __init__(self, name: str, ids: Mapping[str, str]) -> None:
        self.name, self.ids = name, dict(ids)

    def operations(self, index: RowIndex) -> list[Operation]:
        """Return the operation that sets the keys that differ."""
        interface = index.find("Interface", self.name)
        if interface is None:
            return []
        there = interface.values["external_ids"]
        wrong = {key: value for key, value in self.ids.items() if there.get(key) != value}
        if not wrong:
            return []
        gone = ["external_ids", "delete", ["set", list(wrong)]]
        return [mutate(interface, gone, ["external_ids", "insert", ["map", [list(pair) for pair in wrong.items()]]])]


class DeletePort:
    """Removes a port from its bridge, if it has one; OVSDB deletes rows that no bridge refers to."""

    def __init__(self, name: str) -> None:
        self.name = name

    def operations(self, index: RowIndex) -> list[Operation]:
        """Return the operation that removes the port from its bridge."""
        port = index.find("Port", self.name)
        bridge = index.bridge_of(port)
        return [] if port is None or bridge is None else [mutate(bridge, ["ports", "delete", ["uuid", port.uuid]])]


class Touch:
    """Changes nothing but ``next_cfg``: ovs-vswitchd then checks its configuration again."""

    def operations(self, index: RowIndex) -> list[Operation]:
        """Return an operation that reads ``cur_cfg``, so that there is one."""
        return [select(root, "cur_cfg")] if (root := index.root()) is not None else []


def mutate(row: Row, *mutations: list[Any]) -> Operation:
    """Return the operation that makes mutations of columns of a row (RFC 7047, 5.2.4)."""
    return {"op": "mutate", "table": row.table, "where": _is(row), "mutations": list(mutations)}


def select(row: Row, column: str) -> Operation:
    """Return the operation that reads a column of a row."""
    return {"op": "select", "table": row.table, "where": _is(row), "columns": [column]}


def bridge_missing(name: str) -> AttachError:
    """Return the error for a missing integration bridge."""
    return AttachError("", f"bridge {name}", errno.ENODEV, "it does not exist in Open vSwitch (ovs-vsctl add-br)")


def _is(row: Row) -> list[Any]:
    return [["_uuid", "==", ["uuid", row.uuid]]]


def _is_there(row: Row) -> Operation:
    """Return the operation that ends the transaction if the row is gone."""
    condition = {"columns": ["name"], "until": "==", "rows": [{"name": row.name}]}
    return {"op": "wait", "table": row.table, "timeout": 0, "where": _is(row), **condition}


def _insert(table: str, name: str, values: Mapping[str, Any]) -> Operation:
    return {"op": "insert", "table": table, "uuid-name": name, "row": dict(values)}
