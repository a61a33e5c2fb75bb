"""Defines the kinds of jobs, and carries out the jobs of routers.

:func:`run` and all below it run in the worker thread, block, and write nothing that the hub reads: the result is
returned as a value.  Each job has its own request id, and its log lines carry the router's id.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from enum import Enum

from dvr_agent import logs
from dvr_agent.daemon import failure_reasons
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.job_texts import counts_text, log_changes, log_objects, subject_text, times_text
from dvr_agent.daemon.work_queue import Priority, QueuedJob
from dvr_agent.errors import DvrError, NotSupportedError, TablesLockedError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Reconciler, RefusedError, Result
from dvr_agent.reconcile.plan_lines import Group, plan_groups
from dvr_agent.sources.api import DataPlane, Document, JobReport

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpdateRouter:
    """Make the kernel agree with a router document.

    :ivar logged: warnings and omissions of earlier jobs of this router, which are not logged again
    :ivar recovering: the last try failed, or the last document was bad: a success is logged as recovered
    """

    document: Document
    logged: frozenset[str] = frozenset()
    recovering: bool = False

    @property
    def router_id(self) -> str:
        """Id of the document's router."""
        return self.document.router.id

    @property
    def name(self) -> str:
        """Name of the document's router."""
        return self.document.router.name

    @property
    def floating_ips(self) -> tuple[str, ...]:
        """Addresses of the document's floating IPs, also of those that port forwardings use."""
        router = self.document.router
        own = [fip.address for fip in router.floating_ips]
        return tuple(map(str, [*own, *(fip.address for fip in router.features.forwarding_ips)]))


@dataclass(frozen=True, slots=True)
class RemoveRouter:
    """Remove a router whose document was deleted explicitly."""

    router_id: str
    name: str

    @property
    def floating_ips(self) -> tuple[str, ...]:
        """No addresses: there is no document any more."""
        return ()


class HostJob(Enum):
    """Jobs that belong to no router; the value is their key in the queue."""

    BEGIN_ROUND = "begin round"
    SWEEP = "stale sweep"
    ANNOUNCE = "announce again"
    REMOVE_BRIDGES = "remove idle bridges"


RouterJob = UpdateRouter | RemoveRouter
Work = RouterJob | HostJob


@dataclass(slots=True)
class _Done:
    """Collects what a job has changed, also where it fails later."""

    groups: list[Group] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, result: Result) -> tuple[Group, ...]:
        """Add what was carried out; returns it as groups of lines."""
        groups, _shared = plan_groups(result.plan)
        self.groups += groups
        self.seconds += result.seconds
        return groups


JOB_KINDS = ("update", "removal", "retry", "drift", "resync", "audit")
"""Kinds of a router's jobs, by what they were queued for."""
_KIND_OF_PRIORITY = {
    Priority.EVENT: "update",
    Priority.RETRY: "retry",
    Priority.DRIFT: "drift",
    Priority.RESYNC: "resync",
    Priority.AUDIT: "audit",
}


def kind_of(work: RouterJob, priority: Priority) -> str:
    """Return the kind of a router's job, one of :data:`JOB_KINDS`; a removal is one whatever it was queued for."""
    return "removal" if isinstance(work, RemoveRouter) else _KIND_OF_PRIORITY[priority]


def run(job: QueuedJob[Work], reconciler: Reconciler) -> tuple[float, JobResult]:
    """Carry out the job of a router; returns seconds between its event and its start, and the result.

    Never raises: an unexpected exception is a failed try like any other.  Failures are not logged here: the hub knows
    whether they are in the log already (``failure_log``).
    """
    late, done = started_late(job.since), _Done()
    work = job.work
    assert not isinstance(work, HostJob)
    with logs.job_context(work.router_id, work.floating_ips) as request_id:
        result = _try(work, job.priority, reconciler, late, done)
        if result.state is RouterState.NOT_SUPPORTED and result.reason not in _logged(work):
            LOG.warning("%s: %s", subject_text(work.router_id, work.name), result.reason)
        return late, replace(result, changes=tuple(done.groups), seconds=done.seconds, request_id=request_id)


def _try(work: RouterJob, priority: Priority, reconciler: Reconciler, late: float, done: _Done) -> JobResult:
    """Carry out a job; every exception becomes a result."""
    try:
        return _carry_out(work, priority, reconciler, late, done)
    except NotSupportedError as exc:
        return JobResult(RouterState.NOT_SUPPORTED, str(exc), affected=exc.affected)
    except TablesLockedError as exc:
        cause = failure_reasons.reason_of(exc)
        return JobResult(RouterState.DEGRADED, str(exc), retry=True, locked=True, cause=cause)
    except RefusedError as exc:
        return replace(_partly_done(work, exc), shown=_text(exc.brief(), *exc.result.trouble))
    except DvrError as exc:
        cause = failure_reasons.reason_of(exc)
        return JobResult(RouterState.DEGRADED, str(exc), retry=True, affected=exc.affected, cause=cause)
    except Exception as exc:
        reason = f"{type(exc).__name__}: {exc}"
        if not _is_retry(work):
            subject = subject_text(work.router_id, work.name)
            LOG.exception("%s: failed by an unexpected exception: this is a bug", subject)
        return JobResult(RouterState.DEGRADED, reason, retry=True, cause=failure_reasons.BUG)


def _is_retry(work: RouterJob) -> bool:
    return isinstance(work, UpdateRouter) and work.recovering


def _logged(work: RouterJob) -> frozenset[str]:
    return work.logged if isinstance(work, UpdateRouter) else frozenset()


def report_of(work: RouterJob, result: JobResult) -> JobReport:
    """Return the report of a router's job that the source gets."""
    router = work.document.router if isinstance(work, UpdateRouter) else None
    if result.failed:
        return JobReport(work.router_id, DataPlane.FAILED, router, result.reason)
    if result.state is RouterState.NOT_SUPPORTED:
        return JobReport(work.router_id, DataPlane.LEFT_ALONE, router, result.reason)
    in_place = router is not None and router.admin_state_up
    data_plane = DataPlane.IN_PLACE if in_place else DataPlane.ABSENT
    left_out, rivals = _left_to_others(router, result.reconciled)
    is_master = result.reconciled.is_master if result.reconciled is not None else None
    return JobReport(
        work.router_id, data_plane, router, held=result.held, left_out=left_out, rivals=rivals, is_master=is_master
    )


def _left_to_others(router: Router | None, result: Result | None) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return (ids of the floating IPs that other routers have, these routers)."""
    if router is None or result is None or result.built is None:
        return frozenset(), ()
    return frozenset(_floating_ips(router) - _floating_ips(result.built)), result.rivals


def _floating_ips(router: Router) -> set[str]:
    """Return the ids of all floating IPs, also of those that port forwardings use."""
    return {fip.id for fip in router.floating_ips} | {fip.id for fip in router.features.forwarding_ips}


def started_late(since: float) -> float:
    """Return the seconds from an event, by the monotonic clock, until now."""
    return max(time.monotonic() - since, 0.0)


def _carry_out(work: RouterJob, priority: Priority, reconciler: Reconciler, late: float, done: _Done) -> JobResult:
    """Reconcile the router of an update, or remove the router; an administratively down router is removed too.

    :raises DvrError: the job failed
    """
    if isinstance(work, RemoveRouter):
        return JobResult(RouterState.REMOVED, reconciled=_remove(work, "removed", reconciler, late, done))
    router = work.document.router
    freed: tuple[str, ...] = ()
    if reconciler.planner.has_left(router):
        freed = _remove(work, "not distributed any more, removed from this host", reconciler, late, done).affected
    if not router.admin_state_up and not reconciler.planner.why_left_alone(router):
        result = _remove(work, "administratively down, removed", reconciler, late, done)
        return JobResult(RouterState.ADMIN_DOWN, reconciled=result)
    in_round = priority in (Priority.RESYNC, Priority.AUDIT)
    refused = None
    try:
        trusting = priority in (Priority.EVENT, Priority.RESYNC)
        result = reconciler.reconcile(router, in_round, work.document.name, trusting)
    except NotSupportedError as exc:
        exc.affected += freed
        raise
    except RefusedError as exc:
        result, refused = exc.result, exc
    # Not inside the except clause, as in run().
    _log_update(work, priority, result, late, done.add(result), succeeded=refused is None)
    if refused is not None:
        raise refused
    return _result(work, result)


def _result(work: UpdateRouter, result: Result) -> JobResult:
    """Return the result of an update that was carried out.

    A retry does not help where objects of the document are left out: only another document does.
    """
    omitted = result.plan.omitted
    if result.trouble:
        reason = _text(*result.trouble, *omitted)
        return JobResult(RouterState.DEGRADED, reason, result, retry=True, cause=failure_reasons.SERVICE)
    if not work.document.router.admin_state_up:
        return JobResult(RouterState.ADMIN_DOWN, reconciled=result)
    if omitted:
        return JobResult(RouterState.DEGRADED, f"left out: {'; '.join(omitted)}", result)
    return JobResult(RouterState.IN_SYNC, reconciled=result)


def _partly_done(work: RouterJob, error: RefusedError) -> JobResult:
    """Return the result of a job that was carried out but for objects that were refused."""
    reason, result = _text(str(error), *error.result.trouble), error.result
    cause = failure_reasons.reason_of(error)
    if isinstance(work, RemoveRouter) or not work.document.router.admin_state_up:
        return JobResult(RouterState.DEGRADED, reason, retry=True, cause=cause)
    return JobResult(RouterState.DEGRADED, reason, result, retry=True, held=error.held, cause=cause)


def _text(*reasons: str) -> str:
    """Return reasons as one text, each once."""
    return "; ".join(dict.fromkeys(reasons))


def _log_update(
    work: UpdateRouter, priority: Priority, result: Result, late: float, groups: tuple[Group, ...], succeeded: bool
) -> None:
    """Log what is new: warnings, objects that are left out, changes."""
    subject, plan = subject_text(work.router_id, work.name), result.plan
    for warning in plan.warnings:
        if warning not in work.logged:
            LOG.warning("%s: %s", subject, warning)
    for omission in plan.omitted:
        if omission not in work.logged:
            LOG.error("%s: left out: %s: %s", subject, work.document.name, omission)
    counts, times = counts_text(plan), times_text(result, late)
    if plan and priority.repairs:  # drift_watch logs the objects, with who had changed them
        LOG.warning("%s: drift repaired: %s; %s", subject, counts, times)
        log_objects(work.router_id, groups)
    elif plan:
        verb = "added" if any(change.create for change in plan.changes) else "changed"
        LOG.info("%s: %s: %s; %s", subject, verb, counts, times)
        log_changes(work.router_id, groups)
    elif not priority.repairs:
        is_news = priority is Priority.EVENT or (work.recovering and succeeded and not result.trouble)
        LOG.log(logging.INFO if is_news else logging.DEBUG, "%s: unchanged; %s", subject, times)


def _remove(work: RouterJob, verb: str, reconciler: Reconciler, late: float, done: _Done) -> Result:
    """Remove a router from the host, and log it.

    :raises DvrError: not everything was removed
    """
    subject = subject_text(work.router_id, work.name)
    try:
        result = reconciler.remove(work.router_id)
    except RefusedError as exc:
        done.add(exc.result)
        raise
    groups = done.add(result)
    if result.plan:
        LOG.info("%s: %s: %s; %s", subject, verb, counts_text(result.plan), times_text(result, late))
        log_changes(work.router_id, groups)
    else:
        LOG.debug("%s: %s: there was nothing to remove", subject, verb)
    return result
