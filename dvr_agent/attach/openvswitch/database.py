"""Read OVSDB from a copy of its rows, and write by transactions; used by ``driver`` and ``plugging``.

A native thread keeps the copy up to date and reconnects by itself; the first call starts it.  Other threads read the
copy and send transactions under its lock (``row_index``), and wait for the thread by a condition; no wait exceeds the
time limit.
``ovs-vswitchd`` acts on a configuration some time later: each transaction that needs it increments
``Open_vSwitch:next_cfg``, and is complete when ``cur_cfg`` has reached that number (``progress``; as ovs-vsctl(8)
waits).
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from dvr_agent.attach.openvswitch.connection import Operation, OvsdbThread, Reply, RowCopy
from dvr_agent.attach.openvswitch.external_changes import ExternalChanges
from dvr_agent.attach.openvswitch.port_edits import Edit, mutate, select
from dvr_agent.attach.openvswitch.progress import ConfigurationProgress
from dvr_agent.attach.openvswitch.row_index import RowIndex
from dvr_agent.attach.openvswitch.rows import PortRow
from dvr_agent.attach.openvswitch.rows_copy import Event, RowChange
from dvr_agent.errors import AttachError

CONSTRAINT = "constraint violation"
"""Error text of a violated constraint (RFC 7047, 4.1.3 and 5.2.1)."""
UPDATE_SECONDS = 1.0
"""Longest wait for the update that explains a violated constraint."""


class Database:
    """Reads rows by name, and changes them.  Its methods are for one thread; implements ``CopyObserver``.

    :ivar changes: event for changes of ports by other programs
    :ivar timeout: seconds that a connection, a transaction or ovs-vswitchd may take
    """

    def __init__(self, connection: str, bridge: str, timeout: float) -> None:
        self.connection, self.bridge, self.timeout = connection, bridge, timeout
        self._copy = RowCopy(connection, self)
        self._changed = self._lock = threading.Condition()
        self._thread = OvsdbThread(self._copy, self._lock)
        self._rows = RowIndex(self._copy.rows, bridge)
        self.changes = ExternalChanges(self._lock)
        self._progress = ConfigurationProgress(self._rows, timeout)
        self._connected = self._was_connected = self._complained = False
        self._lost_at = 0.0

    # --- read ---------------------------------------------------------------------------------------------------

    def ports(self, names: Iterable[str]) -> dict[str, PortRow]:
        """Return the named ports that exist.

        While the server is disconnected these are the last known values.

        :raises AttachError: the server could not be reached so far
        """
        self._open(patient=False)
        with self._lock:
            return {name: row for name in names if (row := self._rows.port(name)) is not None}

    def router_ports(self) -> list[PortRow]:
        """Return all ports of routers on all bridges; errors as :meth:`ports`."""
        self._open(patient=False)
        with self._lock:
            return [row for name in self._rows.router_ports if (row := self._rows.port(name)) is not None]

    def plugged_for(self, namespace: str) -> list[str]:
        """Return names of the ports that this agent plugged for a namespace; errors as :meth:`ports`."""
        self._open(patient=False)
        with self._lock:
            return [name for name, mark in self._rows.router_ports.items() if mark == namespace]

    def has_bridge(self) -> bool:
        """True if the integration bridge exists; errors as :meth:`ports`."""
        self._open(patient=False)
        with self._lock:
            return self._rows.find("Bridge", self.bridge) is not None

    def problem(self) -> str:
        """Return why no port can be plugged now, empty if no reason is known."""
        try:
            missing = not self.has_bridge()
        except AttachError as exc:
            return str(exc)
        if not self._connected:
            return str(self._unreachable())
        stalled = self._progress.stalled()
        if not missing:
            return f"OVSDB at {self.connection}: {stalled}" if stalled else ""
        return f"bridge {self.bridge} is missing"

    # --- changes ------------------------------------------------------------------------------------------------

    def change(self, edits: Sequence[Edit], configure: bool = False) -> int | None:
        """Write all edits in one transaction.

        :param configure: ovs-vswitchd has to act on it
        :returns: the number of the configuration to wait for, None if nothing had to be changed or ``configure`` is off
        :raises AttachError: disconnected, refused, or no answer in time (the transaction may take effect later as a
            whole)
        """
        self._open(patient=True)
        try:
            with self._lock:
                number = self._commit(edits, configure, time.monotonic() + self.timeout)
        except TimeoutError as exc:
            raise self._error(errno.ETIMEDOUT, f"no answer from the OVSDB server within {self.timeout:g} s") from exc
        except RuntimeError as exc:
            raise self._error(errno.EIO, f"refused by the OVSDB server: {exc}") from exc
        self._progress.requested = number or self._progress.requested
        return number

    def reached(self, number: int) -> bool:
        """Wait until ovs-vswitchd has taken the configuration over; False if it does not in time.

        A new database counts from the start: the wait ends at its ``next_cfg`` if that is lower.
        """
        until = time.monotonic() + self.timeout
        progress = self._progress
        return not progress.stalled() and self._wait(lambda: progress.done() >= min(number, progress.wanted()), until)

    def require(self, number: int | None) -> None:
        """Wait as :meth:`reached`, and fail if ovs-vswitchd does not act.

        :raises AttachError: ovs-vswitchd has not taken the configuration over in time
        """
        if number is not None and not self.reached(number):
            raise self._error(errno.ETIMEDOUT, f"ovs-vswitchd did not act within {self.timeout:g} s; does it run?")

    def wanted(self) -> int:
        """Return the number of the newest configuration that any client has written."""
        return self._progress.wanted()

    def settle(self) -> None:
        """Wait until ovs-vswitchd has taken over all configurations that this process has written.

        Otherwise it may see two changes as one: a port that was removed and added again as a port that stayed.

        :raises AttachError: ovs-vswitchd does not act in time, or is stalled already
        """
        self._open(patient=True)
        if hint := self._progress.stalled():
            raise self._error(errno.ETIMEDOUT, hint)
        self.require(self._progress.requested)

    def close(self) -> None:
        """End the thread and the connection; for callers that open more than one in a process."""
        self._thread.stop(self.timeout)
        self.changes.event.close()

    # --- CopyObserver: called under the lock -----------------------------------------------------------------------

    def ran(self) -> None:
        """Record whether the server is connected, and wake waiting threads."""
        connected = self._copy.connected
        if connected and not self._connected:
            self._rows.read_anew()
            self._note_configuration()
            if self._was_connected or self._complained:
                self.changes.notify()
            self._was_connected, self._complained = True, False
        elif self._connected and not connected:
            self._lost_at = time.monotonic()
        self._connected = connected
        self._changed.notify_all()

    def row_changed(self, change: RowChange) -> None:
        """Record a changed row; raise the event if it matters."""
        table = change.row.table
        if table == "Open_vSwitch":
            self._note_configuration()
            return
        self._rows.row_changed(change)
        if table == "Bridge" and change.event is not Event.CHANGED and change.row.name == self.bridge:
            self.changes.notify()
        elif table == "Interface" and self._rows.interface_changed(change):
            self.changes.interface_changed(change)

    # --- inside -------------------------------------------------------------------------------------------------

    def _commit(self, edits: Sequence[Edit], configure: bool, until: float) -> int | None:
        """Send the edits until the server has accepted them; returns the new ``next_cfg``, if it was incremented.

        :raises TimeoutError: it may take effect later, as a whole
        :raises RuntimeError: the server's refusal
        """
        while True:
            seen = self._copy.updates
            operations = [operation for edit in edits for operation in edit.operations(self._rows)]
            if configure:
                operations += self._count_up(operations)
            if not operations:
                return None
            reply = self._copy.transact(operations)
            if self._copy.backlog or reply.done:  # not sent, or not all of it
                self._thread.wake()
            self._await(lambda: reply.done, until)  # noqa: B023 - it is called in this turn only
            if reply.results is not None:
                return int(reply.results[-1]["rows"][0]["next_cfg"]) if configure else None
            self._await_cause(reply, seen, until)

    def _count_up(self, operations: Sequence[Operation]) -> list[Operation]:
        """Return the operations that increment ``next_cfg``, if there are others, and read it."""
        root = self._rows.root()
        if root is None:
            raise RuntimeError("the database is empty (ovs-vsctl init)")
        return [mutate(root, ["next_cfg", "+=", 1]), select(root, "next_cfg")] if operations else []

    def _await_cause(self, reply: Reply, seen: int, until: float) -> None:
        """Wait for the update after which the edits are tried again, or raise.

        A constraint is violated when an earlier transaction, which had timed out, took effect just before this one.
        The server's update of that arrives soon, and then the edits find nothing to do.

        :raises TimeoutError: there is none in time
        :raises RuntimeError: another refusal
        """
        if reply.error and CONSTRAINT not in reply.error:
            raise RuntimeError(reply.error)
        if reply.error:
            until = min(until, time.monotonic() + UPDATE_SECONDS)
        try:
            self._await(lambda: self._copy.connected and self._copy.updates != seen, until)
        except TimeoutError:
            if reply.error:
                raise RuntimeError(reply.error) from None
            raise

    def _await(self, condition: Callable[[], bool], until: float) -> None:
        """Wait as :meth:`_wait`.

        :raises TimeoutError: the condition does not hold in time
        """
        if not self._wait(condition, until):
            raise TimeoutError

    def _note_configuration(self) -> None:
        if self._progress.note():
            self.changes.notify()

    def _open(self, patient: bool) -> None:
        """Start the thread if it does not run, and wait for the connection.

        :param patient: the caller writes: a server that was connected before must be connected again, and has the time
            limit since it was lost for that
        :raises AttachError: the server is not connected
        """
        if not self._thread.is_running:
            self._lost_at = time.monotonic()
            self._thread.start()
        if self._connected or (self._was_connected and not patient):
            return
        patient = patient and self._was_connected
        self._wait(lambda: self._connected or (self._copy.refused and not patient), self._lost_at + self.timeout)
        if not self._connected:
            self._complained = True
            raise self._unreachable()

    def _unreachable(self) -> AttachError:
        return self._error(errno.ENOTCONN, "the OVSDB server cannot be reached; does ovsdb-server run?")

    def _error(self, code: int, hint: str) -> AttachError:
        return AttachError("", f"OVSDB at {self.connection}", code, hint)

    def _wait(self, condition: Callable[[], bool], until: float) -> bool:
        """Wait for steps of the thread until the condition holds; False if it does not in time."""
        with self._changed:
            while not condition():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True
