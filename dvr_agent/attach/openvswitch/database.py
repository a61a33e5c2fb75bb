"""The connection to OVSDB: a copy of the rows kept by a native thread, transactions, and what changed by itself.

The thread is ovsdbapp's.  It is started by the first question, follows the server, and connects again by itself.
Everybody else asks the copy under its lock, and waits for the thread by a condition; nothing waits longer than the
time limit.  ``ovs-vswitchd`` takes a configuration over when it likes: each transaction that needs it counts
``Open_vSwitch:next_cfg`` up, and it is done when ``cur_cfg`` has got there (as ovs-vsctl(8) does it).
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ovs.db import idl as ovs_idl
from ovsdbapp.exceptions import OvsdbAppException, TimeoutException

from dvr_agent.attach.openvswitch.connection import Copy, Link
from dvr_agent.attach.openvswitch.rows import KEY, SYSTEM, PortRow, is_routers
from dvr_agent.attach.openvswitch.transaction import BoundedTransaction
from dvr_agent.errors import AttachError
from dvr_agent.eventfd import EventFd


class Database:
    """Rows by name, and changes to them.  Its methods are for one thread, apart from ``alarm``.

    :ivar alarm: raised when something changed that no transaction of ours did
    :ivar timeout: seconds that a connection, a transaction or ovs-vswitchd may take
    """

    def __init__(self, connection: str, bridge: str, timeout: float) -> None:
        self.connection, self.bridge, self.timeout = connection, bridge, timeout
        self.alarm = EventFd()
        self.idl = Copy(connection, self)
        self._link = Link(self.idl, timeout)
        self._changed = threading.Condition(self._link.lock)
        self._bridges: dict[Any, Any] | None = None
        """Port UUID → row of its bridge; None: to be read again."""
        self._known: dict[str, PortRow | None] = {}
        """Ports, or that there is none, as asked for since they changed."""
        self._router_ports: dict[str, str] = {}
        """Names of all ports of routers → namespace that this agent plugged them for, empty if it did not."""
        self._expected: set[str] = set()
        """Ports that are being worked on: what happens to them is no news."""
        self._connected = self._was_connected = self._complained = False
        self._lost_at = 0.0
        self._asked = 0
        """Number of the newest configuration that this process has written."""
        self._last_done = 0
        self._behind_since: float | None = None
        """Since when ovs-vswitchd has something to do and has not got on."""

    # --- questions ----------------------------------------------------------------------------------------------

    def ports(self, names: Iterable[str]) -> dict[str, PortRow]:
        """Those of the named ports that are there.

        While the server is away this is what was there last.

        :raises AttachError: the server could not be reached so far
        """
        self._open(patient=False)
        with self._link.lock:
            return {name: row for name in names if (row := self._port(name)) is not None}

    def router_ports(self) -> list[PortRow]:
        """All ports of routers on all bridges; errors as :meth:`ports`."""
        self._open(patient=False)
        with self._link.lock:
            return [row for name in self._router_ports if (row := self._port(name)) is not None]

    def plugged_for(self, namespace: str) -> list[str]:
        """Names of the ports that were plugged by this agent for a namespace; errors as :meth:`ports`."""
        self._open(patient=False)
        with self._link.lock:
            return [name for name, mark in self._router_ports.items() if mark == namespace]

    def has_bridge(self) -> bool:
        """True if the integration bridge exists; errors as :meth:`ports`."""
        self._open(patient=False)
        with self._link.lock:
            return self.find("Bridge", self.bridge) is not None

    def problem(self) -> str:
        """Why nothing could be plugged now, empty if nothing is known."""
        try:
            missing = not self.has_bridge()
        except AttachError as exc:
            return str(exc)
        if not self._connected:
            return str(self._away())
        return f"bridge {self.bridge} is missing" if missing else self._stalled()

    # --- changes ------------------------------------------------------------------------------------------------

    @contextmanager
    def expecting(self, names: Iterable[str]) -> Iterator[None]:
        """Inside the block nothing that happens to these ports raises the alarm."""
        added = set(names)
        self.expect(added)
        try:
            yield
        finally:
            with self._link.lock:
                self._expected -= added

    def expect(self, names: Iterable[str]) -> None:
        """The same from now on, until a block of :meth:`expecting` that names them ends."""
        with self._link.lock:
            self._expected |= set(names)

    def change(self, edits: Sequence[Any], configure: bool = False) -> int | None:
        """Carry out all edits in one transaction.

        :param configure: ovs-vswitchd has to act on it
        :returns: the number of the configuration to wait for, None if nothing had to be changed or ``configure`` is off
        :raises AttachError: away, refused, or not done in time (then it may be done later, as a whole or not at all)
        """
        self._open(patient=True)
        transaction = BoundedTransaction(self, self._link, self.timeout, configure)
        for edit in edits:
            transaction.add(edit)
        try:
            number: int | None = transaction.commit()
        except (TimeoutError, TimeoutException) as exc:
            raise self._error(errno.ETIMEDOUT, f"no answer from the OVSDB server within {self.timeout:g} s") from exc
        except (OvsdbAppException, RuntimeError) as exc:
            raise self._error(errno.EIO, f"refused by the OVSDB server: {exc}") from exc
        self._asked = number or self._asked
        return number

    def reached(self, number: int) -> bool:
        """Wait until ovs-vswitchd has taken the configuration over; False if it does not in time.

        A database that was made anew counts from the start: no more than what it asks for is waited for.
        """
        until = time.monotonic() + self.timeout
        return not self._stalled() and self._wait(lambda: self._done() >= min(number, self.wanted()), until)

    def require(self, number: int | None) -> None:
        """The same, as a must.

        :raises AttachError: it does not
        """
        if number is not None and not self.reached(number):
            hint = f"ovs-vswitchd did not act within {self.timeout:g} s; does it run?"
            raise AttachError("", "Open vSwitch", errno.ETIMEDOUT, hint)

    def settle(self) -> None:
        """Wait until ovs-vswitchd has done all that this process asked of it.

        It may take two changes for one, and a port that was removed and added for one that stayed.

        :raises AttachError: it does not in time, or has owed something for longer than that already
        """
        self._open(patient=True)
        if hint := self._stalled():
            raise AttachError("", "Open vSwitch", errno.ETIMEDOUT, hint)
        self.require(self._asked)

    def close(self) -> None:
        """Ends the thread and the connection; for those who open more than one in a process."""
        self._link.stop(self.timeout)
        self.alarm.close()

    # --- for edits and the copy, under the lock -----------------------------------------------------------------

    @property
    def tables(self) -> Any:
        return self.idl.tables

    def find(self, table: str, name: str) -> Any:
        """The row of that name, or None."""
        rows = self.tables[table].rows
        index = rows.indexes["name"]
        entry = rows.IndexEntry(name=name)
        return next(index.irange(entry, entry), None)

    def root(self) -> Any:
        return next(iter(self.tables["Open_vSwitch"].rows.values()), None)

    def bridge_of(self, port: Any) -> Any:
        """Row of the bridge that a row of the table Port is on, or None."""
        if self._bridges is None:
            rows = self.tables["Bridge"].rows.values()
            self._bridges = {one.uuid: bridge for bridge in rows for one in bridge.ports}
        return None if port is None else self._bridges.get(port.uuid)

    def ran(self) -> None:
        """The copy has done a step: is the server there, and who waits for news?"""
        connected = self.idl.connected
        if connected and not self._connected:
            self._bridges = None
            self._known.clear()
            self._router_ports = {}
            for row in self.tables["Interface"].rows.values():
                self._note_port(row)
            self._note_configuration()
            if self._was_connected or self._complained:
                self.alarm.notify()
            self._was_connected, self._complained = True, False
        elif self._connected and not connected:
            self._lost_at = time.monotonic()
        self._connected = connected
        self._changed.notify_all()

    def row_changed(self, event: str, table: str, row: Any, old: Any) -> None:
        """A row is new, another or gone.  While the copy is read for the first time nothing is news."""
        if table == "Bridge":
            self._bridges = None
            self._known.clear()
            if event != ovs_idl.ROW_UPDATE and row.name == self.bridge and self._connected:
                self.alarm.notify()
        elif table == "Open_vSwitch":
            self._note_configuration()
        else:
            self._known.pop(row.name, None)
        if table == "Interface" and self._connected:
            self._interface_changed(event, row, old)

    # --- inside -------------------------------------------------------------------------------------------------

    def _port(self, name: str) -> PortRow | None:
        """From what was read of the copy already, which takes a hundredth of the time."""
        if name not in self._known:
            interface = self.find("Interface", name)
            self._known[name] = None if interface is None else self._port_row(interface)
        return self._known[name]

    def _port_row(self, interface: Any) -> PortRow:
        bridge = self.bridge_of(self.find("Port", interface.name))
        return PortRow(
            interface.name,
            "" if bridge is None else bridge.name,
            interface.type,
            interface.external_ids,
            _first(interface.ofport, 0),
            _first(interface.error, ""),
            _first(interface.ifindex, 0) > 0,
        )

    def _open(self, patient: bool) -> None:
        """Connect, if that has not been tried.

        :param patient: the server must be there now.  One that was there and went has the time limit from then on
        :raises AttachError: it is away
        """
        if not self._link.is_running:
            self._lost_at = time.monotonic()
            self._link.start()
        if self._connected or (self._was_connected and not patient):
            return
        patient = patient and self._was_connected
        self._wait(lambda: self._connected or (self.idl.refused and not patient), self._lost_at + self.timeout)
        if not self._connected:
            self._complained = True
            raise self._away()

    def _away(self) -> AttachError:
        return self._error(errno.ENOTCONN, "the OVSDB server cannot be reached; does ovsdb-server run?")

    def _error(self, code: int, hint: str) -> AttachError:
        return AttachError("", f"OVSDB at {self.connection}", code, hint)

    def _wait(self, condition: Callable[[], bool], until: float) -> bool:
        """Wait for news from the thread until the condition holds; False if it does not in time."""
        with self._changed:
            while not condition():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _interface_changed(self, event: str, row: Any, old: Any) -> None:
        name = row.name
        known = name in self._router_ports
        if event == ovs_idl.ROW_DELETE:
            self._router_ports.pop(name, None)
        elif event == ovs_idl.ROW_CREATE or "external_ids" in old._data:
            self._note_port(row)
        if (known or name in self._router_ports) and name not in self._expected and _is_news(event, row, old):
            self.alarm.notify()

    def _note_port(self, interface: Any) -> None:
        ids = interface.external_ids
        if is_routers(interface.name, ids):
            self._router_ports[interface.name] = ids.get(KEY, "")
        else:
            self._router_ports.pop(interface.name, None)

    def _done(self) -> int:
        root = self.root()
        return 0 if root is None else int(root.cur_cfg)

    def wanted(self) -> int:
        """Number of the newest configuration that anybody has asked ovs-vswitchd for."""
        root = self.root()
        return 0 if root is None else int(root.next_cfg)

    def _note_configuration(self) -> None:
        """One that gets on does not hang, however much others ask of it meanwhile."""
        done = self._done()
        behind = done < self.wanted()
        if not behind or done != self._last_done or self._behind_since is None:
            if self._stalled():
                self.alarm.notify()
            self._behind_since = time.monotonic() if behind else None
        self._last_done = done

    def _stalled(self) -> str:
        """That ovs-vswitchd hangs, empty if it does not."""
        since = self._behind_since
        if since is None or time.monotonic() - since < self.timeout:
            return ""
        return f"ovs-vswitchd has not acted for {time.monotonic() - since:.0f} s; does it run?"


def _is_news(event: str, row: Any, old: Any) -> bool:
    """Something that concerns us: another OpenFlow port or error, a device in the wrong place or gone, no row."""
    if event != ovs_idl.ROW_UPDATE:
        return bool(event == ovs_idl.ROW_DELETE)
    if "ifindex" in old._data and (_first(row.ifindex, 0) > 0) != (row.type == SYSTEM):
        return True
    return any(column in old._data for column in ("ofport", "error"))


def _first(values: Any, default: Any) -> Any:
    """The value of an optional column."""
    return values[0] if values else default
