"""``dvrctl trace --live``: sends a marked packet, and says of each hop whether the kernel confirms it.

Devices are watched by packet sockets, which see the very packet with its addresses; rules of legacy tables are
confirmed by their counters, those of nf_tables by ``meta nftrace``.  All of it goes with the process: nothing stays,
however it ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dvr_agent.cli.output import Output, complain
from dvr_agent.errors import DvrError, KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.iptables.reader import TableReader
from dvr_agent.kernel.iptables.whole_table import Counters
from dvr_agent.kernel.live.frames import MARK_SIZE
from dvr_agent.kernel.live.nft_trace import TABLE, Met, NftTrace
from dvr_agent.kernel.live.watch import Spot, Watch, inject, send
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.survey.tables import read_counters
from dvr_agent.plural import count
from dvr_agent.state.filter import TableKey
from dvr_agent.trace.engine import Start
from dvr_agent.trace.neighbours import entry_of
from dvr_agent.trace.packet import ICMP, ICMPV6, TCP, UDP, Hop, Packet, RuleAt, Tuple, Way
from dvr_agent.trace.world import Place, World, namespace_text

CONFIRMED, NOT_SEEN, DIFFERENT = "confirmed", "not seen", "differs"
SECONDS = 4.0
"""How long the packet may take: address resolution asks three times, a second apart."""
_STRANGER = "02:64:76:72:00:01"
"""MAC address of a sender that no neighbour entry names; locally administered."""
Counts = dict[str, dict[TableKey, Counters]]
"""Namespace → table → counters of its rules."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the kernel showed of a way.

    :ivar words: for each hop ``confirmed``, ``not seen``, ``differs``, or empty: it leaves no trace of its own
    :ivar divergence: where the packet first went another way, empty if it did not
    """

    words: tuple[str, ...]
    divergence: str


def observe(world: World, way: Way, packet: Packet, start: Start) -> Observation:
    """Send the packet and compare what happens with the computed way.

    :raises DvrError: it cannot be sent or watched
    """
    reader = TableReader(RealNamespaces(WriteCounters()))
    names = list(dict.fromkeys(hop.namespace for hop in way.hops))
    spots = _spots(way.hops)
    refused = ""
    with NftTrace(_traced(way)) as nft, Watch(os.urandom(MARK_SIZE)) as watch:
        watch.open(dict.fromkeys([*(spot.place for spot in spots), *_beyond(world, way)]))
        before = _counters(reader, names)
        try:
            _send(world, packet, start, watch.mark)
        except KernelError as exc:
            if way.reached:
                raise
            refused = str(exc)
        watch.wait(spots, SECONDS)
        after = _counters(reader, names)
        met = nft.met({_met(hop.namespace, hop.rule) for hop in way.hops if hop.rule and hop.rule.nft}, 1.0)
    seen = {sighting.spot: (sighting.src, sighting.dst) for sighting in reversed(watch.seen)}
    words = [_word(hop, seen, before, after, met) for hop in way.hops]
    _confirm_routes(way.hops, words)
    return Observation(tuple(words), _divergence(way, words, seen, refused))


def explain(world: World, way: Way, packet: Packet, start: Start) -> None:
    """Say on stderr what is sent and opened, before it is.

    :raises DvrError: it is not possible
    """
    if packet.head.protocol not in (TCP, UDP, ICMP, ICMPV6):
        raise DvrError("--live sends icmp, tcp or udp")
    where = namespace_text(start.namespace)
    if start.device:
        device = world.device(Place(start.namespace, start.device))
        if device is None or device.peer is None:
            raise DvrError(f"--live: {start.device} in {where} is no end of a veth pair: nothing can be sent into it")
        where = f"into {device.place.text}, from its other end {device.peer.text}"
    else:
        where = f"from {where}"
    devices = len({spot.place for spot in _spots(way.hops)})
    traced = _traced(way)
    if traced:
        places = ", ".join(map(namespace_text, traced))
        sys.stderr.write(
            f"dvrctl: has the nft table inet {TABLE} in {places} meanwhile, which goes with this command.\n"
        )
    sys.stderr.write(
        f"dvrctl: sends one packet {packet.head.text} {where}; listens on {count(devices, 'device')}, reads counters.\n"
        "dvrctl: adds nothing that stays but what any packet leaves for a while: learned neighbours, a tracked "
        "connection.\n"
    )


def run_live(world: World, way: Way, packet: Packet, start: Start) -> Observation:
    """Explain, send and compare.

    :raises DvrError: it is not possible
    """
    explain(world, way, packet, start)
    return observe(world, way, packet, start)


def print_divergence(out: Output, found: Observation) -> None:
    """Print whether the kernel did what was computed."""
    if found.divergence:
        complain(f"the kernel does otherwise: {found.divergence}")
    elif not out.json:
        out.line(
            f"  the kernel confirms {found.words.count(CONFIRMED)} of {len(found.words)} hops, and contradicts none"
        )


def _send(world: World, packet: Packet, start: Start, mark: bytes) -> None:
    if not start.device:
        send(start.namespace, packet, mark)
        return
    device = world.device(Place(start.namespace, start.device))
    assert device is not None  # explain() has checked it
    entry = entry_of(world.namespace(start.namespace), packet.head.src, device.name)
    inject(device, packet, mark, entry.mac if entry and entry.mac else _STRANGER)


def _spots(hops: Iterable[Hop]) -> list[Spot]:
    """Return where the packet passes a device, in its order."""
    found = []
    for hop in hops:
        if hop.device and hop.way == "in":
            found.append(Spot(Place(hop.namespace, hop.device), "in"))
        elif hop.device and hop.way == "out":
            found.append(Spot(Place(hop.namespace, hop.device), "out"))
    return list(dict.fromkeys(found))


def _beyond(world: World, way: Way) -> list[Place]:
    """Return the other devices of the namespace in which the way ends: a dropped packet may leave by one of them."""
    if way.reached or not way.hops:
        return []
    return [device.place for device in world.devices[way.hops[-1].namespace].values() if device.up]


def _counters(reader: TableReader, names: Sequence[str]) -> Counts:
    return {name: read_counters(reader, name) for name in names}


def _traced(way: Way) -> dict[str, Tuple]:
    """Return the namespaces where rules of nf_tables are met, with addresses and ports as the packet comes in."""
    names = {hop.namespace for hop in way.hops if hop.rule is not None and hop.rule.nft}
    return {hop.namespace: hop.before for hop in reversed(way.hops) if hop.namespace in names}


def _met(namespace: str, rule: RuleAt) -> Met:
    return Met(namespace, rule.table.partition(" ")[2], rule.chain, rule.handle)


def _word(hop: Hop, seen: dict[Spot, tuple[str, str]], before: Counts, after: Counts, met: set[Met]) -> str:
    if hop.rule is not None and hop.rule.nft:
        return CONFIRMED if _met(hop.namespace, hop.rule) in met else NOT_SEEN
    if hop.rule is not None:
        key: TableKey = (hop.rule.family, hop.rule.table)
        at = (hop.rule.chain, hop.rule.number)
        counts = [counts[hop.namespace].get(key, {}).get(at, 0) for counts in (before, after)]
        return CONFIRMED if counts[1] > counts[0] else NOT_SEEN
    if not hop.device or not hop.way:
        return ""
    found = seen.get(Spot(Place(hop.namespace, hop.device), "in" if hop.way == "in" else "out"))
    if found is None:
        return NOT_SEEN
    return CONFIRMED if found == (hop.after.src, hop.after.dst) else DIFFERENT


def _confirm_routes(hops: Sequence[Hop], words: list[str]) -> None:
    """Confirm the routes by whose device the packet was seen to leave."""
    left: dict[str, str] = {}
    for number in reversed(range(len(hops))):
        hop = hops[number]
        if hop.way == "out" and hop.device and words[number] == CONFIRMED:
            left[hop.namespace] = hop.device
        elif hop.where == "route" and hop.device and left.get(hop.namespace) == hop.device:
            words[number] = CONFIRMED
        elif hop.way == "in":
            left.pop(hop.namespace, None)


def _divergence(way: Way, words: Sequence[str], seen: dict[Spot, tuple[str, str]], refused: str) -> str:
    for hop, word in zip(way.hops, words, strict=True):
        if word in (NOT_SEEN, DIFFERENT) and not (refused and not way.reached):
            what = f"{namespace_text(hop.namespace)}: {hop.where} {hop.text}"
            return f"{word} at {what}" if word == NOT_SEEN else f"{what}: it came with {_found(hop, seen)}"
    if way.outcome == "dropped":
        expected = set(_spots(way.hops))
        last = way.hops[-1].namespace
        for spot in seen:
            if spot.way == "out" and spot.place.namespace == last and spot not in expected:
                return f"it was expected to be dropped in {namespace_text(last)}, and left by {spot.place.device}"
    return ""


def _found(hop: Hop, seen: dict[Spot, tuple[str, str]]) -> str:
    place = Place(hop.namespace, hop.device or "")
    return " → ".join(seen[Spot(place, "in" if hop.way == "in" else "out")])


def with_free_port(packet: Packet) -> Packet:
    """Return the packet with a source port (or identifier) that hardly any connection has."""
    return replace(packet, head=packet.head._replace(sport=32768 + int.from_bytes(os.urandom(2), "big") % 28000))
