"""How a port reaches its layer 2 network: what every attach driver offers.

A driver knows ports, networks and namespaces; it knows no routers.  ``bridge`` is the built-in one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dvr_agent.state.link import Port


class OuterPort(NamedTuple):
    """The outer side of a plugged port, found on the host."""

    port_id: str
    """Neutron port UUID as the driver recorded it."""
    outer: str
    """Device (bridge driver: ``tap…``) or port name on the layer 2 side."""
    namespace: str
    """The namespace its inner end was made in."""


class AttachDriver(Protocol):
    """Plug, unplug, list.  Errors are :class:`~dvr_agent.errors.AttachError`."""

    def check(self, ports: Iterable[Port]) -> dict[str, str]:
        """Inner device name → what is wrong on the outer side, for those where something is.  Reads only."""

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]:
        """Inner device name → why the port could not be plugged now, where something is known.  Reads only."""

    def prepare(self, ports: Mapping[str, Sequence[Port]]) -> None:
        """These ports (by namespace, which may not exist yet) are about to be plugged: begin what takes its time, for
        all of them at once.  A hint; what goes wrong is for :meth:`plug` to say."""

    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        """Make each port's device in the namespace, with MAC and MTU, up and connected; repair what is half there.

        A port that is as it should be is not touched.
        """

    def unplug(self, namespace: str, devices: Sequence[str]) -> None:
        """Remove the devices from the namespace together with their outer sides; none there: nothing to do."""

    def list(self) -> list[OuterPort]:
        """All outer sides that this driver made on this host and that are still there."""

    def release(self, namespace: str) -> None:
        """The namespace is about to be removed: take away outer sides that would not vanish with it."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when outer sides may have changed by themselves (Open vSwitch restarted), the
        same for the driver's whole life; None if the driver has nothing of the kind."""

    def acknowledge(self) -> None:
        """Have the descriptor readable no more, until something happens again.  Does not block, from any thread."""

    def idle(self, networks: Collection[str] = ()) -> Sequence[str]:
        """Names of what this driver made for networks other than these, not for ports, and nothing uses; only reads."""

    def tidy(self, networks: Collection[str] = ()) -> Sequence[str]:
        """Remove what :meth:`idle` names; returns the names."""

    def unplug_outer(self, ports: Sequence[OuterPort]) -> None:
        """Remove outer sides that belong to nothing any more."""
