"""Opens the parts that the daemon drives, once at the start: reconciler, source, services, layer 2."""

from __future__ import annotations

from dataclasses import dataclass

from dvr_agent.attach.api import AttachDriver
from dvr_agent.config import Settings
from dvr_agent.daemon.announcements import Announce
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.reconcile.api import Reconciler
from dvr_agent.services.bundle import Services
from dvr_agent.sources.api import Source


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one run of the daemon.

    :ivar services: services of routers (metadata, radvd), as the reconciler uses them
    :ivar announce: sends announcements; blocks, for the worker thread
    :ivar writes: counters of kernel writes
    :ivar layer2: notifies when the layer 2 side of ports may have changed by itself; None: changes are not seen
    """

    reconciler: Reconciler
    source: Source
    services: Services
    announce: Announce
    writes: WriteCounters
    layer2: AttachDriver | None = None


def open_parts(settings: Settings) -> Parts:
    """Open the real parts, as configured.

    :raises DvrError: a part cannot be opened
    """
    from dvr_agent.reconcile.factory import open_reconciler
    from dvr_agent.sources.factory import open_source

    reconciler = open_reconciler(settings, lock_timeout=0)  # the worker waits for nobody: see table_lock
    kernel = reconciler.kernel
    return Parts(
        reconciler,
        open_source(settings),
        reconciler.services,
        kernel.announcer.announce,
        kernel.counters,
        reconciler.attach,
    )
