"""Connection to OVSDB: the monitored rows, transactions, and the thread that follows the server.

Used by :mod:`dvr_agent.attach.openvswitch.database` alone, which observes every step and every changed row.  Of
python-ovs it needs the session: connecting anew, probes, JSON-RPC over Unix sockets, TCP and TLS.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ovs.json import to_string
from ovs.jsonrpc import Message, Session
from ovs.poller import Poller
from ovs.stream import Stream

from dvr_agent.attach.openvswitch.rows_copy import RowChange, Rows
from dvr_agent.attach.openvswitch.schema import DATABASE, monitored
from dvr_agent.eventfd import EventFd
from dvr_agent.threads import make_thread

LOG = logging.getLogger(__name__)

RECONNECT_MS = (250, 2000)
"""First and longest pause between two connection attempts; each pause doubles the last one.  python-ovs's own pauses of
1 to 8 seconds would delay routers."""
MESSAGES = 50
"""Messages that one step takes at most."""
ERROR_SECONDS = 1.0
"""Pause after an unexpected error."""
MONITOR = "dvr-agent"
"""Our name of the monitor."""

Operation = dict[str, Any]
"""An operation of a transaction (RFC 7047, 5.2)."""


def use_certificates(key: str, certificate: str, authority: str) -> None:
    """Set the files for ssl connections; python-ovs has one set per process."""
    Stream.ssl_set_private_key_file(key)
    Stream.ssl_set_certificate_file(certificate)
    Stream.ssl_set_ca_cert_file(authority)


class CopyObserver(Protocol):
    """Observer of the copy of the rows; its methods are called under the connection's lock."""

    def ran(self) -> None:
        """Handle the end of a step, after which the server may be connected or disconnected."""

    def row_changed(self, change: RowChange) -> None:
        """Handle a row that was added, changed or removed; not called for the first rows of a connection."""


@dataclass(slots=True)
class Reply:
    """The server's reply to a transaction.

    :ivar done: there is one, or there will be none
    :ivar results: of the operations, if all were carried out
    :ivar error: the refusal; empty if there is none: the transaction may be sent again after the next update
    """

    done: bool = False
    results: Sequence[Any] | None = None
    error: str = ""


class RowCopy:
    """Copy of the rows and its connection to the server.  Every method is called under the connection's lock.

    :ivar rows: the last known ones
    :ivar connected: the server is connected and its rows have been read
    :ivar updates: number of updates so far
    """

    def __init__(self, connection: str, observer: CopyObserver) -> None:
        self.rows = Rows()
        self.connected = False
        self.updates = 0
        self._observer = observer
        self._session = Session.open_multiple(connection.split(","))
        self._session.reconnect.set_backoff(*RECONNECT_MS)
        self._seqno = self._session.get_seqno()
        """Number of the connection that the rows are monitored on."""
        self._monitor_id: int | None = None
        self._replies: dict[int, Reply] = {}

    @property
    def refused(self) -> bool:
        """True if the last connection attempt failed and the next one has not begun."""
        session = self._session
        return session.get_seqno() > 0 and session.rpc is None and session.stream is None

    @property
    def backlog(self) -> int:
        """Number of bytes that could not be sent yet."""
        return int(self._session.get_backlog())

    def transact(self, operations: Sequence[Operation]) -> Reply:
        """Send a transaction; the reply comes later."""
        reply = Reply()
        message = Message.create_request("transact", [DATABASE, *operations])
        if self.connected and not self._session.send(message):
            self._replies[message.id] = reply
        else:
            reply.done = True
        return reply

    def run(self) -> None:
        """Do one step."""
        session = self._session
        session.run()
        for _ in range(MESSAGES):
            if not session.is_connected():
                self.connected = False
                break
            if session.get_seqno() != self._seqno:
                self._monitor()
            message = session.recv()
            if message is None:
                break
            self._take(message)
        self._observer.ran()

    def wait(self, poller: Any) -> None:
        """Register what the next step waits for."""
        self._session.wait(poller)
        self._session.recv_wait(poller)

    def reconnect(self) -> None:
        """End the connection; the next steps make another."""
        self._session.force_reconnect()

    def close(self) -> None:
        """End the connection."""
        self._session.close()

    def _monitor(self) -> None:
        """Ask a server for all rows, and for their changes from now on."""
        self._seqno, self.connected = self._session.get_seqno(), False
        for reply in self._replies.values():
            reply.done = True
        self._replies.clear()
        request = Message.create_request("monitor_cond", [DATABASE, MONITOR, monitored()])
        self._monitor_id = request.id
        self._session.send(request)

    def _take(self, message: Any) -> None:
        if message.type == Message.T_NOTIFY:
            if message.method == "update2":
                self._update(message.params[1])
        elif message.id == self._monitor_id:
            self._monitor_id = None
            self._begin(message)
        elif message.id in self._replies:
            answer(self._replies.pop(message.id), message)

    def _begin(self, message: Any) -> None:
        """Take over all rows."""
        if message.type == Message.T_ERROR:
            LOG.warning("the OVSDB server refuses to have the database %s monitored: %s", DATABASE, message.error)
            self.reconnect()
            return
        self.rows.clear()
        self._update(message.result)
        self.connected = True

    def _update(self, updates: Mapping[str, Any]) -> None:
        self.updates += 1
        changes = self.rows.update(updates)
        for change in changes if self.connected else ():
            self._observer.row_changed(change)


def answer(reply: Reply, message: Any) -> None:
    """Fill in the reply to a transaction (RFC 7047, 4.1.3)."""
    reply.done = True
    if message.type == Message.T_ERROR:
        reply.error = to_string(message.error)
        return
    errors = [one for one in message.result if isinstance(one, dict) and one.get("error") is not None]
    # A condition of ours did not hold any more; what failed because of that says "aborted", or nothing.
    hard = [one for one in errors if one["error"] not in ("timed out", "aborted")]
    if hard:
        reply.error = to_string(hard[0])
    elif not errors and None not in message.result:
        reply.results = message.result


class OvsdbThread:
    """The thread that does the steps."""

    def __init__(self, copy: RowCopy, lock: threading.Condition) -> None:
        self._copy, self._lock = copy, lock
        self._wake = EventFd()
        self._thread: threading.Thread | None = None
        self._ends = False

    @property
    def is_running(self) -> bool:
        """True from the start to the end of the thread."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread; does not wait for the server."""
        self._thread = make_thread("ovsdb", self._run)
        self._thread.start()

    def wake(self) -> None:
        """Have the thread do a step."""
        self._wake.notify()

    def stop(self, seconds: float) -> None:
        """End the thread and the connection; does not wait longer than the time limit."""
        thread, self._thread, self._ends = self._thread, None, True
        self.wake()
        if thread is not None:
            thread.join(seconds)
        if thread is None or not thread.is_alive():
            self._wake.close()

    def _run(self) -> None:
        poller = Poller()
        while not self._ends:
            try:
                self._step(poller)
            except Exception:
                LOG.exception("a message of the OVSDB server cannot be used: connecting again")
                with self._lock:
                    self._copy.reconnect()  # the copy may lack what it said
                time.sleep(ERROR_SECONDS)
        self._copy.close()

    def _step(self, poller: Any) -> None:
        with self._lock:
            self._copy.wait(poller)
        poller.fd_wait(self._wake.fileno(), select.POLLIN)
        poller.block()
        self._wake.clear()
        with self._lock:
            self._copy.run()
