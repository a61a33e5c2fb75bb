"""The library's part of the connection to OVSDB: its copy of the rows, and its thread.

Used by :mod:`dvr_agent.attach.openvswitch.database` alone, which is called at every step and every change.
"""

from __future__ import annotations

import threading
from collections.abc import Container
from typing import Any, Protocol

from ovs.db import idl as ovs_idl
from ovs.poller import Poller
from ovs.stream import Stream
from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl

from dvr_agent.attach.openvswitch.schema import schema

RECONNECT_MS = (250, 2000)
"""Between two tries to reach the server again, doubled up to the second.  The library's own is 1 to 8 seconds, in which
routers would wait for nothing."""


def use_certificates(key: str, certificate: str, authority: str) -> None:
    """Files for ssl connections; the library has them once per process."""
    Stream.ssl_set_private_key_file(key)
    Stream.ssl_set_certificate_file(certificate)
    Stream.ssl_set_ca_cert_file(authority)


class CopyObserver(Protocol):
    """Is called at each step of the copy, always with the connection's lock held."""

    def ran(self) -> None:
        """A step was done: perhaps the server is there, or gone."""

    def row_changed(self, event: str, table: str, row: Any, old: Any) -> None:
        """A row is new, another (``old`` has the columns that were different), or gone."""


class RowCopy(OvsdbIdl):  # type: ignore[misc]  # ovsdbapp has no types
    """The rows, as the library keeps them."""

    def __init__(self, connection: str, observer: CopyObserver) -> None:
        helper = ovs_idl.SchemaHelper(None, schema())
        helper.register_all()
        super().__init__(connection, helper, leader_only=False)
        self._observer = observer
        self._session.reconnect.set_backoff(*RECONNECT_MS)
        for table in ("Bridge", "Port", "Interface"):
            self.index_create(table, "name").add_column("name")

    @property
    def connected(self) -> bool:
        """The server is there, and its rows have been read."""
        return self.state == ovs_idl.Idl.IDL_S_MONITORING and bool(self._session.is_connected())

    @property
    def refused(self) -> bool:
        """The last try to connect failed, and the next one is not under way yet."""
        session = self._session
        return session.get_seqno() > 0 and session.rpc is None and session.stream is None

    def run(self) -> bool:
        """Do one step; returns whether rows changed."""
        changed = bool(super().run())
        self._observer.ran()
        return changed

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Pass a changed row on; called by the library."""
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
