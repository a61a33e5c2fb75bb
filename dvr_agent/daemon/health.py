"""Tells whether the daemon makes progress: for ``/healthz``, ``/readyz`` and systemd's watchdog.

=============  =====================================================================================================
the hub        if it hangs nothing answers and no watchdog is fed: that is the sign
the worker     is stuck when its call has used no processor time for ``stuck_timeout`` seconds, while the hub looked.
               A call that works, or that waits in steps, uses some; one that hangs in a system call (a FIFO, a dead
               network file system, a lock of another program) uses none.  So a stale sweep of thousands of namespaces,
               which takes minutes, is not taken for stuck, and a hanging open(2) is, though both are one call.
               It is stuck as well when its call has run for :data:`LONGEST_CALL`: then it turns in a circle
the dispatcher is stuck when a job could start, the worker is idle, and none starts for ``stuck_timeout`` seconds
=============  =====================================================================================================

:data:`Health.watch` looks each time that the lateness of the hub is measured, so that an idle agent has no timer more.
Belongs to the hub's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dvr_agent.daemon.dispatcher import Dispatcher
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.worker import WorkerThread

LOG = logging.getLogger(__name__)

LONGEST_CALL = 3600.0
"""Seconds that no call of the worker takes.  The longest is the stale sweep: 20 ms a namespace, some thousand of them,
on a machine twenty times overloaded."""
LONGEST_STEP = 1.0
"""Seconds between two looks that count at most: where the process was stopped, the worker could not work either."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    :ivar text: what is so, in a few words
    """

    name: str
    ok: bool
    text: str

    def to_json(self) -> dict[str, object]:
        """Return the check for the answer."""
        return {"name": self.name, "ok": self.ok, "text": self.text}


class _Standstill:
    """For how long a value has stayed the same, as far as somebody looked.

    :ivar seconds: since the value changed last
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._value, self._looked_at = clock, object(), 0.0
        self.seconds = 0.0

    def look(self, value: object) -> float:
        """Note the value; returns :attr:`seconds`."""
        now = self._clock()
        same = value == self._value
        self.seconds = self.seconds + min(now - self._looked_at, LONGEST_STEP) if same else 0.0
        self._value, self._looked_at = value, now
        return self.seconds


class Health:
    """Looks at worker and dispatcher.

    :param stuck_timeout: seconds
    :param clock: monotonic
    """

    def __init__(
        self,
        worker: WorkerThread,
        schedule: Schedule,
        dispatcher: Dispatcher,
        stuck_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker, self._schedule, self._dispatcher = worker, schedule, dispatcher
        self._stuck_timeout, self._clock = stuck_timeout, clock
        self._call, self._dispatch = _Standstill(clock), _Standstill(clock)
        self._complained = False

    @property
    def busy_seconds(self) -> float:
        """For how long the worker's call under way has run; 0: it is idle."""
        since = self._worker.busy_since
        return 0.0 if since is None else max(self._clock() - since, 0.0)

    @property
    def stuck_seconds(self) -> float:
        """For how long the worker's call under way has used no processor time."""
        return self._call.seconds

    @property
    def calls(self) -> int:
        """Number of calls that the worker has carried out."""
        return self._worker.calls

    @property
    def stack(self) -> str:
        """What the worker is doing: its Python stack."""
        return self._worker.stack()

    @property
    def ok(self) -> bool:
        """True if all checks are."""
        return all(check.ok for check in self.checks())

    def watch(self) -> None:
        """Look; logs the beginning of a standstill, with what the worker does, and its end."""
        worker, idle = self._worker, self._worker.busy_since is None
        # What is idle stands still by right: a new value each time.
        self._call.look(object() if idle else (worker.calls, worker.processor_seconds))
        waits = idle and self._schedule.runnable and self._dispatcher.working_on is None
        self._dispatch.look(worker.calls if waits else object())
        bad = [check.text for check in self.checks() if not check.ok]
        if bad and not self._complained:
            LOG.critical("no progress: %s; the worker thread is here:\n%s", "; ".join(bad), worker.stack().rstrip())
        elif self._complained and not bad:
            LOG.warning("recovered: there is progress again")
        self._complained = bool(bad)

    def checks(self) -> tuple[Check, Check]:
        """Return the results of the last look."""
        return self._check_worker(), self._check_dispatcher()

    def _check_worker(self) -> Check:
        busy, still = self.busy_seconds, self._call.seconds
        job = self._dispatcher.working_on
        what = f"{job['job']}" if job is not None else "no job of a router"
        if not self._worker.is_alive:
            return Check("worker", False, "the worker thread has not started, or has ended")
        if still >= self._stuck_timeout:
            return Check("worker", False, f"the worker is stuck in a system call for {still:.0f} s ({what})")
        if busy >= LONGEST_CALL:
            return Check("worker", False, f"the worker has not finished a call for {busy:.0f} s ({what})")
        return Check("worker", True, f"busy for {busy:.1f} s ({what})" if busy else "idle")

    def _check_dispatcher(self) -> Check:
        waits = self._dispatch.seconds
        if waits >= self._stuck_timeout:
            return Check("dispatcher", False, f"jobs wait and none starts for {waits:.0f} s")
        return Check("dispatcher", True, f"{self._schedule.depth} jobs wait or are worked on")
