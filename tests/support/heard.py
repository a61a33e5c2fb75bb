"""A reconciler that hears the kernel's events, as in the daemon: jobs trust what nobody has changed."""

from __future__ import annotations

import json
import os

from dvr_agent.kernel.drift_events import DriftEvents, Kept
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.kept_trust import KeptRouter
from dvr_agent.reconcile.reconciler import RouterReconciler


def hearing(reconciler: RouterReconciler, kept: Kept | None = None) -> DriftJudge:
    """Return a judge of the events for a reconciler; the caller closes it.

    :param kept: by another judge, see :func:`left_by`; the reconciler's memory is loaded already
    """
    events = DriftEvents(
        HostFilter.backend == "nftables", kept._replace(record=kept.record["events"]) if kept else None
    )
    reconciler.kernel.namespaces.on_new = events.listen_new
    judge = DriftJudge(events, reconciler.memory, reconciler.attach, reconciler.table_check)
    if kept is not None:
        judge.trust_kept({router_id: KeptRouter.from_json(one) for router_id, one in kept.record["routers"].items()})
    return judge


def left_by(judge: DriftJudge) -> Kept | None:
    """Have a judge keep its events for another process, and return what that gets: copies, and what JSON makes."""
    kept = judge.keep()
    if kept is None:
        return None
    copies = {what: os.dup(descriptor) for what, descriptor in kept.descriptors.items()}
    return Kept(json.loads(json.dumps(kept.record)), copies)


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
