"""What is written to OVSDB, as commands of ovsdbapp.

A command may run more than once, on a newer copy of the rows each time (another client was faster, the connection
broke): it looks what is there and asks for what lacks.  Columns of others, ``Port:tag`` and ``other_config`` of
Neutron's Open vSwitch agent above all, are never written.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ovsdbapp.backend.ovs_idl.command import BaseCommand

from dvr_agent.errors import AttachError

if TYPE_CHECKING:
    from dvr_agent.attach.openvswitch.database import Database


class _Edit(BaseCommand):  # type: ignore[misc]  # ovsdbapp has no types
    """A command on rows that are looked up by name when it runs."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.database = database


class AddPort(_Edit):
    """A port with one interface on the integration bridge; one that is there gets the ``external_ids`` it lacks."""

    def __init__(self, database: Database, name: str, kind: str, ids: Mapping[str, str]) -> None:
        super().__init__(database)
        self.name, self.kind, self.ids = name, kind, dict(ids)

    def run_idl(self, txn: Any) -> None:
        find, tables = self.database.find, self.database.tables
        if find("Interface", self.name) is not None:
            SetIds(self.database, self.name, self.ids).run_idl(txn)
            return
        bridge = find("Bridge", self.database.bridge)
        if bridge is None:
            raise bridge_missing(self.database.bridge)
        # Else a bridge that is made anew meanwhile would be written to in vain, without an error.
        bridge.verify("name")
        interface = txn.insert(tables["Interface"])
        interface.name, interface.type, interface.external_ids = self.name, self.kind, self.ids
        port = txn.insert(tables["Port"])
        port.name, port.interfaces = self.name, [interface]
        bridge.addvalue("ports", port)


class SetIds(_Edit):
    """Keys of ``Interface:external_ids``; other keys stay."""

    def __init__(self, database: Database, name: str, ids: Mapping[str, str]) -> None:
        super().__init__(database)
        self.name, self.ids = name, dict(ids)

    def run_idl(self, txn: Any) -> None:
        interface = self.database.find("Interface", self.name)
        if interface is None:
            return
        there = interface.external_ids
        for key, value in self.ids.items():
            if there.get(key) != value:
                interface.setkey("external_ids", key, value)


class DeletePort(_Edit):
    """A port on whatever bridge it is; none there: nothing to do.  Its rows go when no bridge refers to them."""

    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database)
        self.name = name

    def run_idl(self, txn: Any) -> None:
        port = self.database.find("Port", self.name)
        bridge = self.database.bridge_of(port)
        if port is not None and bridge is not None:
            bridge.delvalue("ports", port)


class Nothing(_Edit):
    """Changes nothing, and yet is sent: for the number of a configuration that ovs-vswitchd has to reach."""

    def run_idl(self, txn: Any) -> None:
        root = self.database.root()
        if root is not None:
            root.fetch("cur_cfg")


def bridge_missing(name: str) -> AttachError:
    return AttachError("", f"bridge {name}", errno.ENODEV, "it does not exist in Open vSwitch (ovs-vsctl add-br)")
