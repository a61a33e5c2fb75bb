"""Compares the ways that ``dvr_agent.trace`` computes with what probes of the packet suite saw."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from dvr_agent.kernel.survey.host import survey_host
from dvr_agent.trace.engine import Start, trace_all, trace_reply
from dvr_agent.trace.packet import PROTOCOLS, Way, make_packet
from dvr_agent.trace.world import World
from tests.support.lab import Probe, Seen, entered


def chosen_source(netns: str, target: str) -> str | None:
    """The source address that the kernel chooses for a destination; None: it has no route to it."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with entered(netns):
        asked = socket.socket(family, socket.SOCK_DGRAM)
    with asked, contextlib.suppress(OSError):
        asked.connect((target, 9))
        return str(asked.getsockname()[0])
    return None


@dataclass(frozen=True)
class Passage:
    """A computed way and, if it arrives, that of its answer."""

    way: Way
    answer: Way | None

    @property
    def works(self) -> bool:
        """The packet comes to a namespace, and the answer comes back."""
        return self.way.outcome == "delivered" and self.answer is not None and self.answer.outcome == "delivered"

    def agrees(self, seen: Seen | None) -> bool:
        """True if a probe that saw this confirms the way."""
        if seen is None or not self.works:
            return seen is None and not self.works
        at = self.way.at
        right_place = not seen.server or (at is not None and at.namespace == seen.server)
        return right_place and seen.peer in ("", self.way.packet.head.src)

    @property
    def text(self) -> str:
        """The way in several lines, for a failed comparison."""
        ways = [("way", self.way), *([("answer", self.answer)] if self.answer else [])]
        lines = []
        for title, way in ways:
            lines += [f"  {hop.namespace[:14]:14} {hop.where:16} {hop.text} {hop.after.text}" for hop in way.hops]
            lines.append(f"{title}: {way.outcome}: {way.reason}; {way.packet.head.text}")
        return "\n".join(lines)


def passages(world: World, netns: str, src: str, target: str, protocol: str, port: int, size: int) -> list[Passage]:
    """All passages that a packet and its answer may take."""
    packet = make_packet(src, target, PROTOCOLS[protocol], port, size=size or 84)
    ways = trace_all(world, packet, Start(netns))
    return [Passage(way, trace_reply(world, way) if way.reached and way.at else None) for way in ways]


@dataclass
class WayCheck:
    """A watcher of probes.

    :ivar compared: number of probes that were compared
    :ivar wrong: those that saw something else than what was computed
    """

    compared: int = 0
    wrong: list[str] = field(default_factory=list)

    def __call__(self, probe: Probe) -> Callable[[Seen | None], None]:
        """Compute the ways of a probe before it is made."""
        before = _computed(probe)

        def compare(seen: Seen | None) -> None:
            self.compared += 1
            if _agree(before, seen):
                return
            # A probe is patient: duplicate address detection, for one, may end while it waits.
            after = _computed(probe)
            if not _agree(after, seen):
                texts = "\n or\n".join(one.text for one in (*before, *after))
                self.wrong.append(f"{probe} saw {seen}, computed:\n{texts}")

        return compare


def _computed(probe: Probe) -> list[Passage]:
    source = probe.source or chosen_source(probe.client, probe.target)
    if not source:
        return []
    return passages(survey_host(), probe.client, source, probe.target, probe.protocol, probe.port, probe.size)


def _agree(found: list[Passage], seen: Seen | None) -> bool:
    return any(one.agrees(seen) for one in found) or (not found and seen is None)
