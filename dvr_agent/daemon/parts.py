"""Opens the parts that the daemon drives, once at the start: reconciler, source, services, layer 2."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dvr_agent.attach.api import AttachDriver
from dvr_agent.config import Settings
from dvr_agent.daemon import kept_events
from dvr_agent.daemon.announcements import Announce
from dvr_agent.desired.qos import needs_limits
from dvr_agent.errors import DvrError
from dvr_agent.kernel import capability
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.drift_events import DriftEvents
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.services.bundle import Services
from dvr_agent.sources.api import Source

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one run of the daemon.

    :ivar services: services of routers (metadata, radvd), as the reconciler uses them
    :ivar announce: sends announcements; blocks, for the worker thread
    :ivar writes: counters of kernel writes
    :ivar layer2: notifies when the layer 2 side of ports may have changed by itself; None: changes are not seen
    :ivar drift: hears changes of other programs in the kernel; None: only audits find them
    """

    reconciler: Reconciler
    source: Source
    services: Services
    announce: Announce
    writes: WriteCounters
    layer2: AttachDriver | None = None
    drift: DriftJudge | None = None


def open_parts(settings: Settings) -> Parts:
    """Open the real parts, as configured.

    :raises DvrError: a part cannot be opened
    """
    from dvr_agent.reconcile.factory import open_reconciler
    from dvr_agent.sources.factory import open_source

    source = open_source(settings)
    # The worker waits for nobody: see table_lock.
    reconciler = open_reconciler(settings, newer_wins=source.is_authority, lock_timeout=0)
    LOG.info("packet filter: %s", HostFilter.reason)
    if needs_limits(settings.dataplane):
        LOG.info("bandwidth limits: %s", HostLimits.reason)
    kernel = reconciler.kernel
    return Parts(
        reconciler,
        source,
        reconciler.services,
        kernel.announcer.announce,
        kernel.counters,
        reconciler.attach,
        _open_drift(settings, reconciler),
    )


def _open_drift(settings: Settings, reconciler: RouterReconciler) -> DriftJudge | None:
    """Open the events of the kernel; without them drift is repaired by audits alone."""
    if not capability.has(capability.CAP_NET_BROADCAST):
        LOG.warning("events of the kernel need CAP_NET_BROADCAST: drift is found by audits only")
        return None
    try:
        limits_there = needs_limits(settings.dataplane) and not HostLimits.by_tc
        nftables = HostFilter.backend == "nftables" or limits_there
        kept = kept_events.take(settings, nftables)
        events = kept.events if kept is not None else DriftEvents(nftables)
        reconciler.kernel.namespaces.on_new = events.listen_new
        judge = DriftJudge(events, reconciler.memory, reconciler.attach, reconciler.table_check)
        if kept is not None:
            judge.trust_kept(kept.routers)
        return judge
    except (DvrError, OSError) as exc:
        LOG.warning("events of the kernel cannot be heard, drift is found by audits only: %s", exc)
        return None
