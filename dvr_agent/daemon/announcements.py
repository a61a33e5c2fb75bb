"""Repeats announcements of addresses after some seconds: a switch or a neighbour may have missed the first one.

Due announcements are gathered by namespace and sent when no more urgent job waits: closing a packet socket takes the
kernel 10 ms, so after a resync one socket per namespace serves all routers in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.jobs import HostJob
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.kernel.api import GratuitousArp
from dvr_agent.state.namespace import Announcement

LOG = logging.getLogger(__name__)

AGAIN_SECONDS = (2.0, 4.0)
"""neutron-l3-agent too sends its gratuitous ARPs more than once, seconds apart (neutron.agent.linux.ip_lib)."""
AGAIN_FRAMES = {
    GratuitousArp.BOTH: (GratuitousArp.BOTH, GratuitousArp.BOTH),
    GratuitousArp.REQUEST: (GratuitousArp.REPLY, GratuitousArp.REQUEST),
}
"""Frames sent first → frames of each repetition.  RFC 5227 (section 2.3) wants two requests; they come first and last,
since a port that layer 2 connects late hears the last only."""
NAMESPACES_AT_ONCE = 5
"""Namespaces served by one job: few, so that a change does not wait long for it."""

Announce = Callable[[str, Sequence[Announcement], GratuitousArp], None]
Announced = Sequence[tuple[str, Announcement]]
"""(namespace, announcement)."""
Place = tuple[str, GratuitousArp]
"""(namespace, frames to send)."""


class AnnouncementRepeater:
    """Gathers announcements that are due again, and sends them.  Belongs to the hub's thread.

    :param announce: sends announcements in a namespace; blocks, for the worker thread
    """

    def __init__(self, announce: Announce, worker: WorkerThread, schedule: Schedule) -> None:
        self._announce, self._worker, self._schedule = announce, worker, schedule
        self._due: dict[Place, dict[tuple[str, Announcement], None]] = {}

    def repeat(self, router_id: str, announced: Announced, sent: GratuitousArp) -> None:
        """Repeat announcements of a router after each of :data:`AGAIN_SECONDS`.

        :param sent: the frames that the router's job sent
        """
        if announced and router_id in self._schedule.records:
            for seconds, arp in zip(AGAIN_SECONDS, AGAIN_FRAMES[sent], strict=True):
                eventlet_shim.GreenTimer(seconds, partial(self._add_due, router_id, announced, arp))

    def send_due(self) -> None:
        """Send the due announcements of a few namespaces, and queue another job if that was not all."""
        for namespace, arp in list(self._due)[:NAMESPACES_AT_ONCE]:
            pending = self._due.pop((namespace, arp))
            due = [announcement for router_id, announcement in pending if self._exists(router_id)]
            if not due:
                continue
            try:
                self._worker.call(partial(self._announce, namespace, due, arp))
            except Exception as exc:  # noqa: BLE001 - the address may have moved away again, which is no error
                LOG.debug("announcements not repeated in %s: %s", namespace, exc)
        if self._due:
            self._queue_job()

    def _add_due(self, router_id: str, announced: Announced, arp: GratuitousArp) -> None:
        for namespace, announcement in announced:
            self._due.setdefault((namespace, arp), {})[(router_id, announcement)] = None
        self._queue_job()

    def _queue_job(self) -> None:
        self._schedule.put_host_job(HostJob.ANNOUNCE, Priority.AUDIT)

    def _exists(self, router_id: str) -> bool:
        """Return False for a router that is gone or about to be removed."""
        record = self._schedule.records.get(router_id)
        return record is not None and not record.deleted
