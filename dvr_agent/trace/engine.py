"""Compute the way of one packet (:func:`trace`), and of its answer (:func:`trace_reply`).

The packet goes from namespace to namespace as the kernel takes it: :mod:`.hooks` for tables, :mod:`.routing` for rules
and routes, :mod:`.delivery` for neighbours and layer 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial

from dvr_agent.plural import count
from dvr_agent.trace.addresses import is_group, is_link_local
from dvr_agent.trace.delivery import Delivery
from dvr_agent.trace.ends import EndOfWay, dropped, unknown
from dvr_agent.trace.hooks import Hooks, Tracked
from dvr_agent.trace.packet import Connection, Hop, Packet, Tuple, Way
from dvr_agent.trace.routing import REFUSING, Flow, Found, first, lookup
from dvr_agent.trace.source_check import source_fault
from dvr_agent.trace.tracking import Existing, Tracker, no_connection
from dvr_agent.trace.world import Namespace, NextHop, Place, World, namespace_text

MAX_NAMESPACES = 24
"""Passages through namespaces after which a packet is taken to go round in circles."""
MAX_WAYS = 16
"""Ways that are computed where next hops of equal cost leave a choice."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a packet begins.

    :ivar namespace: sends the packet itself, unless ``device`` is given
    :ivar device: the packet comes in by this device of the namespace, from outside; empty: the namespace sends it
    :ivar note: why it begins there, for people
    """

    namespace: str
    device: str = ""
    note: str = ""


def trace(world: World, packet: Packet, start: Start, existing: Existing = no_connection) -> Way:
    """Compute the way of a packet.

    :param existing: finds the connections to which the packet belongs; without it, it is the first one of a connection
    :returns: of several ways that are as likely the first one, see :attr:`Way.others`
    """
    ways = trace_all(world, packet, start, existing)
    return replace(ways[0], others=len(ways) - 1)


def trace_all(world: World, packet: Packet, start: Start, existing: Existing = no_connection) -> list[Way]:
    """Compute all ways that the packet may take: next hops of equal cost leave a choice to the kernel."""
    found: list[Way] = []
    pending: list[tuple[int, ...]] = [()]
    while pending and len(found) < MAX_WAYS:
        choices = pending.pop()
        run = _Run(world, existing, choices)
        found.append(run.go(packet, start))
        for index in range(len(choices), len(run.offered)):
            made = choices + (0,) * (index - len(choices))
            pending += [(*made, other) for other in range(1, run.offered[index])]
    return found


def trace_reply(world: World, way: Way, existing: Existing = no_connection) -> Way:
    """Compute the way of the answer to a packet that arrived, with the translations of its connection undone.

    :param existing: finds the connections of namespaces that the packet did not pass
    :raises ValueError: the packet did not arrive
    """
    if not way.reached or way.at is None:
        raise ValueError("only a packet that arrived is answered")
    answer = Packet(way.packet.head.inverted(), size=way.packet.size)
    run = _Run(world, existing, (), deepcopy(way.connections))
    if way.outcome == "delivered":
        return run.go(answer, Start(way.at.namespace, note="the answer of the namespace that the packet came to"))
    return run.come_back(answer, way.at)


def _nothing() -> Tracked:
    """Return what a run has before its packet begins."""
    return Tracked(Packet(Tuple("", "", 0, 0, 0)))


@dataclass(slots=True)
class _Run:
    """One packet on its way.

    :ivar choices: which next hop is taken at each choice; the first one beyond them
    :ivar offered: number of next hops at each choice met
    """

    world: World
    existing: Existing
    choices: Sequence[int]
    connections: dict[str, list[Connection]] = field(default_factory=dict)
    hops: list[Hop] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    tracked: Tracked = field(default_factory=_nothing)
    at: Place | None = None

    def go(self, packet: Packet, start: Start) -> Way:
        """Follow the packet from its beginning to its end."""
        self.tracked = Tracked(packet)
        try:
            self._note(start.namespace, "from", start.note or _origin(start), device=start.device or None)
            if start.device:
                arrived: Place | None = Place(start.namespace, start.device)
            else:
                arrived = self._send(start.namespace)
            return self._follow(arrived)
        except EndOfWay as end:
            return self._way(end)

    def come_back(self, packet: Packet, left_by: Place) -> Way:
        """Follow an answer that comes back by the device by which the packet left."""
        self.tracked = Tracked(packet)
        try:
            sender = self._delivery(left_by.namespace).last_sender(self.world, left_by, packet.head.dst)
            self._note(sender.namespace, "from", f"the answer comes in by {left_by.text}", device=sender.device)
            return self._follow(sender)
        except EndOfWay as end:
            return self._way(end)

    def _follow(self, arrived: Place | None) -> Way:
        for _ in range(MAX_NAMESPACES):
            if arrived is None:
                raise unknown("the way has no next device")
            arrived = self._receive(arrived)
        raise dropped("it goes round in circles until its TTL is used up")

    def _way(self, end: EndOfWay) -> Way:
        at = end.at or self.at
        return Way(
            tuple(self.hops), end.outcome, end.reason, self.tracked.packet, at, tuple(dict.fromkeys(self.notes)),
            connections=self.connections,
        )  # fmt: skip

    def _receive(self, place: Place) -> Place:
        """Take the packet in by a device; returns the next device that gets it."""
        self.at = place
        namespace = self.world.namespace(place.namespace)
        device = namespace.devices[place.device]
        if not device.up:
            raise dropped(f"{place.text} is down")
        if device.name != "lo":
            self.tracked = Tracked(self.tracked.packet)
        self.tracked.iif, self.tracked.oif = device.name, ""
        self._limits(namespace, device.name, "entering")
        hooks = self._hooks(namespace)
        hooks.run("PREROUTING", self.tracked)
        found = self._route(namespace, device.name)
        if found.kind in ("local", "broadcast", "anycast", "multicast"):
            self._deliver(namespace, hooks)
        return self._forward(namespace, hooks, found)

    def _route(self, namespace: Namespace, device: str) -> Found:
        """Find the route of a packet that came in, and check its source."""
        packet = self.tracked.packet
        head = packet.head
        if is_group(head.dst):
            raise unknown(f"{head.dst} is a group address: who listens is not computed")
        if device == "lo" and packet.family == 4 and self._is_own(namespace, head.dst):
            return self._lookup(namespace, "lo")
        found = self._lookup(namespace, device)
        if packet.family == 4 and found.kind in ("local", "unicast") and device != "lo":
            out = found.hop.device if found.hop else ""
            if fault := source_fault(namespace, head.src, head.dst, device, out, found.kind):
                self._note(namespace.name, "rp_filter", fault, device=device)
                raise dropped(f"{namespace_text(namespace.name)} discards it: {fault}")
        return found

    def _is_own(self, namespace: Namespace, address: str) -> bool:
        return lookup(namespace, Flow(4, "", address, "lo"), first).kind == "local"

    def _deliver(self, namespace: Namespace, hooks: Hooks) -> None:
        hooks.run("INPUT", self.tracked)
        assert self.at is not None
        text = f"{namespace_text(namespace.name)} takes it in by {self.at.device}"
        self._note(namespace.name, "deliver", text, device=self.at.device)
        raise EndOfWay("delivered", text, self.at)

    def _forward(self, namespace: Namespace, hooks: Hooks, found: Found) -> Place:
        packet, device = self.tracked.packet, self.tracked.iif
        self._check_forwarding(namespace, packet, device)
        hop = self._hop_of(namespace, found)
        self._check_size(namespace, hop.device)
        self.tracked.oif = hop.device
        hooks.run("FORWARD", self.tracked)
        return self._leave(namespace, hooks, hop)

    def _check_forwarding(self, namespace: Namespace, packet: Packet, device: str) -> None:
        if packet.family == 4:
            on, key = namespace.of_device(4, "forwarding", device)[1], f"net.ipv4.conf.{device}.forwarding"
        else:
            on, key = namespace.number("ipv6/conf/all/forwarding"), "net.ipv6.conf.all.forwarding"
        if not on:
            self._note(namespace.name, "sysctl", f"{key}=0")
            raise dropped(f"{namespace_text(namespace.name)} does not forward: {key}=0")
        if packet.family == 6 and (is_link_local(packet.head.src) or is_link_local(packet.head.dst)):
            raise dropped("link-local addresses are not forwarded")

    def _check_size(self, namespace: Namespace, device: str) -> None:
        found = namespace.devices.get(device)
        if found and self.tracked.packet.size > found.mtu:
            self._note(namespace.name, "mtu", f"{device} has mtu {found.mtu}", device=device)
            raise dropped(
                f"it has {self.tracked.packet.size} bytes, {device} in {namespace_text(namespace.name)} takes "
                f"{found.mtu}: its sender is told so"
            )

    def _send(self, name: str) -> Place:
        """Have a namespace send the packet; returns the device that gets it."""
        namespace = self.world.namespace(name)
        self.tracked.iif = ""
        found = self._lookup(namespace, "lo")
        hop = self._hop_of(namespace, found)
        before = self.tracked.packet
        self._check_size(namespace, hop.device)
        self.tracked.oif = hop.device
        hooks = self._hooks(namespace)
        hooks.run("OUTPUT", self.tracked)
        after = self.tracked.packet
        if (after.head.dst, after.head.src, after.mark) != (before.head.dst, before.head.src, before.mark):
            hop = self._hop_of(namespace, self._lookup(namespace, "lo"))
            self.tracked.oif = hop.device
        return self._leave(namespace, hooks, hop)

    def _leave(self, namespace: Namespace, hooks: Hooks, hop: NextHop) -> Place:
        hooks.run("POSTROUTING", self.tracked)
        if hop.device == "lo":
            return Place(namespace.name, "lo")
        self._limits(namespace, hop.device, "leaving")
        self.at = Place(namespace.name, hop.device)
        # skb_scrub_packet (net/core/skbuff.c): the mark does not pass into another namespace.
        self.tracked.packet = replace(self.tracked.packet, mark=0)
        delivery = self._delivery(namespace.name)
        return delivery.send(self.world, hop, self.tracked.packet)

    def _lookup(self, namespace: Namespace, iif: str) -> Found:
        packet = self.tracked.packet
        head = packet.head
        found = lookup(namespace, Flow(packet.family, head.src, head.dst, iif, packet.mark), self._choose)
        if found.rule is not None and found.rule.table != 255:
            self._note(namespace.name, "rule", found.rule.text)
        if found.route is not None:
            self._note(namespace.name, "route", found.route.text, device=found.hop.device if found.hop else None)
        return found

    def _hop_of(self, namespace: Namespace, found: Found) -> NextHop:
        where, dst = namespace_text(namespace.name), self.tracked.packet.head.dst
        if found.kind in REFUSING:
            what = found.route.text if found.route else found.rule.text if found.rule else ""
            raise dropped(f"in {where} it {REFUSING[found.kind]}: {what}")
        if found.route is None:
            raise dropped(f"{where} has no route to {dst}")
        if found.kind == "local":
            return NextHop(None, "lo")
        if found.hop is None or found.kind not in ("unicast", "broadcast"):
            raise unknown(f"routes of type {found.kind} are not understood: {found.route.text}")
        return found.hop

    def _choose(self, hops: Sequence[NextHop]) -> NextHop:
        index = len(self.offered)
        self.offered.append(len(hops))
        self.notes.append(f"there are {count(len(hops), 'next hop')} of equal cost; the kernel chooses by a hash")
        return hops[self.choices[index] if index < len(self.choices) else 0]

    def _limits(self, namespace: Namespace, device: str, direction: str) -> None:
        head = self.tracked.packet.head
        address = head.src if direction == "leaving" else head.dst
        for limit in namespace.limits:
            if (limit.device, limit.direction, limit.address) == (device, direction, address):
                self._note(namespace.name, "limit", f"{limit.text} (nft): what is above it is dropped", device=device)

    def _hooks(self, namespace: Namespace) -> Hooks:
        known = self.connections.setdefault(namespace.name, [])
        tracker = Tracker(known, partial(self.existing, namespace.name))
        return Hooks(namespace, tracker, self.hops.append, self.notes.append)

    def _delivery(self, namespace: str) -> Delivery:
        return Delivery(namespace, self._note, self.notes.append)

    def _note(self, namespace: str, where: str, text: str, device: str | None = None, way: str = "") -> None:
        head, mark = self.tracked.packet.head, self.tracked.packet.mark
        self.hops.append(Hop(namespace, where, text, head, head, mark, None, device, way))


def _origin(start: Start) -> str:
    where = namespace_text(start.namespace)
    return f"comes in by {start.device} of {where}" if start.device else f"{where} sends it"
