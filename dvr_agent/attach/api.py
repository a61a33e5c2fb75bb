"""The interface of attach drivers, which connect a router port to its layer 2 network.

The device of a port in its namespace is the inner side, what connects it on the host the outer side (``tap…``, bridge,
port of Open vSwitch).  Used by the reconciler; a driver knows ports, networks and namespaces, and no routers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dvr_agent.state.filter import Family
from dvr_agent.state.link import Port
from dvr_agent.state.wiring import Wiring


class OuterPort(NamedTuple):
    """The outer side of a plugged port, as found on the host."""

    port_id: str
    """Neutron port UUID as the driver recorded it."""
    outer: str
    """Device (bridge driver: ``tap…``) or port name on the layer 2 side."""
    namespace: str
    """Namespace that the inner side was made in; empty: its device is in none."""


class AttachDriver(Protocol):
    """Plugs ports, removes them, lists them.  Errors are :class:`~dvr_agent.errors.AttachError`."""

    @property
    def is_told_by_links(self) -> bool:
        """True if events of the host's links tell of each new fault that :meth:`check` would find."""

    def check(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return the faults of outer sides: inner device name → text, for ports with a fault.  Reads only."""

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return known reasons why ports cannot be plugged now: inner device name → text.  Reads only."""

    def hindrances(self, networks: Collection[str]) -> Sequence[str]:
        """Return what of others stops the traffic of these networks, as the last :meth:`check` found it."""

    def host_hindrances(self) -> Sequence[str]:
        """Return what of others stops the traffic of external networks.  Reads only, once for all routers."""

    def filtered_families(self) -> Sequence[Family]:
        """Return the families of the packets on layer 2 that pass by the host's own packet filter.  Reads only."""

    def prepare(self, ports: Mapping[str, Sequence[Port]]) -> None:
        """Begin to plug all ports at once, where that takes time.

        A hint before :meth:`plug`, which reports errors.

        :param ports: by namespace, which need not exist yet
        """

    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        """Make each port's device in the namespace, with MAC and MTU, up and connected; repair incomplete ports.

        A port without a fault is not touched.
        """

    def mark(self, ports: Iterable[Port]) -> None:
        """Record at existing ports whether their router is distributed, if the driver needs that and does not know it.

        A port that was plugged for a router of the other kind is a fault (:meth:`check`) where layer 2 agents treat
        the kinds differently.
        """

    def unplug(self, namespace: str, devices: Sequence[str]) -> None:
        """Remove devices from the namespace together with their outer sides; an absent one is no error."""

    def list(self) -> list[OuterPort]:
        """Return all existing outer sides that this driver made on this host."""

    def release(self, namespace: str) -> None:
        """Remove outer sides that the kernel would not remove together with the namespace, which is removed next."""

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when another program may have changed outer sides.

        The same for the driver's whole life; None: the driver gets no such events.
        """

    def acknowledge(self) -> None:
        """Clear the event of :meth:`fileno`.  Does not block; for any thread."""

    def wiring(self) -> Wiring:
        """Return the outer sides of all ports by the beginning of their id, and the uplinks of bridges.  Reads only."""

    def idle(self, networks: Collection[str] = (), without: Collection[str] = ()) -> Sequence[str]:
        """Return the names of unused network devices (bridges) that this driver made, except for these networks.

        Reads only.

        :param without: namespaces whose ports do not count
        """

    def tidy(self, networks: Collection[str] = ()) -> Sequence[str]:
        """Remove the devices that :meth:`idle` names; returns the names."""

    def unplug_outer(self, ports: Sequence[OuterPort]) -> None:
        """Remove stale outer sides."""
