"""Find rows of the copy by name, and cache the values of ports; used by ``database`` and by edits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dvr_agent.attach.openvswitch.rows import KEY, PortRow, is_routers
from dvr_agent.attach.openvswitch.rows_copy import Event, Row, RowChange, Rows

NAMED = ("Bridge", "Port", "Interface")
"""The tables whose rows have names."""


class RowIndex:
    """Index of the copy of the rows; its methods are called under the connection's lock.

    :ivar bridge: name of the integration bridge
    """

    def __init__(self, rows: Rows, bridge: str) -> None:
        self._rows, self.bridge = rows, bridge
        self._names: dict[str, dict[str, Row]] = {table: {} for table in NAMED}
        """Table → name → row."""
        self._bridges: dict[str, Row] = {}
        """Port UUID → row of its bridge."""
        self._ports: dict[str, PortRow | None] = {}
        """Cached values of ports by name; None: there is no such port."""
        self._router_ports: dict[str, str] = {}

    @property
    def router_ports(self) -> Mapping[str, str]:
        """Names of all ports of routers → namespace that this agent plugged them for, empty if it did not."""
        return self._router_ports

    def find(self, table: str, name: str) -> Row | None:
        """Return the row of that name, or None."""
        return self._names[table].get(name)

    def root(self) -> Row | None:
        """Return the one row of the table Open_vSwitch, None if the database is empty."""
        return next(iter(self._rows.tables["Open_vSwitch"].values()), None)

    def bridge_of(self, port: Row | None) -> Row | None:
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
        self._names = {table: {row.name: row for row in self._rows.tables[table].values()} for table in NAMED}
        self._bridges = {port: bridge for bridge in self._names["Bridge"].values() for port in bridge.values["ports"]}
        self._router_ports = {}
        for row in self._names["Interface"].values():
            self._note_port(row)

    def row_changed(self, change: RowChange) -> None:
        """Record a changed row of a table with names, and drop cached values that it is part of."""
        event, row, columns = change
        names = self._names[row.table]
        if event is Event.CREATED:
            names[row.name] = row
        elif event is Event.DELETED and names.get(row.name) is row:  # one of the same name may be there already
            del names[row.name]
        if row.table == "Bridge":
            self._ports_moved(row, columns.get("ports", ()) if event is Event.CHANGED else row.values["ports"], event)
        else:
            self._ports.pop(row.name, None)

    def interface_changed(self, change: RowChange) -> bool:
        """Record a changed row of the table Interface; returns True if it is or was a router's port."""
        event, row, columns = change
        known = row.name in self._router_ports
        if event is Event.DELETED:
            if self.find("Interface", row.name) is None:
                self._router_ports.pop(row.name, None)
        elif event is Event.CREATED or "external_ids" in columns:
            self._note_port(row)
        return known or row.name in self._router_ports

    def _ports_moved(self, bridge: Row, ports: Iterable[str], event: Event) -> None:
        """Record ports that a bridge has got or lost."""
        for uuid in ports:
            if event is not Event.DELETED and uuid in bridge.values["ports"]:
                self._bridges[uuid] = bridge
            elif self._bridges.get(uuid) is bridge:
                del self._bridges[uuid]
            port = self._rows.tables["Port"].get(uuid)
            if port is not None:  # the change of one that is gone comes by itself
                self._ports.pop(port.name, None)

    def _port_row(self, interface: Row) -> PortRow:
        bridge, values = self.bridge_of(self.find("Port", interface.name)), interface.values
        return PortRow(
            interface.name,
            "" if bridge is None else bridge.name,
            values["type"],
            values["external_ids"],
            values["ofport"] or 0,
            values["error"] or "",
            (values["ifindex"] or 0) > 0,
        )

    def _note_port(self, interface: Row) -> None:
        ids = interface.values["external_ids"]
        if is_routers(interface.name, ids):
            self._router_ports[interface.name] = ids.get(KEY, "")
        else:
            self._router_ports.pop(interface.name, None)
