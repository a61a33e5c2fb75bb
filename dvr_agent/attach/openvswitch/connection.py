"""Connection to OVSDB: ovsdbapp's copy of the rows, and ovsdbapp's thread that follows the server.

Used by :mod:`dvr_agent.attach.openvswitch.database` alone, which observes every step and every changed row.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping
from typing import Any, Protocol

from ovs.db import idl as ovs_idl
from ovs.poller import Poller
from ovs.stream import Stream
from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl

from dvr_agent.attach.openvswitch.schema import schema

RECONNECT_MS = (250, 2000)
"""First and longest pause between two connection attempts; each pause doubles the last one.  ovsdbapp's own pauses of 1
to 8 seconds would delay routers."""


def use_certificates(key: str, certificate: str, authority: str) -> None:
    """Set the files for ssl connections; python-ovs has one set per process."""
    Stream.ssl_set_private_key_file(key)
    Stream.ssl_set_certificate_file(certificate)
    Stream.ssl_set_ca_cert_file(authority)


class CopyObserver(Protocol):
    """Observer of the copy of the rows; its methods are called under the connection's lock."""

    def ran(self) -> None:
        """Handle the end of a step, after which the server may be connected or disconnected."""

    def row_changed(self, event: str, table: str, row: Any, old: Any) -> None:
        """Handle a row that was added, changed or removed.

        :param old: of a changed row: the columns that were different
        """


class RowCopy(OvsdbIdl):  # type: ignore[misc]  # ovsdbapp has no types
    """ovsdbapp's copy of the rows."""

    def __init__(self, connection: str, observer: CopyObserver) -> None:
        helper = ovs_idl.SchemaHelper(None, schema())
        helper.register_all()
        super().__init__(connection, helper, leader_only=False)
        self._observer = observer
        self._session.reconnect.set_backoff(*RECONNECT_MS)

    @property
    def connected(self) -> bool:
        """True if the server is connected and its rows have been read."""
        return self.state == ovs_idl.Idl.IDL_S_MONITORING and bool(self._session.is_connected())

    @property
    def refused(self) -> bool:
        """True if the last connection attempt failed and the next one has not begun."""
        session = self._session
        return session.get_seqno() > 0 and session.rpc is None and session.stream is None

    def cooperative_yield(self) -> None:
        """Do nothing: threads need no pause after each row, which ovsdbapp makes for eventlet."""

    def run(self) -> bool:
        """Do one step; returns True if rows changed."""
        changed = bool(super().run())
        self._observer.ran()
        return changed

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Pass a changed row to the observer; called by python-ovs."""
        self._observer.row_changed(event, row._table.name, row, updates)  # noqa: SLF001 - a row has no public name of its table


class OvsdbThread(Connection):  # type: ignore[misc]
    """ovsdbapp's thread, started without waiting for the server."""

    def start(self) -> None:
        """Start the thread."""
        self.poller = Poller()
        self.is_running = True
        self.thread = threading.Thread(target=self.run, name="ovsdb", daemon=True)
        self.thread.start()


def changed_columns(old: Any) -> Container[str]:
    """Return the columns in which a row was different, by the ``old`` of a notification."""
    columns: Container[str] = old._data  # noqa: SLF001 - python-ovs documents no other way to ask
    return columns


def committed(row: Any, column: str) -> Mapping[Any, Any]:
    """Return a column of a row as python-ovs keeps it: atoms as keys of a mapping.

    A row's attributes are copies, made in many steps: a hundred times the time.
    """
    values: Mapping[Any, Any] = row._data[column].values  # noqa: SLF001
    return values


def value(row: Any, column: str, default: Any = None) -> Any:
    """Return the value of a column that has at most one."""
    return next((atom.value for atom in committed(row, column)), default)


def texts(row: Any, column: str) -> dict[str, str]:
    """Return the value of a column that is a map of strings."""
    return {key.value: value.value for key, value in committed(row, column).items()}
