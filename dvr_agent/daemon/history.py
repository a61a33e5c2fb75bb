"""Makes the history's entries: one for each job that has changed something, or the state of its router.

Belongs to the hub's thread.  The lines are made by the jobs, in the worker thread; ``dvr_agent.history`` keeps them,
``reconcile.history_entries`` says what an entry has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.jobs import RemoveRouter, RouterJob
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.history.writer import HistoryWriter
from dvr_agent.reconcile.drift import Finding
from dvr_agent.reconcile.history_entries import entries_by_router, make_entry
from dvr_agent.reconcile.plan_lines import Group

_JOBS = {
    Priority.EVENT: "update",
    Priority.RETRY: "retry",
    Priority.DRIFT: "drift",
    Priority.RESYNC: "resync",
    Priority.AUDIT: "drift",
}


class History:
    """Adds entries to the history.

    :ivar writer: ring and file
    :ivar starting: the first resync is under way
    """

    def __init__(self, writer: HistoryWriter) -> None:
        self.writer = writer
        self.starting = True
        self._states: dict[str, tuple[str, str, str]] = {}
        """Router → (state, reason, VRRP state) of its last entry."""

    def router_job_ended(
        self, work: RouterJob, priority: Priority, result: JobResult, found: Iterable[Finding]
    ) -> None:
        """Keep the job of a router, if it has changed anything.

        :param found: what was heard of drift before it
        """
        is_master = result.reconciled.is_master if result.reconciled is not None else None
        vrrp = "" if is_master is None else "master" if is_master else "backup"
        now = (result.state.value, result.reason, vrrp)
        if not self._is_news(work.router_id, now, result) and not result.changes:
            return
        entry = make_entry(work.router_id, work.name, self._job(work, priority), result.request_id, result.changes)
        entry |= {"milliseconds": round(result.seconds * 1e3, 2), "state": now[0], "reason": now[1]}
        entry |= {"vrrp": vrrp} if vrrp else {}
        by = [_by(finding) for finding in found]
        entry |= {"by": by} if by else {}
        self.writer.add(entry)

    def _is_news(self, router_id: str, now: tuple[str, str, str], result: JobResult) -> bool:
        """Note the state of a router; returns True if it is another one than before.

        Of the first job of a router since the start only a failure is news: a router that is left alone, or whose
        master this host is, may have been so before.
        """
        before = self._states.get(router_id)
        if result.state is RouterState.REMOVED:
            self._states.pop(router_id, None)
            return False
        self._states[router_id] = now
        return result.state is RouterState.DEGRADED if before is None else now != before

    def removed(self, job: str, request_id: str, groups: Iterable[Group], names: Mapping[str, str]) -> None:
        """Keep a removal that was no job of a router: an entry for each router, and one for the host.

        :param job: ``sweep`` or ``bridges``
        :param names: id → name of the routers that are removed
        """
        for entry in entries_by_router(job, request_id, groups, names, RouterState.REMOVED.value):
            self.writer.add(entry)
            self._states.pop(entry["router"] or "", None)

    def _job(self, work: RouterJob, priority: Priority) -> str:
        if isinstance(work, RemoveRouter):
            return "removal"
        return "start" if self.starting and priority in (Priority.EVENT, Priority.RESYNC) else _JOBS[priority]


def _by(finding: Finding) -> dict[str, Any]:
    author = finding.author
    return {
        "text": finding.text,
        "pid": author.pid or None,
        "program": author.program or None,
        "protocol": author.protocol or None,
    }
