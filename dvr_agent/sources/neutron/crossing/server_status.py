"""Tracks whether neutron-server answers (logged when that changes), and other values of the source's status."""

from __future__ import annotations

import time
from threading import Lock
from typing import Any

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class ServerStatus:
    """The fetch and the report thread write, any thread reads; published values are replaced, never changed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._unreachable_since: float | None = None
        self._values: dict[str, Any] = {
            "last_report": None,
            "statuses_not_sent": 0,
            "last_full_sync": None,
            "full_syncs": {"number": 0, "seconds": 0.0},
            "chunk_size": None,
            "objects_not_fetched": {},
        }

    def call_failed(self, reason: object) -> None:
        """Note a call that was not answered."""
        with self._lock:
            if self._unreachable_since is not None:
                return
            self._unreachable_since = time.monotonic()
        LOG.warning("neutron-server does not answer, routers unchanged: %s", reason)

    def call_answered(self) -> None:
        """Note a call that was answered."""
        with self._lock:
            since, self._unreachable_since = self._unreachable_since, None
        if since is not None:
            LOG.info("recovered: neutron-server answers, after %.0f s", time.monotonic() - since)

    def full_sync_done(self, seconds: float, last: dict[str, Any]) -> None:
        """Count a complete full sync.

        :param last: what the status shows of it
        """
        with self._lock:
            before = self._values["full_syncs"]
            count = {"number": before["number"] + 1, "seconds": round(before["seconds"] + seconds, 3)}
            self._values = {**self._values, "last_full_sync": last, "full_syncs": count}

    def publish(self, **values: Any) -> None:
        """Replace values of the status."""
        with self._lock:
            self._values = {**self._values, **values}

    def values(self) -> dict[str, Any]:
        """Return the status, JSON-ready; ``away``: calls are not answered."""
        return {"away": self._unreachable_since is not None, **self._values}
