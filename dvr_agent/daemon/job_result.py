"""Plain values: the result of a router's job, and the state of a router that ``dvrctl status`` shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.plan_lines import Group


class RouterState(StrEnum):
    """State of a router; the texts appear in the status."""

    IN_SYNC = "in sync"
    PENDING = "pending"
    DEGRADED = "degraded"
    BAD = "bad document"
    NOT_SUPPORTED = "not supported"
    ADMIN_DOWN = "admin down"
    REMOVED = "removed"
    """The router's data plane is gone and so is its record: never in the status."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The end of one job on one router.

    :ivar state: the router's state from now on
    :ivar reason: why it is degraded or not supported
    :ivar reconciled: what the reconciler did; None: the job failed, or the router is not supported
    :ivar retry: the job is to be repeated: another try may succeed without another document
    :ivar held: addresses and networks that are not on their new path, since objects were refused
    :ivar affected: ids of other routers to reconcile again, beside those of ``reconciled``
    :ivar cause: why it failed, one of ``failure_reasons.REASONS``; empty if it did not
    :ivar locked: it needs the lock of iptables programs, which another program holds; nothing was changed
    :ivar shown: the reason, short enough for the log; empty: ``reason`` is
    :ivar changes: what was changed, rule by rule, also by a job that failed
    :ivar seconds: how long the changes took
    :ivar request_id: of the job's log lines
    """

    state: RouterState
    reason: str = ""
    reconciled: Result | None = None
    retry: bool = False
    held: frozenset[str] = frozenset()
    locked: bool = False
    affected: tuple[str, ...] = ()
    shown: str = ""
    changes: tuple[Group, ...] = ()
    seconds: float = 0.0
    request_id: str = ""
    cause: str = ""

    @property
    def failed(self) -> bool:
        """True if the kernel may differ from what the job wanted."""
        return self.retry and self.reconciled is None
