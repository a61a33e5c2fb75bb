"""Reads the bytes of floating IPs from the kernel from time to time, and keeps them as text for the metrics.

There may be ten thousands of series: the worker thread makes their text, once per reading, and the hub passes it on.
"""

from __future__ import annotations

from functools import partial

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.reconcile.api import Reconciler, Traffic

PORTION = 50
"""Routers whose counters are read at once: some 10 ms, between which jobs have their turn."""


class TrafficWatch:
    """Belongs to the hub's thread.

    :param interval: seconds; None: bytes are not counted
    :ivar text: in Prometheus' format; empty before the first reading
    """

    def __init__(
        self, interval: float | None, reconciler: Reconciler, worker: WorkerThread, schedule: Schedule
    ) -> None:
        self._interval = interval
        self._reconciler, self._worker, self._schedule = reconciler, worker, schedule
        self.text = b""

    def read_periodically(self) -> None:
        """Read again and again; never returns, except where nothing is counted."""
        while self._interval is not None:
            self._read()
            eventlet_shim.sleep(self._interval)

    def _read(self) -> None:
        from dvr_agent.daemon.metrics.traffic_text import traffic_text  # with prometheus_client: see Exposition

        ids = sorted(self._schedule.records.ids)
        found: list[Traffic] = []
        for at in range(0, len(ids), PORTION):
            read = partial(self._reconciler.read_traffic, ids[at : at + PORTION])
            found += self._worker.try_call(read, "bytes of floating IPs cannot be read") or ()
        self.text = self._worker.call(partial(traffic_text, found))
