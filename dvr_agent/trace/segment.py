"""Layer 2: which devices are on the segment of a device, through veth pairs and bridges of this host.

What lies behind a physical device, a tap device of a VM, or a switch other than a Linux bridge is not known: such a
device is an :class:`Exit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dvr_agent.trace.world import Device, Place, World, namespace_text

VIRTUAL_MACHINE = "tun"
"""Kind of tap devices."""
_UPLINKS = ("", "bond")
"""Kinds of devices behind which are other hosts only."""


@dataclass(frozen=True, slots=True)
class Exit:
    """A device by which frames leave what this host's network stack can see.

    :ivar known: it is certain that frames of the segment get there
    :ivar why: what is behind it
    """

    place: Place
    why: str
    known: bool = True
    mac: str = ""

    @property
    def text(self) -> str:
        """The device and what is behind it."""
        return f"{self.place.text} ({self.why})"


@dataclass(slots=True)
class Segment:
    """The other devices on a segment.

    :ivar members: devices of namespaces of this host that get its frames
    :ivar exits: devices by which frames leave
    :ivar path: devices between, in the order in which they were met
    :ivar closed: devices that are down, so that nothing passes
    """

    members: list[Device] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    path: list[Device] = field(default_factory=list)
    closed: list[Device] = field(default_factory=list)

    def of_mac(self, mac: str) -> list[Device]:
        """Return the members with a MAC address."""
        return [device for device in self.members if device.mac == mac]


def segment_of(world: World, device: Device) -> Segment:
    """Return the segment on which a device sends."""
    found = Segment()
    walk = _Walk(world, found)
    walk.seen.add(device.place)
    walk.beyond(device)
    return found


class _Walk:
    """Follows frames from device to device; each device is met once."""

    def __init__(self, world: World, found: Segment) -> None:
        self._world, self._found = world, found
        self.seen: set[Place] = set()

    def beyond(self, device: Device) -> None:
        """Follow a frame that a device sends."""
        if device.kind == "bridge":
            self._flood(device)
        elif device.peer is not None:
            peer = self._world.device(device.peer)
            if peer is not None:
                self._arrive(peer)
        elif device.kind != "dummy":  # that discards what it is given
            lower = self._world.device(Place(device.place.namespace, device.lower)) if device.lower else None
            self._found.exits.append(_exit(device, lower))

    def _arrive(self, device: Device) -> None:
        """Follow a frame that comes in by a device."""
        if device.place in self.seen:
            return
        self.seen.add(device.place)
        if not device.up:
            self._found.closed.append(device)
            return
        if device.master is None:
            self._found.members.append(device)
            return
        self._found.path.append(device)
        master = self._world.device(Place(device.place.namespace, device.master))
        if master is None or master.kind != "bridge":
            self._found.exits.append(Exit(device.place, f"port of {device.master}, no Linux bridge", known=False))
        elif master.vlan_filtering:
            self._found.exits.append(Exit(device.place, f"bridge {master.name} separates VLANs", known=False))
        elif not master.up:
            self._found.closed.append(master)
        else:
            self._enter_bridge(master)

    def _enter_bridge(self, bridge: Device) -> None:
        if bridge.place not in self.seen:
            self.seen.add(bridge.place)
            self._found.path.append(bridge)
            self._found.members.append(bridge)
            self._flood(bridge)

    def _flood(self, bridge: Device) -> None:
        for port in self._world.devices[bridge.place.namespace].values():
            if port.master == bridge.name and port.place not in self.seen:
                self.seen.add(port.place)
                if port.up and port.carrier:
                    self.beyond(port)
                else:
                    self._found.closed.append(port)


def _exit(device: Device, lower: Device | None) -> Exit:
    if device.kind == VIRTUAL_MACHINE:
        return Exit(device.place, "tap device of an instance", mac=device.mac)
    if device.kind == "":
        return Exit(device.place, "to other hosts")
    if device.kind == "veth":
        return Exit(device.place, "veth pair into a namespace without a name", known=False)
    if device.kind == "vlan" and (lower is None or lower.kind not in _UPLINKS):
        # Behind a veth pair, a bridge or a tap device the VLAN may be on this host.
        return Exit(device.place, f"VLAN on top of {device.lower or 'a device elsewhere'}: not followed", known=False)
    if device.kind in ("vxlan", "vlan", "geneve", "bond"):
        return Exit(device.place, f"{device.kind}: to other hosts")
    return Exit(device.place, f"{device.kind}: not followed", known=False)


def describe(segment: Segment) -> str:
    """Return the devices between the ends of a segment, for people."""
    return ", ".join(
        f"{device.kind or 'device'} {device.name} in {namespace_text(device.place.namespace)}"
        for device in segment.path
        if device.kind == "bridge"
    )
