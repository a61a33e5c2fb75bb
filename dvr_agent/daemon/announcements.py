"""Says again, some seconds later, where addresses live: a switch or a neighbour may have missed the first time.

What is due is gathered by namespace and sent when nothing more urgent waits: closing a packet socket takes the kernel
10 ms, so after a full sync one socket for a namespace serves all routers in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.worker import Worker
from dvr_agent.reconcile.api import Result as Outcome
from dvr_agent.state.namespace import Announcement

LOG = logging.getLogger(__name__)

AGAIN_SECONDS = (2.0, 4.0)
"""Neutron as well sends its gratuitous ARPs more than once, seconds apart (neutron.agent.linux.ip_lib)."""
NAMESPACES_AT_ONCE = 5
"""So few that a change does not wait long for them."""

Announce = Callable[[str, Sequence[Announcement]], None]


class Repeater:
    """Belongs to the hub's thread.

    :param request: asks the dispatcher to call :meth:`send_some` when there is time
    :param exists: False for a router that is gone or going: nothing is announced for it any more
    """

    def __init__(
        self, announce: Announce, worker: Worker, request: Callable[[], None], exists: Callable[[str], bool]
    ) -> None:
        self._announce, self._worker = announce, worker
        self._request, self._exists = request, exists
        self._due: dict[str, dict[tuple[str, Announcement], None]] = {}

    def later(self, router_id: str, outcome: Outcome) -> None:
        """Repeat the announcements of this outcome."""
        if outcome.announcements:
            for seconds in AGAIN_SECONDS:
                eventlet_shim.Timer(seconds, partial(self._now_due, router_id, outcome))

    def send_some(self) -> None:
        """Send what is due in a few namespaces, and ask to be called again if that was not all."""
        for namespace in list(self._due)[:NAMESPACES_AT_ONCE]:
            due = [announcement for router_id, announcement in self._due.pop(namespace) if self._exists(router_id)]
            if not due:
                continue
            try:
                self._worker.call(partial(self._announce, namespace, due))
            except Exception as exc:  # noqa: BLE001 - the address may have moved away again: nobody needs to know
                LOG.debug("not announced again in %s: %s", namespace, exc)
        if self._due:
            self._request()

    def _now_due(self, router_id: str, outcome: Outcome) -> None:
        for namespace, announcement in outcome.announcements:
            self._due.setdefault(namespace, {})[(router_id, announcement)] = None
        self._request()
