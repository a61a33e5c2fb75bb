"""Whether the server answers: logged once when it stops to, and once when it is back."""

from __future__ import annotations

import time
from threading import Lock

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Contact:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._away_since: float | None = None

    def lost(self, reason: object) -> None:
        """A call was not answered."""
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = time.monotonic()
        LOG.warning("neutron-server does not answer, routers stay as they are: %s", reason)

    def made(self) -> None:
        """A call was answered."""
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            LOG.info("neutron-server answers again, after %.0f s", time.monotonic() - since)

    @property
    def away(self) -> bool:
        return self._away_since is not None
