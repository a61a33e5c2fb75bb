"""One OVSDB transaction, carried out by the connection's thread.

ovsdbapp's own has time limits that hold only while the server answers: it waits for the reply, and after a broken
connection for the next one, as long as it takes.  Here every wait ends with the time limit.
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
"""RFC 7047, 4.1.3 and 5.2.1"""
NEWS_SECONDS = 1.0


class BoundedTransaction(Transaction):  # type: ignore[misc]  # ovsdbapp has no types
    """Commands that take effect together.  ``commit()`` is the caller's, ``do_commit()`` the thread's part."""

    def __init__(self, index: RowIndex, connection: Any, seconds: float, configure: bool) -> None:
        """
        :param configure: count ``next_cfg`` up, if anything is changed
        """
        # The caller waits a little longer than the thread does, so that it is the thread that gives up.
        super().__init__(index, connection, seconds + 1, check_error=True, log_errors=False)
        self._seconds, self._configure = seconds, configure

    def do_commit(self) -> int | None:
        """
        :returns: the new ``next_cfg``, if it was counted up
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
                self._explain(transaction.get_error(), seen, deadline)
            else:
                self._wait_for_news(seen, deadline)

    def _explain(self, error: str, seen: int, deadline: float) -> None:
        """A constraint is violated when an earlier transaction, which was given up, took effect just before this one:
        the news of that is on its way, and with it the commands find that there is nothing to do.

        :raises RuntimeError: it is another refusal
        """
        if CONSTRAINT in error:
            with contextlib.suppress(TimeoutError):
                self._wait_for_news(seen, min(deadline, time.monotonic() + NEWS_SECONDS))
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
        """The status it came to."""
        while (status := transaction.commit()) == transaction.INCOMPLETE:
            self.api.idl.run()
            self._block(deadline, transaction)
        return status

    def _wait_for_news(self, seen: int, deadline: float) -> None:
        """Until the copy of the rows is another, read from a server that is there."""
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
