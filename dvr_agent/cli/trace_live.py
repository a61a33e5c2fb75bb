"""``dvrctl trace --live``: sends a marked packet, and says of each hop whether the kernel confirms it.

Devices are watched by packet sockets, which see the very packet with its addresses, and the answer to an echo request,
which has the same payload; rules of legacy tables are confirmed by their counters, those of nf_tables by
``meta nftrace``.  All of it goes with the process: nothing stays, however it ends.
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
from dvr_agent.kernel.live.watch import Sighting, Spot, Watch, inject, send
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
Seen = dict[Spot, list[tuple[str, str]]]
"""Where the packet or its answer passed → source and destination there, in the order of arrival."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the kernel showed of a way.

    :ivar words: for each hop ``confirmed``, ``not seen``, ``differs``, or empty: it leaves no trace of its own
    :ivar divergence: where the packet, or its answer, first went another way; empty if it did not
    :ivar answer_words: the same as ``words`` for each hop of the answer to an echo request; empty: it was not watched
    """

    words: tuple[str, ...]
    divergence: str
    answer_words: tuple[str, ...] = ()


def observe(world: World, way: Way, answer: Way | None, packet: Packet, start: Start) -> Observation:
    """Send the packet and compare what happens with the computed way.

    :param answer: computed way of the answer to an echo request, None: it is not watched
    :raises DvrError: it cannot be sent or watched
    """
    reader = TableReader(RealNamespaces(WriteCounters()))
    names = list(dict.fromkeys(hop.namespace for hop in way.hops))
    goal = _goal(way, answer)
    refused = ""
    with NftTrace(_traced(way)) as nft, Watch(os.urandom(MARK_SIZE)) as watch:
        beyond = [place for one in (way, answer) if one for place in _beyond(world, one)]
        watch.open(dict.fromkeys([*(one.spot.place for one in goal), *beyond]))
        before = _counters(reader, names)
        try:
            _send(world, packet, start, watch.mark)
        except KernelError as exc:
            if way.reached:
                raise
            refused = str(exc)
        watch.wait(goal, SECONDS)
        after = _counters(reader, names)
        met = nft.met({_met(hop.namespace, hop.rule) for hop in way.hops if hop.rule and hop.rule.nft}, 1.0)
    seen = _by_spot(watch.seen)
    words = [_word(hop, seen, before, after, met) for hop in way.hops]
    _confirm_routes(way.hops, words)
    divergence = _divergence(way, words, seen, refused)
    if answer is None:
        return Observation(tuple(words), divergence)
    there = set(_goal(way, None))
    back = _by_spot(one for one in watch.seen if one not in there)
    answer_words = [_device_word(hop, back) for hop in answer.hops]
    _confirm_routes(answer.hops, answer_words)
    if not divergence and (other := _divergence(answer, answer_words, back, "")):
        divergence = f"the answer: {other}"
    return Observation(tuple(words), divergence, tuple(answer_words))


def explain(world: World, way: Way, answer: Way | None, packet: Packet, start: Start) -> None:
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
    devices = len({one.spot.place for one in _goal(way, answer)})
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


def run_live(world: World, way: Way, reply: Way | None, packet: Packet, start: Start) -> Observation:
    """Explain, send and compare.

    :param reply: computed way of the answer; only that to an echo request is watched
    :raises DvrError: it is not possible
    """
    answer = reply if packet.head.protocol in (ICMP, ICMPV6) else None
    explain(world, way, answer, packet, start)
    return observe(world, way, answer, packet, start)


def print_divergence(out: Output, found: Observation) -> None:
    """Print whether the kernel did what was computed."""
    if found.divergence:
        complain(f"the kernel does otherwise: {found.divergence}")
    elif not out.json:
        words = (*found.words, *found.answer_words)
        out.line(f"  the kernel confirms {words.count(CONFIRMED)} of {len(words)} hops, and contradicts none")


def _send(world: World, packet: Packet, start: Start, mark: bytes) -> None:
    if not start.device:
        send(start.namespace, packet, mark)
        return
    device = world.device(Place(start.namespace, start.device))
    assert device is not None  # explain() has checked it
    entry = entry_of(world.namespace(start.namespace), packet.head.src, device.name)
    inject(device, packet, mark, entry.mac if entry and entry.mac else _STRANGER)


def _goal(way: Way, answer: Way | None) -> list[Sighting]:
    """Return where packet and answer pass a device, in their order, with their addresses there."""
    hops = (*way.hops, *(answer.hops if answer else ()))
    found = [Sighting(spot, hop.after.src, hop.after.dst) for hop in hops if (spot := _spot(hop))]
    return list(dict.fromkeys(found))


def _by_spot(sightings: Iterable[Sighting]) -> Seen:
    found: Seen = {}
    for one in sightings:
        found.setdefault(one.spot, []).append((one.src, one.dst))
    return found


def _spot(hop: Hop) -> Spot | None:
    if not hop.device or not hop.way:
        return None
    return Spot(Place(hop.namespace, hop.device), "in" if hop.way == "in" else "out")


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


def _word(hop: Hop, seen: Seen, before: Counts, after: Counts, met: set[Met]) -> str:
    if hop.rule is not None and hop.rule.nft:
        return CONFIRMED if _met(hop.namespace, hop.rule) in met else NOT_SEEN
    if hop.rule is not None:
        key: TableKey = (hop.rule.family, hop.rule.table)
        at = (hop.rule.chain, hop.rule.number)
        counts = [counts[hop.namespace].get(key, {}).get(at, 0) for counts in (before, after)]
        return CONFIRMED if counts[1] > counts[0] else NOT_SEEN
    return _device_word(hop, seen)


def _device_word(hop: Hop, seen: Seen) -> str:
    spot = _spot(hop)
    if spot is None:
        return ""
    if spot not in seen:
        return NOT_SEEN
    return CONFIRMED if (hop.after.src, hop.after.dst) in seen[spot] else DIFFERENT


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


def _divergence(way: Way, words: Sequence[str], seen: Seen, refused: str) -> str:
    for hop, word in zip(way.hops, words, strict=True):
        if word in (NOT_SEEN, DIFFERENT) and not (refused and not way.reached):
            what = f"{namespace_text(hop.namespace)}: {hop.where} {hop.text}"
            return f"{word} at {what}" if word == NOT_SEEN else f"{what}: it came with {_found(hop, seen)}"
    if way.outcome == "dropped":
        expected = {_spot(hop) for hop in way.hops}
        last = way.hops[-1].namespace
        for spot in seen:
            if spot.way == "out" and spot.place.namespace == last and spot not in expected:
                return f"it was expected to be dropped in {namespace_text(last)}, and left by {spot.place.device}"
    return ""


def _found(hop: Hop, seen: Seen) -> str:
    spot = _spot(hop)
    return " → ".join(seen[spot][0]) if spot else ""


def with_free_port(packet: Packet) -> Packet:
    """Return the packet with a source port (or identifier) that hardly any connection has."""
    return replace(packet, head=packet.head._replace(sport=32768 + int.from_bytes(os.urandom(2), "big") % 28000))
