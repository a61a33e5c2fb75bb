"""Ports whose router has become of another kind, distributed or not: when they may be added again.

Neutron's Open vSwitch agent sets flows for a port by the kind of its router when the port appears, and keeps them as
long as the port has its number.  It takes the kind from a cache, which the server brings up to date a little later than
it tells the L3 agent: a port that is added at once would get the flows of the old kind, and keep them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

FORGET_SECONDS = 5.0
"""Seconds in which the server has told Neutron's Open vSwitch agent that a router is of another kind."""
FORGETTING = "removed, since its router is of another kind now and Neutron's Open vSwitch agent has to forget it"


class Leaving:
    """Devices of ports that were removed and must not be added yet; used by the driver and ``plugging``."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def note(self, devices: Iterable[str]) -> None:
        """Note that ports were removed just now."""
        self._due.update(dict.fromkeys(devices, time.monotonic() + FORGET_SECONDS))

    def wait(self, device: str) -> float:
        """Return the seconds until a port may be added; 0: now."""
        left = self._due.get(device, 0.0) - time.monotonic()
        if left <= 0:
            self._due.pop(device, None)
        return max(left, 0.0)
