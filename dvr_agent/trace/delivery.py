"""Hand a packet from a device to the next one: neighbour entry, MAC address, segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dvr_agent.plural import count
from dvr_agent.trace.addresses import family_of
from dvr_agent.trace.ends import EndOfWay, dropped, unknown
from dvr_agent.trace.neighbours import USABLE, announced_source, answers, entry_of, refusal
from dvr_agent.trace.packet import Packet
from dvr_agent.trace.segment import Exit, Segment, describe, segment_of
from dvr_agent.trace.world import Device, Namespace, NextHop, Place, World, namespace_text

SHOWN = 4
"""Devices of a segment that a reason names; of others it says how many there are."""


class Note(Protocol):
    """Adds a hop to the way."""

    def __call__(self, namespace: str, where: str, text: str, device: str | None = None, way: str = "") -> None:
        """Add a hop."""


class Delivery:
    """What a namespace does with a packet that leaves by a device.

    :param remark: adds a note to the way
    """

    def __init__(self, namespace: str, note: Note, remark: Callable[[str], None]) -> None:
        self._namespace, self._note, self._remark = namespace, note, remark

    def send(self, world: World, hop: NextHop, packet: Packet) -> Place:
        """Send a packet; returns the device that gets it.

        :raises EndOfWay: nobody of this host gets it
        """
        namespace = world.namespace(self._namespace)
        device = namespace.devices.get(hop.device)
        if device is None:
            raise unknown(f"there is no device {hop.device} in {namespace_text(self._namespace)} any more")
        if not device.up or not device.carrier:
            raise dropped(f"{device.place.text} {_why_closed(device)}")
        target = hop.gateway or packet.head.dst
        segment = segment_of(world, device)
        self._remark_bridge_filter(world, segment, packet)
        entry = entry_of(namespace, target, device.name)
        if entry is not None and entry.state in USABLE and entry.mac:
            self._note(self._namespace, "neighbour", entry.text.removeprefix("neighbour "), device.name, "out")
            return self._to_mac(world, device, segment, entry.mac)
        source = announced_source(namespace, device, target, packet.head.src)
        return self._ask(world, device, segment, target, source)

    def last_sender(self, world: World, left_by: Place, dst: str) -> Place:
        """Return the device that gets an answer which comes back by the device by which a packet left.

        :param dst: destination of the answer
        """
        device = world.device(left_by)
        if device is None:
            raise unknown(f"there is no {left_by.text}")
        holders = [one for one in segment_of(world, device).members if answers(world, one, dst, "")]
        return holders[0].place if len(holders) == 1 else left_by

    def _to_mac(self, world: World, device: Device, segment: Segment, mac: str) -> Place:
        found = segment.of_mac(mac)
        if len(found) == 1:
            return self._arrive(segment, found[0])
        if len(found) > 1:
            raise unknown(f"{count(len(found), 'device')} of the segment have the MAC address {mac}")
        raise self._nobody(world, device, segment, f"the MAC address {mac}", mac)

    def _ask(self, world: World, device: Device, segment: Segment, target: str, source: str) -> Place:
        """Find who answers for an address that the namespace has no MAC address of."""
        how = "ARP" if family_of(target) == 4 else "neighbour discovery"
        found = [(one, why) for one in segment.members if (why := answers(world, one, target, source))]
        if len({one.mac for one, _why in found}) > 1:
            places = ", ".join(one.place.text for one, _ in found)
            raise unknown(f"{count(len(found), 'device')} answer for {target}: {places}")
        if not found:
            refusals = [text for one in segment.members if (text := refusal(world, one, target, source))]
            if refusals:  # what is behind the exits of the segment will hardly have it, too
                raise dropped(f"nobody answers for {target} (asked by {how}): {'; '.join(refusals)}")
            raise self._nobody(world, device, segment, f"{target} (asked by {how})", "")
        holder, why = found[0]
        text = f"{how} for {target} dev {device.name}: {holder.place.text}, {holder.mac}, {why}"
        self._note(self._namespace, "neighbour", text, device.name, "out")
        return self._arrive(segment, holder)

    def _arrive(self, segment: Segment, holder: Device) -> Place:
        bridges = describe(segment)
        text = f"to {holder.place.text}" + (f" by {bridges}" if bridges else "")
        self._note(holder.place.namespace, "link", text, holder.name, "in")
        return holder.place

    def _nobody(self, world: World, device: Device, segment: Segment, what: str, mac: str) -> EndOfWay:
        """Return the end of a packet for which there is nobody on this host."""
        exits = _likely(world, segment.exits, mac)
        places = _some([one.text for one in exits], ", ")
        if any(not one.known for one in exits):
            return EndOfWay("unknown", f"no device of this host has {what}; it may leave by {places}", device.place)
        if exits:
            self._note(self._namespace, "link", f"leaves by {places}", device.name, "out")
            return EndOfWay("leaves", f"it leaves this host by {places}", device.place)
        closed = [f"{one.place.text} {_why_closed(one)}" for one in segment.closed]
        nobody = f"nobody on the segment of {device.place.text} has {what}"
        return EndOfWay("dropped", _some([nobody, *closed], "; ", len(closed[:SHOWN]) + 1), device.place)

    def _remark_bridge_filter(self, world: World, segment: Segment, packet: Packet) -> None:
        """Remark that rules of the host may apply to bridged packets."""
        key = f"bridge/bridge-nf-call-ip{'6' if packet.family == 6 else ''}tables"
        for bridge in segment.path:
            if bridge.kind == "bridge" and _filters_bridged(world.namespace(bridge.place.namespace), key, packet):
                where = namespace_text(bridge.place.namespace)
                self._remark(
                    f"the packet filter rules of {where} see the packet on bridge {bridge.name}, too "
                    f"(net.{key.replace('/', '.')}=1); what they do there is not computed"
                )


def _some(texts: Sequence[str], between: str, shown: int = SHOWN) -> str:
    """Join the first texts, and say how many more there are."""
    more = len(texts) - shown
    return between.join([*texts[:shown], *([f"{more} more"] if more > 0 else [])])


def _why_closed(device: Device) -> str:
    return "has no carrier" if device.up else "is down"


def _filters_bridged(namespace: Namespace, key: str, packet: Packet) -> bool:
    """Return True if a namespace has rules or policies that may apply to packets which its bridges pass on."""
    return bool(namespace.number(key)) and any(
        chain.rules or chain.policy == "DROP"
        for table in namespace.tables
        if packet.family in table.families
        for chain in table.chains.values()
    )


def _likely(world: World, exits: list[Exit], mac: str) -> list[Exit]:
    """Return the exits by which a frame may leave.

    A bridge has learned where a MAC address is.  Else the tap device of an instance has the MAC address of the instance
    but for its first octet (nova's libvirt driver).
    """
    if not mac:
        return exits
    learned = [one for one in exits if (mac, one.place.device) in world.namespace(one.place.namespace).fdb]
    taps = [one for one in exits if one.mac[2:] == mac[2:]]
    return learned or taps or [one for one in exits if not one.mac] or exits
