"""The layer 2 side of our ports as found on the host: other ends, bridges, and the way out of the host.

Attach drivers read it, ``dvrctl show`` and ``dvrctl capture`` use it; it is no part of a namespace's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Wire(NamedTuple):
    """The layer 2 side of one port.

    :ivar outer: device on the host (``tap…``), or name of the port in Open vSwitch
    :ivar bridge: that the outer side is a port of; empty: it is on none
    :ivar up: the outer side is administratively up
    :ivar capturable: the outer side is a device of the host's namespace, where packets can be seen
    """

    outer: str
    bridge: str
    up: bool = True
    capturable: bool = True


@dataclass(frozen=True, slots=True)
class Wiring:
    """The layer 2 sides of all ports of this host.

    :ivar wires: beginning of the port id, as device names have it (11 characters) → its layer 2 side
    :ivar uplinks: bridge → devices by which it leaves the host
    """

    wires: Mapping[str, Wire] = field(default_factory=dict)
    uplinks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of_device(self, device: str) -> Wire | None:
        """Return the layer 2 side of a port by the name of its device in a namespace (``qr-…``, ``fg-…``)."""
        return self.wires.get(device.partition("-")[2])
