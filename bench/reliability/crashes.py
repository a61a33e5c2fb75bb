"""Kills the daemon at its writes while it builds, changes and removes a router, and starts it again.

After each restart everything is as it would have been without it, nothing is left over, and the living router has
lost no packet.
"""

from __future__ import annotations

import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.reliability import tracer
from bench.reliability.api import Figure, Options
from bench.reliability.living import VICTIM, LivingHost, changed
from tests.support.waiting import wait_for

WRITES = ("sendto", "setsockopt", "write", "mount", "umount2", "unlink", "renameat", "unshare", "setns", "openat")
"""System calls that change something, or that stand between two that do."""
KILLS, QUICK_KILLS = 90, 3


class Point(NamedTuple):
    """The nth call of a thread."""

    call: str
    nth: int


def measure(options: Options) -> Figure:
    """Kill it again and again."""
    if tracer.is_missing():
        return Figure("skipped: strace is missing", True)
    steps = (("build", VICTIM), ("change", changed()), ("remove", None))
    with LivingHost() as host:
        wanted, points = _rehearse(host, steps)
        kills, wrong = 0, list[str]()
        limit = QUICK_KILLS if options.quick else KILLS
        for at in range(max(1, limit // len(steps))):
            for number, (name, document) in enumerate(steps):
                point = _spread(points[name], at * len(steps) + number, limit)
                kills += kill(host, point, document)
                wrong += _compare(host, f"{name} killed at {point.call} {point.nth}", document, wanted[name])
        lost, sent = host.lost()
    writes = sum(map(len, points.values()))
    text = f"{kills} SIGKILLs at {writes} writes: {len(wrong)} restarts that differ or leave something, "
    text += f"{lost} of {sent:,} pings lost"
    return Figure(text, not wrong and not lost and kills > 0, tuple(wrong[:20]))


def kill(host: LivingHost, point: Point, document: Any) -> bool:
    """Kill the daemon at a point of what a document leads to, and start it again; False: it never came there."""
    pid = host.pid()
    with tracer.injected(pid, point.call, f"signal=SIGKILL:when={point.nth}") as strace:
        host.put(document)
        wait_for(lambda: strace.poll() is not None or _done(host, document), f"killed at {point}")
        killed = strace.poll() is not None
    ended = host.daemon.stop(signal.SIGKILL)
    assert ended == -signal.SIGKILL, ended
    host.daemon.start()
    return killed


def _done(host: LivingHost, document: Any) -> bool:
    try:
        return host.settled(document)
    except OSError:
        return False


def _rehearse(
    host: LivingHost, steps: tuple[tuple[str, Any], ...]
) -> tuple[dict[str, dict[str, object]], dict[str, list[Point]]]:
    """Return what is there after each step, and the points of each step at which the daemon can be killed."""
    wanted, points = {}, {}
    with tempfile.NamedTemporaryFile() as log:
        for name, document in steps:
            with tracer.injected(host.pid(), ",".join(WRITES), "", Path(log.name)):
                host.put(document)
                wanted[name] = host.settle(document)
            points[name] = list(_points(Path(log.name).read_text()))
    return wanted, points


def _points(log: str) -> Iterator[Point]:
    """Yield every nth call of the busiest thread, the worker, in order."""
    lines = [line.split(maxsplit=1) for line in log.splitlines() if "(" in line and "resumed" not in line]
    worker = Counter(words[0] for words in lines).most_common(1)[0][0]
    counts: Counter[str] = Counter()
    for thread, rest in lines:
        call = rest.partition("(")[0]
        if thread == worker and call in WRITES:
            counts[call] += 1
            yield Point(call, counts[call])


def _spread(points: list[Point], at: int, limit: int) -> Point:
    """Return one of the points: over a whole run they are spread evenly."""
    return points[at * len(points) // max(limit, 1) % len(points)]


def _compare(host: LivingHost, what: str, document: Any, wanted: dict[str, object]) -> list[str]:
    try:
        found = host.settle(document)
    except AssertionError as exc:
        return [f"{what}: {exc}", *host.left_overs()]
    return [f"{what}: {line}" for line in (*differences(wanted, found), *host.faults_in_log())]


def differences(wanted: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    """Yield the lines that only one of two snapshots has."""
    for name in sorted(set(wanted) | set(found)):
        one, other = set(_lines(wanted.get(name))), set(_lines(found.get(name)))
        yield from (f"{name}: missing: {line}" for line in sorted(one - other))
        yield from (f"{name}: unexpected: {line}" for line in sorted(other - one))


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{key} {line}" for key, item in value.items() for line in _lines(item))
    elif isinstance(value, list):
        yield from map(str, value)
    else:
        yield str(value)
