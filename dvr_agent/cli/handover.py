"""``dvrctl handover``: gives the host back to neutron-l3-agent, each namespace once neutron-l3-agent is ready there."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import Output, complain
from dvr_agent.cli.own_changes import OwnChanges
from dvr_agent.desired.names import FIP, parse_namespace
from dvr_agent.errors import DvrError, NamespaceGoneError
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.filter_choice import choose
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.nftables.limit_probe import choose_layout
from dvr_agent.lock import AgentLock
from dvr_agent.plural import count
from dvr_agent.reconcile.handover import (
    OwnObjects,
    correct_state_files,
    find_own_objects,
    missing_effects,
    read_own_objects,
    remove_own_objects,
)
from dvr_agent.reconcile.plan_lines import Group

INTERVAL = 0.5
"""Seconds between two checks.  The kernel announces no changes of legacy tables, so they are polled."""


class HandoverError(DvrError):
    """Some namespaces were not handed over."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one namespace.

    :ivar own: objects of ours that are to be removed
    :ivar waits_for: effects that neutron-l3-agent lacks in the namespace; empty: our objects were removed, or can be
    """

    own: OwnObjects
    waits_for: tuple[str, ...] = ()


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl handover``.

    :returns: 0: done, or nothing to do (or ``--dry-run``); 1: refused or failed, or neutron-l3-agent was not ready in
        time
    """
    conf = load_config(args)
    choose(conf.dvr_agent.packet_filter)
    choose_layout()
    kernel = open_kernel()
    lock = contextlib.nullcontext() if args.dry_run else AgentLock(conf.state_path, conf.host)
    with lock:
        wrong_files = correct_state_files(kernel, Path(conf.state_path), writable=not args.dry_run)
        everything = find_own_objects(kernel)
        if args.dry_run:
            left = [Progress(one, _waits_for(kernel, one)) for one in everything]
        else:
            report = _ProgressLine(len(everything))
            own = OwnChanges(conf, "handover")
            left = _hand_over(kernel, everything, args.now, args.timeout, report, own)
    _show(out, everything, left, wrong_files, args)
    if left and not args.dry_run:
        raise HandoverError(
            f"neutron-l3-agent is not ready in {len(left)} of {count(len(everything), 'namespace')}: {_first(left)}; "
            "ours stay there; --now removes them all the same"
        )
    return 0


def _hand_over(
    kernel: Kernel,
    everything: list[OwnObjects],
    now: bool,
    timeout: float,
    report: Callable[[list[Progress]], None],
    own: OwnChanges,
) -> list[Progress]:
    """Remove our objects where neutron-l3-agent is ready, until none are left or the time is over.

    :returns: namespaces where objects of ours are left
    """
    end = time.monotonic() + timeout
    names = [one.namespace for one in everything]
    while True:
        left = [one for name in names if (one := read_own_objects(kernel, name)) is not None]
        found = [Progress(one, () if now else _waits_for(kernel, one)) for one in left]
        _remove(kernel, [one.own for one in found if not one.waits_for], own)
        waiting = [one for one in found if one.waits_for]
        if not waiting:
            return []
        report(waiting)
        names = [one.own.namespace for one in waiting]
        if time.monotonic() >= end:
            return waiting
        time.sleep(min(INTERVAL, max(end - time.monotonic(), 0)))


def _remove(kernel: Kernel, ready: list[OwnObjects], own: OwnChanges) -> None:
    """Remove our objects; what is gone is kept in the history, also where the removal fails."""
    there: dict[str, list[str]] = {}
    try:
        remove_own_objects(kernel, ready)
    except DvrError:
        left = [read_own_objects(kernel, one.namespace) for one in ready]
        there = {one.namespace: one.lines() for one in left if one is not None}
        raise
    finally:
        _record([one.removal for one in ready], there, own)


def _record(removals: list[Group], there: Mapping[str, Collection[str]], own: OwnChanges) -> None:
    """Add the lines of removals to the history, without those of objects that are still there."""
    gone = []
    for group in removals:
        lines = tuple(line for line in group.lines if line.text not in there.get(group.name, ()))
        if lines:
            gone.append(replace(group, lines=lines))
    places = [parse_namespace(group.name) for group in gone]
    own.by_router(gone, [place[1] for place in places if place is not None and place[0] != FIP])


def _waits_for(kernel: Kernel, own: OwnObjects) -> tuple[str, ...]:
    try:
        return tuple(missing_effects(kernel, own))
    except NamespaceGoneError:
        return ()


class _ProgressLine:
    """Prints the progress on stderr whenever it changes."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last = ""

    def __call__(self, waiting: list[Progress]) -> None:
        done = self._total - len(waiting)
        handed_over = f"{done} of {count(self._total, 'namespace')} handed over"
        text = f"waiting for neutron-l3-agent: {handed_over}; {_first(waiting)}"
        if text != self._last:
            self._last = text
            complain(text)


def _first(waiting: list[Progress]) -> str:
    one = waiting[0]
    more = f" (and {len(one.waits_for) - 1} more)" if len(one.waits_for) > 1 else ""
    return f"{one.own.namespace} lacks {one.waits_for[0]}{more}"


def _show(
    out: Output, everything: list[OwnObjects], left: list[Progress], wrong_files: bool, args: argparse.Namespace
) -> None:
    waits = {one.own.namespace: one.waits_for for one in left}
    files = ("would be corrected" if args.dry_run else "corrected") if wrong_files else "right"
    if out.json:
        namespaces = [
            {"name": one.namespace, "removed": one.lines(), "waits_for": list(waits.get(one.namespace, ()))}
            for one in everything
        ]
        out.document({"done": not left and not args.dry_run, "namespaces": namespaces, "state_files": files})
        return
    for one in everything:
        lacks = waits.get(one.namespace, ())
        state = f"waits: neutron-l3-agent lacks {lacks[0]}" if lacks else "ready" if args.dry_run else "handed over"
        out.line(f"namespace {one.namespace}: {state}")
        if not lacks or args.dry_run:
            for line in one.lines():
                out.line(f"  - {line}")
    if not everything:
        out.line("nothing of dvr-agent is in the way of neutron-l3-agent")
    out.line(f"state files: {files}")
