"""Edits of OVSDB as commands of ovsdbapp; used by ``driver`` and ``plugging``.

A command may run more than once, on a newer copy of the rows each time (another client was faster, the connection
broke): it reads the rows and writes the differences.  Columns of other programs are never written, above all
``Port:tag`` and ``other_config`` of Neutron's Open vSwitch agent.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from ovsdbapp.backend.ovs_idl.command import BaseCommand

from dvr_agent.attach.openvswitch.row_index import RowIndex
from dvr_agent.errors import AttachError


class _Edit(BaseCommand):  # type: ignore[misc]  # ovsdbapp has no types
    """A command that finds its rows by name when it runs."""

    def __init__(self, index: RowIndex) -> None:
        super().__init__(index)
        self.index = index


class AddPort(_Edit):
    """Adds a port with one interface to the integration bridge; an existing port gets missing ``external_ids``."""

    def __init__(self, index: RowIndex, name: str, kind: str, ids: Mapping[str, str]) -> None:
        super().__init__(index)
        self.name, self.kind, self.ids = name, kind, dict(ids)

    def run_idl(self, txn: Any) -> None:
        """Add the rows, or the missing ``external_ids``."""
        find, tables = self.index.find, self.index.tables
        if find("Interface", self.name) is not None:
            SetIds(self.index, self.name, self.ids).run_idl(txn)
            return
        bridge = find("Bridge", self.index.bridge)
        if bridge is None:
            raise bridge_missing(self.index.bridge)
        # Otherwise a write to a bridge that was made anew meanwhile would be lost without an error.
        bridge.verify("name")
        interface = txn.insert(tables["Interface"])
        interface.name, interface.type, interface.external_ids = self.name, self.kind, self.ids
        port = txn.insert(tables["Port"])
        port.name, port.interfaces = self.name, [interface]
        bridge.addvalue("ports", port)


class SetIds(_Edit):
    """Sets keys of ``Interface:external_ids``; other keys stay."""

    def __init__(self, index: RowIndex, name: str, ids: Mapping[str, str]) -> None:
        super().__init__(index)
        self.name, self.ids = name, dict(ids)

    def run_idl(self, txn: Any) -> None:
        """Set the keys that differ."""
        interface = self.index.find("Interface", self.name)
        if interface is None:
            return
        there = interface.external_ids
        for key, value in self.ids.items():
            if there.get(key) != value:
                interface.setkey("external_ids", key, value)


class DeletePort(_Edit):
    """Removes a port from its bridge, if it has one; OVSDB deletes rows that no bridge refers to."""

    def __init__(self, index: RowIndex, name: str) -> None:
        super().__init__(index)
        self.name = name

    def run_idl(self, txn: Any) -> None:
        """Remove the port from its bridge."""
        port = self.index.find("Port", self.name)
        bridge = self.index.bridge_of(port)
        if port is not None and bridge is not None:
            bridge.delvalue("ports", port)


class Touch(_Edit):
    """Makes a transaction that changes nothing but ``next_cfg``: ovs-vswitchd then checks its configuration again."""

    def run_idl(self, txn: Any) -> None:
        """Read ``cur_cfg``, so that the transaction is not empty."""
        root = self.index.root()
        if root is not None:
            root.fetch("cur_cfg")


def bridge_missing(name: str) -> AttachError:
    """Return the error for a missing integration bridge."""
    return AttachError("", f"bridge {name}", errno.ENODEV, "it does not exist in Open vSwitch (ovs-vsctl add-br)")
