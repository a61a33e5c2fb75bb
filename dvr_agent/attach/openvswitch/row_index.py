"""Find rows of the copy by name, and cache the values of ports; used by ``database`` and by edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovs.db import idl as ovs_idl

from dvr_agent.attach.openvswitch.connection import RowCopy, changed_columns
from dvr_agent.attach.openvswitch.rows import KEY, PortRow, first, is_routers


class RowIndex:
    """Index of the copy of the rows; its methods are called under the connection's lock.

    :ivar idl: the copy
    :ivar bridge: name of the integration bridge
    :ivar router_ports: names of all ports of routers → namespace that this agent plugged them for, empty if it did not
    """

    def __init__(self, idl: RowCopy, bridge: str) -> None:
        self.idl, self.bridge = idl, bridge
        self._bridges: dict[Any, Any] | None = None
        """Port UUID → row of its bridge; None: must be read again."""
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
        rows = self.tables[table].rows
        index = rows.indexes["name"]
        entry = rows.IndexEntry(name=name)
        return next(index.irange(entry, entry), None)

    def root(self) -> Any:
        """Return the one row of the table Open_vSwitch, None if the database is empty."""
        return next(iter(self.tables["Open_vSwitch"].rows.values()), None)

    def bridge_of(self, port: Any) -> Any:
        """Return the row of the bridge that a row of the table Port is on, or None."""
        if self._bridges is None:
            rows = self.tables["Bridge"].rows.values()
            self._bridges = {one.uuid: bridge for bridge in rows for one in bridge.ports}
        return None if port is None else self._bridges.get(port.uuid)

    def port(self, name: str) -> PortRow | None:
        """Return a port's values, from the cache if it has not changed (a hundredth of the time)."""
        if name not in self._ports:
            interface = self.find("Interface", name)
            self._ports[name] = None if interface is None else self._port_row(interface)
        return self._ports[name]

    def read_anew(self) -> None:
        """Clear the cache and read the names of routers' ports, since the whole copy is new."""
        self._bridges = None
        self._ports.clear()
        self._router_ports = {}
        for row in self.tables["Interface"].rows.values():
            self._note_port(row)

    def forget(self, table: str, row: Any) -> None:
        """Drop the cached values of a row that has changed."""
        if table == "Bridge":
            self._bridges = None
            self._ports.clear()
        else:
            self._ports.pop(row.name, None)

    def interface_changed(self, event: str, row: Any, old: Any) -> bool:
        """Record a changed row of the table Interface; returns True if it is or was a router's port."""
        known = row.name in self._router_ports
        if event == ovs_idl.ROW_DELETE:
            self._router_ports.pop(row.name, None)
        elif event == ovs_idl.ROW_CREATE or "external_ids" in changed_columns(old):
            self._note_port(row)
        return known or row.name in self._router_ports

    def _port_row(self, interface: Any) -> PortRow:
        bridge = self.bridge_of(self.find("Port", interface.name))
        return PortRow(
            interface.name,
            "" if bridge is None else bridge.name,
            interface.type,
            interface.external_ids,
            first(interface.ofport, 0),
            first(interface.error, ""),
            first(interface.ifindex, 0) > 0,
        )

    def _note_port(self, interface: Any) -> None:
        ids = interface.external_ids
        if is_routers(interface.name, ids):
            self._router_ports[interface.name] = ids.get(KEY, "")
        else:
            self._router_ports.pop(interface.name, None)
