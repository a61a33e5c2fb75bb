"""Queues checks or a resync after events of services and of layer 2, which change routers without a new document."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dvr_agent import logs
from dvr_agent.attach.api import AttachDriver
from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.errors import ServiceFatalError
from dvr_agent.plural import count
from dvr_agent.repeats import Repeats
from dvr_agent.services.bundle import Services

LOG = logging.getLogger(__name__)

FAILED_PAUSE = 5.0
"""Seconds after a failed check: the event that caused it may still be there."""
LAYER2_SECONDS = 0.5
"""Open vSwitch comes back in many small steps: one resync follows all of them."""


class ServiceWatch:
    """Queues checks of routers whose helper process died, or whose metadata proxy went or came back.

    :param end_agent: ends the agent with an error (``check_child_processes_action = exit``)
    """

    def __init__(
        self, services: Services, worker: WorkerThread, schedule: Schedule, end_agent: Callable[[], None]
    ) -> None:
        self._services, self._worker, self._schedule, self._end_agent = services, worker, schedule, end_agent
        self._repeats = Repeats()

    def watch(self) -> None:
        """Follow events of services; never returns."""
        while True:
            eventlet_shim.wait_readable(self._services.fileno())
            self._check(self._services.changed)

    def check_periodically(self, interval: float) -> None:
        """Check services that give no events, every ``interval`` seconds; never returns."""
        while True:
            eventlet_shim.sleep(interval)
            self._check(self._services.check)

    def _check(self, find_changed: Callable[[], set[str]]) -> None:
        def find() -> set[str]:
            with logs.job_context():
                return find_changed()

        try:
            changed = self._worker.call(find)
        except ServiceFatalError as exc:
            reason = str(exc)
        except Exception as exc:
            if self._repeats.is_due(type(exc).__name__):
                LOG.exception("services could not be checked by an unexpected exception: this is a bug")
            eventlet_shim.sleep(FAILED_PAUSE)
            return
        else:
            for router_id in changed:
                self._schedule.check_soon(router_id)
            return
        # Not inside the except clause: there oslo.log would append the exception to the line.
        LOG.error("%s: the agent ends, as check_child_processes_action says", reason)
        self._end_agent()


class Layer2Watch:
    """Begins a resync when the layer 2 side of ports changed by itself: Open vSwitch came back."""

    def __init__(self, layer2: AttachDriver | None, resync: Resync) -> None:
        self._layer2, self._resync = layer2, resync

    def watch(self) -> None:
        """Follow events of layer 2; returns if the driver gives none."""
        fd = self._layer2.fileno() if self._layer2 is not None else None
        if self._layer2 is None or fd is None:
            return
        self._resync.first_done.wait()
        while True:
            eventlet_shim.wait_readable(fd)
            eventlet_shim.sleep(LAYER2_SECONDS)
            self._layer2.acknowledge()
            LOG.info("layer 2 changed: resync of %s", count(self._resync.begin(), "router"))
