"""Find rows of the copy by name, and cache the values of ports; used by ``database`` and by edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovs.db import idl as ovs_idl

from dvr_agent.attach.openvswitch.connection import RowCopy, changed_columns, committed, texts, value
from dvr_agent.attach.openvswitch.rows import KEY, PortRow, is_routers

NAMED = ("Bridge", "Port", "Interface")
"""The tables whose rows have names; a name never changes."""


class RowIndex:
    """Index of the copy of the rows; its methods are called under the connection's lock.

    :ivar idl: the copy
    :ivar bridge: name of the integration bridge
    :ivar router_ports: names of all ports of routers → namespace that this agent plugged them for, empty if it did not
    """

    def __init__(self, idl: RowCopy, bridge: str) -> None:
        self.idl, self.bridge = idl, bridge
        self._rows: dict[str, dict[str, Any]] = {table: {} for table in NAMED}
        """Table → name → row."""
        self._bridges: dict[Any, Any] = {}
        """Port UUID → row of its bridge."""
        self._ports: dict[str, PortRow | None] = {}
        """Cached values of ports by name; None: there is no such port."""
        self._router_ports: dict[str, str] = {}

    @property
    def tables(self) -> Any:
        """The library's tables by name."""
        return self.idl.tables

    @property
    def router_ports(self) -> Mapping[str, str]:
        """Names of all ports of routers → namespace."""
        return self._router_ports

    def find(self, table: str, name: str) -> Any:
        """Return the row of that name, or None."""
        return self._rows[table].get(name)

    def root(self) -> Any:
        """Return the one row of the table Open_vSwitch, None if the database is empty."""
        return next(iter(self.tables["Open_vSwitch"].rows.values()), None)

    def bridge_of(self, port: Any) -> Any:
        """Return the row of the bridge that a row of the table Port is on, or None."""
        return None if port is None else self._bridges.get(port.uuid)

    def port(self, name: str) -> PortRow | None:
        """Return a port's values, from the cache if it has not changed."""
        if name not in self._ports:
            interface = self.find("Interface", name)
            self._ports[name] = None if interface is None else self._port_row(interface)
        return self._ports[name]

    def read_anew(self) -> None:
        """Read all names, since the whole copy is new."""
        self._ports.clear()
        self._router_ports = {}
        self._rows = {table: {value(row, "name"): row for row in self.tables[table].rows.values()} for table in NAMED}
        bridges = self._rows["Bridge"].values()
        self._bridges = {port.value: bridge for bridge in bridges for port in committed(bridge, "ports")}
        for row in self._rows["Interface"].values():
            self._note_port(row)

    def row_changed(self, event: str, table: str, row: Any, old: Any) -> None:
        """Record a changed row, and drop cached values that it is part of."""
        name, rows = value(row, "name"), self._rows[table]
        if event == ovs_idl.ROW_CREATE:
            rows[name] = row
        elif event == ovs_idl.ROW_DELETE and rows.get(name) is row:  # one of the same name may be there already
            del rows[name]
        if table == "Bridge":
            self._bridge_changed(event, row, old)
        else:
            self._ports.pop(name, None)

    def interface_changed(self, event: str, row: Any, old: Any) -> bool:
        """Record a changed row of the table Interface; returns True if it is or was a router's port."""
        name = value(row, "name")
        known = name in self._router_ports
        if event == ovs_idl.ROW_DELETE:
            if self.find("Interface", name) is None:
                self._router_ports.pop(name, None)
        elif event == ovs_idl.ROW_CREATE or "external_ids" in changed_columns(old):
            self._note_port(row)
        return known or name in self._router_ports

    def _bridge_changed(self, event: str, bridge: Any, old: Any) -> None:
        """Record which ports a bridge has got and lost."""
        before: Mapping[Any, Any] = {}
        after = {} if event == ovs_idl.ROW_DELETE else committed(bridge, "ports")
        if event == ovs_idl.ROW_UPDATE:
            before = committed(old, "ports") if "ports" in changed_columns(old) else after
        elif event == ovs_idl.ROW_DELETE:
            before = committed(bridge, "ports")
        # Sets, since they take the hashes over from dictionaries: those of atoms are computed in Python.
        for gone in set(before).difference(after):
            if self._bridges.get(gone.value) is bridge:
                del self._bridges[gone.value]
            self._forget(gone.value)
        for come in set(after).difference(before):
            self._bridges[come.value] = bridge
            self._forget(come.value)

    def _forget(self, port: Any) -> None:
        """Drop the cached values of a port; a row that is gone is reported by itself."""
        row = self.tables["Port"].rows.get(port)
        if row is not None:
            self._ports.pop(value(row, "name"), None)

    def _port_row(self, interface: Any) -> PortRow:
        name = value(interface, "name")
        bridge = self.bridge_of(self.find("Port", name))
        return PortRow(
            name,
            "" if bridge is None else value(bridge, "name"),
            value(interface, "type"),
            texts(interface, "external_ids"),
            value(interface, "ofport", 0),
            value(interface, "error", ""),
            value(interface, "ifindex", 0) > 0,
        )

    def _note_port(self, interface: Any) -> None:
        name, ids = value(interface, "name"), texts(interface, "external_ids")
        if is_routers(name, ids):
            self._router_ports[name] = ids.get(KEY, "")
        else:
            self._router_ports.pop(name, None)
