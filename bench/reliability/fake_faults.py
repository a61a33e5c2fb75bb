"""Every call to the kernel fails once with every error, for each recorded router, on the fake kernel.

A job is the making, the changing or the removal of a router beside another one that is in sync.  Its nth call fails;
the job then ends as if nothing had been, or by an error whose text an operator can use.  The other router is in sync
nevertheless, and the next try makes of both what they would have been without the fault.
"""

from __future__ import annotations

import errno
import logging
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from bench.reliability.api import Figure, Options
from dvr_agent.errors import DvrError, KernelError, NamespaceGoneError, NotSupportedError
from dvr_agent.kernel.fake.faults import ANY
from dvr_agent.model.router import FixedIp, Router, RouterPort
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import MODES, RECORDED, load

ERRORS = (errno.EPERM, errno.ENOMEM, errno.EBUSY, errno.EEXIST, errno.ENOENT, errno.ENODEV, errno.EINTR,
          errno.ENOBUFS, errno.EMFILE, errno.ETIMEDOUT)  # fmt: skip
DUMP_INTERRUPTED = "changed 16 times while it was read"
SCENARIOS = tuple(name for name in sorted(RECORDED) if name.rpartition("-")[2] in MODES)
QUICK_SCENARIOS, QUICK_STRIDE = ("b2_dvr_snat_node_with_vms-compute1", "h_dual_stack-compute1"), 5


def faults() -> tuple[KernelError, ...]:
    """Return the errors that calls end with."""
    numbers = (KernelError("", "the call", code) for code in ERRORS)
    gone = NamespaceGoneError("", "namespace", errno.ENOENT, "it does not exist")
    return (*numbers, KernelError("", "dump", errno.EINTR, DUMP_INTERRUPTED), gone)


class Trial(NamedTuple):
    """What fails: the nth call of a job, with an error."""

    scenario: str
    job: str
    nth: int
    error: KernelError

    def __str__(self) -> str:
        return f"{self.scenario}: {self.job}: call {self.nth} fails with {errno.errorcode[self.error.code]}"


class UnexpectedError(Exception):
    """A trial ended as it must not; the text says how."""


@dataclass
class Rig:
    """A reconciler with two routers, and a job to do."""

    bench: Bench
    router: Router
    neighbour: Router
    job: str

    def begin(self) -> None:
        """Have the neighbour, and what the job starts from, in sync."""
        self.bench.reconciler.reconcile(self.neighbour)
        if self.job == "change":
            self.bench.reconciler.reconcile(smaller(self.router))
        elif self.job == "remove":
            self.bench.reconciler.reconcile(self.router)
        self.bench.fake.forget_calls()

    def do(self) -> None:
        """Carry out the job.

        :raises DvrError: it failed
        """
        if self.job == "remove":
            self.bench.reconciler.remove(self.router.id)
        else:
            self.bench.reconciler.reconcile(self.router)

    def open_work(self) -> bool:
        """True if the job would still change something."""
        planner = self.bench.reconciler.planner
        return bool(planner.plan_remove(self.router.id) if self.job == "remove" else planner.plan(self.router))


def measure(options: Options) -> Figure:
    """Try all of them, on all processors."""
    scenarios = QUICK_SCENARIOS if options.quick else SCENARIOS
    with ProcessPoolExecutor(1 if options.quick else None) as pool:
        done = list(pool.map(try_scenario, scenarios, [options] * len(scenarios)))
    tried, raised = sum(one[0] for one in done), sum(one[1] for one in done)
    wrong = [line for one in done for line in one[2]]
    text = f"{tried:,} faults: {raised:,} jobs degraded with the reason, {len(wrong):,} ended otherwise than promised"
    return Figure(text, not wrong and tried > 0, tuple(wrong[:20]))


def try_scenario(scenario: str, options: Options) -> tuple[int, int, list[str]]:
    """Return how many faults were tried, how many jobs failed by them, and what went wrong."""
    logging.disable()
    tried, raised, wrong = 0, 0, list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for trial in _trials(scenario, options, Path(folder) / "calls"):
            tried += 1
            try:
                raised += run(make(scenario, trial.job, Path(folder) / str(tried)), trial)
            except UnexpectedError as exc:
                wrong.append(f"{trial}: {exc}")
    return tried, raised, wrong


def run(rig: Rig, trial: Trial) -> bool:
    """Try one; returns True if the job failed.

    :raises UnexpectedError: a promise was broken
    """
    rig.begin()
    rig.bench.fake.fail(ANY, trial.nth, trial.error)
    failed = _failed(rig)
    rig.bench.fake.heal()
    if rig.bench.reconciler.planner.plan(rig.neighbour):
        raise UnexpectedError("the other router is not in sync")
    if not failed and rig.open_work():
        raise UnexpectedError("said to be done, and something is missing")
    try:
        rig.do()
    except DvrError as exc:
        raise UnexpectedError(f"the next try fails too: {exc}") from exc
    if rig.open_work() or rig.bench.reconciler.planner.plan(rig.neighbour):
        raise UnexpectedError("the next try does not heal it")
    return failed


def _failed(rig: Rig) -> bool:
    try:
        rig.do()
    except DvrError as exc:
        if not str(exc).strip() or not str(exc).isprintable():
            raise UnexpectedError(f"no reason for an operator: {exc!r}") from exc
        return True
    except Exception as exc:
        raise UnexpectedError(f"{type(exc).__name__}: {exc}") from exc
    return False


def _trials(scenario: str, options: Options, folder: Path) -> Iterator[Trial]:
    errors = faults()
    for job in ("build", "change", "remove"):
        try:
            calls = _calls(scenario, job, folder.with_suffix(f".{job}"))
        except NotSupportedError:
            return
        for nth in range(1, calls + 1):
            for at, error in enumerate(errors):
                # Quick: some call with each error, and some error at every few calls.
                if not options.quick or (nth * len(errors) + at + nth) % (len(errors) * QUICK_STRIDE) == 0:
                    yield Trial(scenario, job, nth, error)


def _calls(scenario: str, job: str, folder: Path) -> int:
    rig = make(scenario, job, folder)
    rig.begin()
    rig.do()
    return len(rig.bench.fake.calls())


def make(scenario: str, job: str, folder: Path) -> Rig:
    """Make a rig for a recorded document."""
    name, _, host = scenario.rpartition("-")
    router = load(name, host)
    folder.mkdir()
    return Rig(Bench(folder, host), router, neighbour(router), job)


def smaller(router: Router) -> Router:
    """Return the router before the change: without floating IPs, extra routes and neighbours."""
    return replace(router, floating_ips=(), routes=(), ports_by_subnet=())


def neighbour(router: Router) -> Router:
    """Return another router on the same external network."""

    def other(port: RouterPort, shift: int = 0) -> RouterPort:
        fixed = tuple(_shifted(one, shift) for one in port.fixed_ips)
        mac = f"{port.mac[:-2]}{(int(port.mac[-2:], 16) + 1) % 256:02x}"
        return replace(port, id=_other_id(port.id), mac=mac, fixed_ips=fixed)

    return replace(
        router,
        id=_other_id(router.id),
        gateway=other(router.gateway, 20) if router.gateway else None,
        interfaces=tuple(replace(other(port), network_id=_other_id(port.network_id)) for port in router.interfaces),
        snat_interfaces=tuple(
            replace(other(port), network_id=_other_id(port.network_id)) for port in router.snat_interfaces
        ),
        floating_ips=(),
        routes=(),
    )


def _shifted(fixed: FixedIp, by: int) -> FixedIp:
    """Return another address of the same subnet, neither its first nor its last."""
    network = ip_network(fixed.cidr, strict=False)
    if not by or network.num_addresses < 8:
        return fixed
    offset = int(fixed.address) - int(network[0])
    return replace(fixed, address=network[2 + (offset + by) % (min(network.num_addresses, 1 << 16) - 4)])


def _other_id(old: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, old))
