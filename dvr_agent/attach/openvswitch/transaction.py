"""One OVSDB transaction with a time limit, carried out by the connection's thread; used by ``database``.

ovsdbapp's own transaction has time limits that apply only while the server answers: it waits without limit for the
reply, and for a new connection.  Here every wait ends with the time limit.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ovs.db import idl as ovs_idl
from ovs.poller import Poller
from ovsdbapp.backend.ovs_idl.transaction import Transaction

from dvr_agent.attach.openvswitch.row_index import RowIndex

CONSTRAINT = "constraint violation"
"""Error text of a violated constraint (RFC 7047, 4.1.3 and 5.2.1)."""
UPDATE_SECONDS = 1.0
"""Longest wait for the update that explains a violated constraint."""


class BoundedTransaction(Transaction):  # type: ignore[misc]  # ovsdbapp has no types
    """Commands that take effect together.  ``commit()`` is the caller's, ``do_commit()`` the thread's part."""

    def __init__(self, index: RowIndex, connection: Any, seconds: float, configure: bool) -> None:
        """
        :param configure: increment ``next_cfg``, if anything is changed
        """
        # The caller waits a second longer than the thread, so that the thread's time limit comes first.
        super().__init__(index, connection, seconds + 1, check_error=True, log_errors=False)
        self._seconds, self._configure = seconds, configure

    def do_commit(self) -> int | None:
        """Send the commands until the server has accepted them.

        :returns: the new ``next_cfg``, if it was incremented
        :raises TimeoutError: it may take effect later, as a whole
        :raises RuntimeError: the server's refusal
        """
        deadline = time.monotonic() + self._seconds
        while True:
            seen = self.api.idl.change_seqno
            transaction = self._composed()
            status = self._sent(transaction, deadline)
            if status == transaction.SUCCESS:
                return transaction.get_increment_new_value() if self._configure else None
            if status == transaction.UNCHANGED:
                return None
            if status != transaction.TRY_AGAIN:
                self._await_cause(transaction.get_error(), seen, deadline)
            else:
                self._wait_for_update(seen, deadline)

    def _await_cause(self, error: str, seen: int, deadline: float) -> None:
        """Wait for the update that explains a refusal, or raise.

        A constraint is violated when an earlier transaction, which had timed out, took effect just before this one.
        The server's update of that arrives soon, and then the commands find nothing to do.

        :raises RuntimeError: another refusal
        """
        if CONSTRAINT in error:
            with contextlib.suppress(TimeoutError):
                self._wait_for_update(seen, min(deadline, time.monotonic() + UPDATE_SECONDS))
                return
        raise RuntimeError(error)

    def _composed(self) -> Any:
        transaction = ovs_idl.Transaction(self.api.idl)
        try:
            for command in self.commands:
                command.run_idl(transaction)
            if self._configure:
                self._count_up()
        except BaseException:
            transaction.abort()
            raise
        return transaction

    def _count_up(self) -> None:
        root = self.api.root()
        if root is None:
            raise RuntimeError("the database is empty (ovs-vsctl init)")
        root.increment("next_cfg")

    def _sent(self, transaction: Any, deadline: float) -> Any:
        """Commit the transaction; returns its final status."""
        while (status := transaction.commit()) == transaction.INCOMPLETE:
            self.api.idl.run()
            self._block(deadline, transaction)
        return status

    def _wait_for_update(self, seen: int, deadline: float) -> None:
        """Wait until the copy of the rows has changed, from a connected server."""
        idl = self.api.idl
        while idl.run() or not idl.connected or idl.change_seqno == seen:
            if idl.connected and idl.change_seqno != seen:
                return
            self._block(deadline)

    def _block(self, deadline: float, transaction: Any = None) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        poller = Poller()
        self.api.idl.wait(poller)
        if transaction is not None:
            transaction.wait(poller)
        poller.timer_wait(max(1, int(left * 1000)))
        poller.block()
