"""One measurement in a process of its own, with a host of its own: ``python -m bench.worker '<task>'``.

Task and result are JSON (:class:`Task`, :class:`Result`).  All times are seconds.
"""

from __future__ import annotations

import cProfile
import io
import json
import os
import pstats
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import sandbox, states
from bench.commands import Script, batched, run
from bench.documents import EXTERNAL_BRIDGE, EXTERNAL_NETWORK, FIPS, PORTS, document
from bench.encode import Encoder
from bench.floor import Floor
from bench.same import picture
from dvr_agent.daemon.gc_freeze import GcFreeze
from dvr_agent.kernel.drift_events import Kept
from dvr_agent.kernel.host_filter import Backend, HostFilter
from dvr_agent.kernel.iptables.libiptc import library
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.state.namespace import NamespaceState
from tests.support.heard import hearing, left_by, reconcile_heard

STATE_PATH = Path("/run/bench-state")
SAMPLES = 9
"""How many single updates and removals are timed; at most as many as there are routers."""
PROFILE_LINES = 25


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure.

    :ivar method: ``ours``, ``floor``, ``floor by libiptc``, ``commands`` or ``batches``
    :ivar mode: ``agent_mode``
    :ivar fips: of each router; ``ports``: other ports on its network, which become neighbours
    :ivar check: read back what was made
    :ivar packet_filter: of ``ours`` and ``floor``
    """

    method: str
    mode: str
    routers: int
    check: bool = False
    fips: int = FIPS
    ports: int = PORTS
    profile: bool = False
    packet_filter: Backend = "legacy"


@dataclass(slots=True)
class Result:
    """What was measured; seconds, KiB.

    :ivar build: all routers; ``build_cpu`` and ``resync_cpu``: processor time of this process, which a busy machine
        does not lengthen; the kernel's own threads are not in it
    :ivar parse: all documents
    :ivar first: the same routers again, right after the build, when they are read; likewise ``resync`` (once more:
        events vouch for them), ``audit`` (everything is read), ``full_sync`` (documents parsed anew), ``restart``
        (a new reconciler that hears on by the sockets of the one before) and ``crash`` (one that knows nothing)
    :ivar add: one FIP added to one router; likewise ``move`` (to another fixed address), ``drop`` (removed), and
        ``remove``, one router removed
    :ivar first_tenth: processor time of the first tenth of the build, and ``last_tenth`` of the last one
    :ivar writes: of all resyncs
    :ivar steps: messages, files and tables, or processes, for all routers
    """

    build: float
    build_cpu: float = 0.0
    resync_cpu: float = 0.0
    parse: float = 0.0
    first: float = 0.0
    resync: float = 0.0
    audit: float = 0.0
    audit_cpu: float = 0.0
    full_sync: float = 0.0
    restart: float = 0.0
    restart_cpu: float = 0.0
    crash: float = 0.0
    crash_cpu: float = 0.0
    add: float = 0.0
    add_cpu: float = 0.0
    move: float = 0.0
    move_cpu: float = 0.0
    drop: float = 0.0
    drop_cpu: float = 0.0
    remove: float = 0.0
    remove_cpu: float = 0.0
    first_tenth: float = 0.0
    last_tenth: float = 0.0
    writes: int = 0
    steps: int = 0
    rss_before: int = 0
    rss: int = 0
    picture: dict[str, Any] = field(default_factory=dict)
    profile: str = ""


def main(text: str) -> None:
    task = Task(**json.loads(text))
    HostFilter.backend = task.packet_filter
    sandbox.fresh_root()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "link", "add", EXTERNAL_BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", EXTERNAL_BRIDGE, "up"], check=True)
    # The other end is in our starter's namespace: when it is gone there, the kernel has cleared up after us.
    far = ["peer", "name", f"bench{os.getpid()}", "netns", str(os.getppid())]
    subprocess.run(["ip", "link", "add", "canary", "type", "veth", *far], check=True)
    methods: dict[str, Callable[[Task], Result]] = {
        "ours": _ours,
        "floor": _floor,
        "floor by libiptc": partial(_floor, by_libiptc=True),
        "commands": _commands,
        "batches": partial(_commands, batch=True),
    }
    result = methods[task.method](task)
    print(json.dumps(asdict(result)))
    sandbox.settle(os.listdir("/run/netns"), ("tap",))


def _floor(task: Task, by_libiptc: bool = False) -> Result:
    parts = _states(task)
    encoder = Encoder(socket.if_nametoindex(EXTERNAL_BRIDGE), by_libiptc)
    for family in (4, 6) if by_libiptc else ():
        library(family)  # loaded before the clock starts
    encoded = [[encoder.part(state) for state in states_of_router] for states_of_router in parts]
    floor = Floor()
    clock = _Tenths(task.routers)

    def build() -> None:
        for number, router_parts in enumerate(encoded):
            clock.tick(number)
            floor.build(router_parts)
        clock.tick(task.routers)

    seconds, cpu = _clocked(build)
    result = Result(seconds, cpu, first_tenth=clock.first, last_tenth=clock.last, picture=_picture(task, parts))
    going = [[encoder.removal(state) for state in parts[number]] for number in _spread(task.routers)]
    removed = [_clocked(partial(floor.remove, removals)) for removals in going]
    result.remove, result.remove_cpu = (median(one[which] for one in removed) for which in (0, 1))
    floor.close()
    return result


class _Tenths:
    """Processor time of the first and of the last tenth of a build."""

    def __init__(self, routers: int) -> None:
        self._marks = dict.fromkeys((0, max(1, routers // 10), routers - max(1, routers // 10), routers), 0.0)

    def tick(self, number: int) -> None:
        """So many routers are there."""
        if number in self._marks:
            self._marks[number] = time.process_time()

    @property
    def first(self) -> float:
        begin, end = sorted(self._marks)[:2]
        return self._marks[end] - self._marks[begin]

    @property
    def last(self) -> float:
        begin, end = sorted(self._marks)[-2:]
        return self._marks[end] - self._marks[begin]


def _commands(task: Task, batch: bool = False) -> Result:
    parts = _states(task)
    script = Script()
    by_state = [(state, script.commands(state)) for found in parts for state in found]
    commands = [one for state, found in by_state for one in (batched(state, found) if batch else found)]
    seconds = _timed(lambda: run(commands))
    return Result(seconds, steps=len(commands), picture=_picture(task, parts))


def _ours(task: Task) -> Result:
    reconciler = _make_reconciler(task)
    library(4)  # the daemon, too, loads libiptc at its start, and freezes its heap before the first job
    GcFreeze().freeze()
    reconciler.load()
    before = _rss()
    raw = _raw(task)
    routers: list[Router] = []
    parse = _timed(lambda: routers.extend(states.parse(raw)))
    profiler = cProfile.Profile() if task.profile else None
    agent = _Agent(reconciler)
    clock = _Tenths(task.routers)
    build, cpu = _clocked(lambda: agent.make_round(routers, clock=clock), profiler)
    result = Result(build, cpu, parse=parse, rss_before=before, rss=_rss(), picture=_picture(task, _states(task)))
    result.first_tenth, result.last_tenth = clock.first, clock.last
    counters = reconciler.kernel.counters
    result.profile = _report("build", profiler)
    written = counters.total()
    result.first = _timed(lambda: agent.make_round(routers))
    profiler = cProfile.Profile() if task.profile else None
    result.resync, result.resync_cpu = _clocked(lambda: agent.make_round(routers), profiler)
    result.profile += _report("no-op resync", profiler)
    result.audit, result.audit_cpu = _clocked(lambda: agent.make_round(routers, audit=True))
    anew = states.parse(raw)
    result.full_sync = _timed(lambda: agent.make_round(anew))
    result.writes = counters.total() - written
    for what, kept in (("restart", agent.leave()), ("crash", None)):
        agent.close()
        agent = _Agent(_make_reconciler(task), kept)
        profiler = cProfile.Profile() if task.profile else None
        seconds, cpu = _clocked(partial(agent.start, anew), profiler)
        setattr(result, what, seconds)
        setattr(result, f"{what}_cpu", cpu)
        result.profile += _report(what, profiler)
        agent.make_round(anew)
        result.writes += agent.reconciler.kernel.counters.total()
    _single_updates(agent, task, result)
    numbers = _spread(task.routers)
    profiler = cProfile.Profile() if task.profile else None
    removed = [_clocked(partial(agent.remove, anew[number].id), profiler) for number in numbers]
    result.remove, result.remove_cpu = (median(one[which] for one in removed) for which in (0, 1))
    result.profile += _report("one router removed", profiler)
    agent.close()
    return result


class _Agent:
    """A reconciler with the events of the kernel, as the daemon has them."""

    def __init__(self, reconciler: RouterReconciler, kept: Kept | None = None) -> None:
        self.reconciler, self._kept = reconciler, kept
        self._judge = hearing(reconciler) if kept is None else None

    @property
    def judge(self) -> DriftJudge:
        assert self._judge is not None, "it has not started yet"
        return self._judge

    def close(self) -> None:
        self.judge.close()

    def leave(self) -> Kept | None:
        """As the daemon does when it stops: what the next one gets."""
        return left_by(self.judge)

    def start(self, routers: Sequence[Router]) -> None:
        """As the daemon does when it starts on a host where all is as it should be."""
        self.reconciler.load()
        if self._kept is not None:
            self._judge = hearing(self.reconciler, self._kept)
        self.make_round(routers)

    def make_round(self, routers: Sequence[Router], audit: bool = False, clock: _Tenths | None = None) -> None:
        """As the daemon does a resync or an audit, with what it does to its heap."""
        heap = GcFreeze()
        # Without the documents a start would take all routers for undeclared ones, and read what they have.
        self.reconciler.begin_resync([(router.id, router) for router in routers])
        for number, router in enumerate(routers, 1):
            if clock is not None:
                clock.tick(number - 1)
            reconcile_heard(self.judge, self.reconciler, router, in_resync=True, trusting=not audit)
            if not audit:
                heap.router_changed()
        if clock is not None:
            clock.tick(len(routers))
        self.reconciler.flush()

    def update(self, raw: bytes) -> None:
        """As the daemon does with a document that has come."""
        reconcile_heard(self.judge, self.reconciler, parse_document(raw, "router"))

    def remove(self, router_id: str) -> None:
        """As the daemon does when a document was deleted."""
        self.judge.judge()
        self.reconciler.remove(router_id)
        self.judge.job_ended(router_id)
        self.judge.judge(router_id)


def _single_updates(agent: _Agent, task: Task, result: Result) -> None:
    """Add a FIP to a router, move it to another fixed address, take it away again; on several routers in turn."""
    profiler = cProfile.Profile() if task.profile else None
    host, samples = states.gateway_host(task.mode), []
    for number in _spread(task.routers):
        added, before = (document(number, host, task.fips + more, task.ports) for more in (1, 0))
        envelope = json.loads(added)
        fips = envelope["router"]["_floatingips"]
        fips[-1]["fixed_ip_address"], fips[-2]["fixed_ip_address"] = (
            fips[-2]["fixed_ip_address"], fips[-1]["fixed_ip_address"],
        )  # fmt: skip
        samples.append(
            [_clocked(partial(agent.update, raw), profiler) for raw in (added, json.dumps(envelope).encode(), before)]
        )
    add, move, drop = zip(*samples, strict=True)
    (result.add, result.add_cpu), (result.move, result.move_cpu), (result.drop, result.drop_cpu) = (
        tuple(median(one[clock] for one in kind) for clock in (0, 1)) for kind in (add, move, drop)
    )
    result.profile += _report("one FIP added, moved, removed", profiler)


def _make_reconciler(task: Task) -> RouterReconciler:
    return make_reconciler(states.settings(task.mode), {EXTERNAL_NETWORK: EXTERNAL_BRIDGE}, STATE_PATH)


def _states(task: Task) -> list[list[NamespaceState]]:
    return list(states.namespaces(task.mode, states.parse(_raw(task))))


def _raw(task: Task) -> list[bytes]:
    return states.raw_documents(task.mode, task.routers, task.fips, task.ports)


def _picture(task: Task, parts: Sequence[Sequence[NamespaceState]]) -> dict[str, Any]:
    """Of the first router with the shared part, and of the last."""
    return picture([*parts[0], *parts[-1]]) if task.check else {}


def _spread(count: int) -> list[int]:
    """Some numbers out of ``range(count)``, never the first router, as far apart as possible."""
    samples = max(1, min(SAMPLES, count - 1))
    return sorted({max(1, count * (index + 1) // (samples + 1)) % count for index in range(samples)})


def _timed(work: Callable[[], object], profiler: cProfile.Profile | None = None) -> float:
    started = time.perf_counter()
    if profiler is not None:
        profiler.runcall(work)
    else:
        work()
    return time.perf_counter() - started


def _clocked(work: Callable[[], object], profiler: cProfile.Profile | None = None) -> tuple[float, float]:
    """Time on the wall and on the processor."""
    started = time.process_time()
    seconds = _timed(work, profiler)
    return seconds, time.process_time() - started


def _report(title: str, profiler: cProfile.Profile | None) -> str:
    if profiler is None:
        return ""
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
    return f"--- profile: {title}\n{text.getvalue()}"


def _rss() -> int:
    """KiB of memory in use."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


if __name__ == "__main__":
    main(sys.argv[1])
