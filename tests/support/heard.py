"""A reconciler that hears the kernel's events, as in the daemon: jobs trust what nobody has changed."""

from __future__ import annotations

from dvr_agent.kernel.drift_events import DriftEvents
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.reconciler import RouterReconciler


def hearing(reconciler: RouterReconciler) -> DriftJudge:
    """Return a judge of the events for a reconciler; the caller closes it."""
    events = DriftEvents(HostFilter.backend == "nftables")
    return DriftJudge(events, reconciler.memory, reconciler.attach, reconciler.table_check)


def reconcile_heard(
    judge: DriftJudge, reconciler: RouterReconciler, router: Router, in_resync: bool = False, trusting: bool = True
) -> Result:
    """Reconcile a router, and hear the events before and after it, as the daemon does around a job."""
    judge.judge()
    judge.job_begins(router.id)
    try:
        return reconciler.reconcile(router, in_resync, trusting=trusting)
    finally:
        judge.job_ended(router.id)
        judge.judge(router.id)
