"""``dvrctl trace``: prints the way of a packet through the namespaces of this host.

The kernel is read by ``kernel/survey``, the way is computed by :mod:`dvr_agent.trace`, which is pure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from dvr_agent.cli.output import BOLD, GREEN, RED, YELLOW, Output, UsageError
from dvr_agent.cli.trace_live import NOT_SEEN, Observation, print_divergence, run_live, with_free_port
from dvr_agent.desired import names
from dvr_agent.errors import DvrError
from dvr_agent.kernel.survey.connections import read_connection
from dvr_agent.kernel.survey.host import survey_host
from dvr_agent.plural import count, verb
from dvr_agent.trace.engine import Start, trace, trace_reply
from dvr_agent.trace.locate import HOST, Hint, LocateError, locate
from dvr_agent.trace.packet import ICMP, PROTOCOLS, Hop, Packet, Tuple, Way, make_packet
from dvr_agent.trace.tracking import no_connection
from dvr_agent.trace.world import World, namespace_text

ARRIVES, ERROR, DOES_NOT_ARRIVE, UNKNOWN = 0, 1, 2, 3
"""Exit codes."""
SPORT = 40000
"""Source port, where none is asked for; with --live a free one."""
GATEWAYS = (names.INTERNAL, names.AGENT_GATEWAY, names.GATEWAY)
_COLOURS = {"delivered": GREEN, "leaves": GREEN, "dropped": RED, "unknown": YELLOW}


class TraceError(DvrError):
    """The packet cannot be traced; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Question:
    """A packet whose way is asked for, and where it begins."""

    packet: Packet
    start: Start


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl trace``."""
    world = survey_host()
    question = ask(world, args)
    existing = no_connection if args.sport is None else read_connection
    way = trace(world, question.packet, question.start, existing)
    reply = trace_reply(world, way, existing) if args.reply and way.reached and way.at else None
    found = run_live(world, way, reply, question.packet, question.start) if args.live else None
    if out.json:
        out.document(as_json(question, way, reply, found))
    else:
        print_way(out, "", way, found.words if found else ())
        if reply is not None:
            out.line()
            print_way(out, "the answer: ", reply, found.answer_words if found else ())
    if found is not None:
        print_divergence(out, found)
        if found.divergence:
            return DOES_NOT_ARRIVE
    return exit_code([way, *([reply] if reply else [])])


def ask(world: World, args: argparse.Namespace) -> Question:
    """Make the packet of the arguments, and find where it begins.

    :raises UsageError: arguments do not fit
    :raises TraceError: it cannot be told where the packet begins
    """
    src, hint = _source(world, args.source)
    dst = _address(args.to, "--to")
    if (":" in src) != (":" in dst):
        raise UsageError(f"trace: --from {src} and --to {dst} are of different families")
    protocol = _protocol(args)
    packet = make_packet(src, dst, protocol, args.dport or 0, args.sport or SPORT, args.size)
    if args.live and args.sport is None:
        packet = with_free_port(packet)
    try:
        return Question(packet, locate(world, src, dst, hint, GATEWAYS))
    except LocateError as exc:
        raise TraceError(str(exc)) from exc


def exit_code(ways: Sequence[Way]) -> int:
    """Return the exit code for a way, and the way back if it was asked for."""
    if all(way.reached for way in ways):
        return ARRIVES
    return UNKNOWN if any(way.outcome == "unknown" for way in ways) else DOES_NOT_ARRIVE


def print_way(out: Output, title: str, way: Way, seen: Sequence[str] = ()) -> None:
    """Print a way, one line for each hop, below the namespace in which it is.

    :param seen: what is known of each hop from the kernel, with ``--live``
    """
    shown: str | None = None
    listed = len(way.hops) if NOT_SEEN not in seen else _listed(seen)
    for number, hop in enumerate(way.hops[:listed]):
        if hop.namespace != shown:
            shown = hop.namespace
            out.line(namespace_text(shown), BOLD)
        mark = f"{seen[number]:10} " if seen else ""
        out.line(f"  {mark}{hop.where:21} {hop.text}{_change(hop)}")
    if listed < len(way.hops):
        out.line(f"  {NOT_SEEN:10} {count(len(way.hops) - listed, 'more hop')} up to {_place(way.hops[-1])}")
    out.line(f"{title}{way.outcome}: {way.reason}", _COLOURS[way.outcome])
    out.line(f"  there it is {way.packet.head.text}")
    for note in way.notes:
        out.line(f"  note: {note}")
    if way.others:
        out.line(f"  note: {count(way.others, 'other way')} {verb(way.others, 'is', 'are')} as likely")


def _listed(seen: Sequence[str]) -> int:
    """Return the number of hops up to the first one that was not seen, or to the last one that was."""
    last = max((number for number, word in enumerate(seen) if word not in ("", NOT_SEEN)), default=-1)
    return max(list(seen).index(NOT_SEEN), last) + 1


def _place(hop: Hop) -> str:
    return f"{namespace_text(hop.namespace)}: {hop.where} {hop.text}"


def as_json(question: Question, way: Way, reply: Way | None, found: Observation | None) -> dict[str, Any]:
    """Return the JSON of a question and its answer (``docs/dvrctl.md``)."""
    return {
        "packet": _tuple_json(question.packet.head),
        "start": {"namespace": question.start.namespace, "device": question.start.device or None},
        "way": way_json(way, found.words if found else ()),
        "reply": None if reply is None else way_json(reply, found.answer_words if found else ()),
        "divergence": found.divergence if found else None,
    }


def way_json(way: Way, seen: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON of a way."""
    at = None if way.at is None else {"namespace": way.at.namespace, "device": way.at.device}
    words = [*seen, *[""] * (len(way.hops) - len(seen))]
    hops = [{**_hop_json(hop), "live": word or None} for hop, word in zip(way.hops, words, strict=True)]
    return {
        "outcome": way.outcome,
        "reason": way.reason,
        "at": at,
        "packet": _tuple_json(way.packet.head),
        "hops": hops,
        "notes": list(way.notes),
        "others": way.others,
    }


def _hop_json(hop: Hop) -> dict[str, Any]:
    return {
        "namespace": hop.namespace,
        "where": hop.where,
        "text": hop.text,
        "device": hop.device,
        "mark": hop.mark,
        "before": _tuple_json(hop.before),
        "after": _tuple_json(hop.after),
    }


def _tuple_json(head: Tuple) -> dict[str, Any]:
    return dict(head._asdict())


def _change(hop: Hop) -> str:
    return "" if hop.before == hop.after else f"  [{hop.before.text} becomes {hop.after.text}]"


def _source(world: World, text: str) -> tuple[str, Hint]:
    """Parse ``IP[%NAMESPACE[/DEVICE]]``."""
    address, percent, place = text.partition("%")
    src = _address(address, "--from")
    if not percent:
        return src, Hint()
    namespace, _, device = place.partition("/")
    return src, Hint(_namespace(world, namespace), device)


def _namespace(world: World, text: str) -> str:
    """Return the namespace with a name, or with as much of its beginning as is unique."""
    if text in ("", HOST):
        return ""
    if text in world.devices:
        return text
    found = sorted(name for name in world.devices if name.startswith(text))
    if len(found) != 1:
        what = f"several namespaces begin with {text}: {', '.join(found)}" if found else f"no namespace {text}"
        raise TraceError(f"--from: {what}")
    return found[0]


def _address(text: str, option: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(f"trace: {option}: {text!r} is no IP address") from None


def _protocol(args: argparse.Namespace) -> int:
    name = args.proto or ("icmp" if args.dport is None else "tcp")
    protocol = PROTOCOLS[name]
    if protocol == ICMP and args.dport is not None:
        raise UsageError("trace: --dport: icmp has no ports; name --proto tcp, udp, sctp or dccp")
    if protocol != ICMP and args.dport is None:
        raise UsageError(f"trace: --proto {name} needs --dport")
    return protocol
