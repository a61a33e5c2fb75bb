"""Queues checks of routers that something else has changed in the kernel, as it happens, and logs their repairs.

The worker thread reads and judges the events (:mod:`dvr_agent.reconcile.drift`): when the hub sees that there are some,
and before and after each router's job, so that what the job itself causes is known by its time.  All other methods
belong to the hub's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from functools import partial
from typing import NamedTuple, TypeVar

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.fights import Fights, Repair
from dvr_agent.daemon.job_result import JobResult
from dvr_agent.daemon.job_texts import place_text, subject_text
from dvr_agent.daemon.jobs import RouterJob
from dvr_agent.daemon.loss_audits import LossAudits
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.plural import count
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.drift import DriftJudge, Finding, Judgement
from dvr_agent.reconcile.plan_lines import stale_table_lines, table_lines, table_text
from dvr_agent.state.address import ADDRESS_KIND
from dvr_agent.state.diff import Changes
from dvr_agent.state.kernel_route import KERNEL_ROUTE_KIND
from dvr_agent.state.link import LINK_KIND
from dvr_agent.state.namespace import thing_of

LOG = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds between two looks at the events: a burst is a few jobs, not a job for each event."""
FAILED_PAUSE = 5.0
"""Seconds after events could not be read."""

T = TypeVar("T")


class _Heard(NamedTuple):
    """What was heard until a job began, and until it ended."""

    before: Judgement
    after: Judgement


class DriftWatch:
    """Follows the events of the kernel.

    :param judge: None: there are no events
    """

    def __init__(
        self, judge: DriftJudge | None, worker: WorkerThread, schedule: Schedule, resync: Resync, fights: Fights
    ) -> None:
        self._judge, self._worker, self._schedule = judge, worker, schedule
        self._fights = fights
        self._found: dict[str, dict[Hashable, Finding]] = {}
        self._waiting: dict[str, eventlet_shim.GreenTimer] = {}
        self._loss_audits = LossAudits(resync)

    def watch(self) -> None:
        """Follow the events; never returns, except where there are none."""
        judge = self._judge
        if judge is None:
            return
        while True:
            eventlet_shim.wait_readable(judge.events.fileno())
            judgement = self._worker.try_call(judge.judge, "events of the kernel cannot be read")
            if judgement is not None:
                self._hear(judgement)
            eventlet_shim.sleep(FAILED_PAUSE if judgement is None else 0.0 if judgement.more else PAUSE)

    def around(self, router_id: str, work: Callable[[], T]) -> tuple[T, _Heard]:
        """Carry out a router's job, and hear what happens meanwhile.  For the worker thread."""
        if self._judge is None:
            return work(), _Heard(Judgement(), Judgement())
        before = self._safely(self._judge.judge, Judgement())
        self._safely(partial(self._judge.job_begins, router_id), None)
        result = work()
        return result, _Heard(before, self._safely(partial(self._job_ended, self._judge, router_id), Judgement()))

    def job_ended(self, work: RouterJob, repairs: bool, result: JobResult, heard: _Heard) -> list[Finding]:
        """Act on what was heard during a job, and log its repairs.

        :param repairs: the job had no other reason than drift
        :returns: what was heard of the router before it
        """
        router_id, reconciled = work.router_id, result.reconciled
        self._hear(heard.before, done=router_id)
        found = self._found.pop(router_id, {})
        if repairs and reconciled is not None:
            subject = subject_text(router_id, work.name)
            made = list(_repairs(reconciled.plan, found))
            _log_repairs(router_id, made)
            self._count(router_id, subject, [*made, *_refused(reconciled.undone, found)])
        self._hear(_without(heard.after, reconciled.undone) if reconciled is not None else heard.after)
        for gone in [router_id for router_id in self._found if router_id not in self._schedule.records]:
            del self._found[gone]
        return list(found.values())

    def job_waits(self, router_id: str, heard: _Heard) -> None:
        """Act on what was heard during a job that has changed nothing and comes again."""
        self._hear(heard.before, done=router_id)
        self._hear(heard.after)

    def _job_ended(self, judge: DriftJudge, router_id: str) -> Judgement:
        judge.job_ended(router_id)
        return judge.judge(router_id)

    def _safely(self, function: Callable[[], T], otherwise: T) -> T:
        """Call a function of the judge; its failure is none of the job's."""
        try:
            return function()
        except Exception:
            LOG.exception("events of the kernel cannot be read")
            return otherwise

    def _hear(self, judgement: Judgement, done: str = "") -> None:
        """Queue checks of the routers with findings, and of HA routers whose master has changed.

        :param done: id of the router whose job came after the events
        """
        for finding in judgement.findings:
            self._found.setdefault(finding.router_id, {})[finding.thing] = finding
        for router_id in dict.fromkeys(finding.router_id for finding in judgement.findings):
            if router_id != done:
                self._check(router_id)
        for router_id in judgement.switched:
            if router_id != done:
                self._schedule.check_soon(router_id)
        if judgement.lost:
            self._loss_audits.lost(judgement.lost)

    def _check(self, router_id: str) -> None:
        """Queue the check of a router, at once or when its fight allows it."""
        if router_id in self._waiting:
            return
        seconds = self._fights.wait(router_id, time.monotonic())
        if seconds:
            self._waiting[router_id] = eventlet_shim.GreenTimer(seconds, partial(self._check_now, router_id))
        else:
            self._check_now(router_id)

    def _check_now(self, router_id: str) -> None:
        self._waiting.pop(router_id, None)
        if not self._schedule.drift_found(router_id):
            self._found.pop(router_id, None)

    def _count(self, router_id: str, subject: str, repairs: list[Repair]) -> None:
        """Count repairs, and tries of them that were refused; log the fight that they begin."""
        now = time.monotonic()
        fight = self._fights.repaired(router_id, repairs, now) if repairs else None
        if fight is None:
            return
        verb, why = "was repaired", "another program manages it too"
        if fight.repair.refused:
            verb, why = "could not be repaired", "the kernel refuses it"
        LOG.error(
            "%s: %s %s %d times in 10 minutes%s: %s; from now on drift of this router is repaired after growing waits, "
            "next in %.0f s",
            subject, fight.repair.text, verb, fight.repairs, fight.repair.by, why, fight.until - now,
        )  # fmt: skip


def _log_repairs(router_id: str, repairs: list[Repair]) -> None:
    """Log every repaired object, tables rule by rule; a namespace that was made anew is one object with all in it."""
    for repair in repairs:
        for text in repair.details or (repair.text,):
            LOG.info("drift repaired: %s%s", place_text(router_id, text), repair.by)


def _refused(undone: Set[Hashable], found: Mapping[Hashable, Finding]) -> Iterator[Repair]:
    """Yield the objects whose drift was found and could not be repaired."""
    for thing, finding in found.items():
        if thing in undone:
            yield Repair(thing, finding.text, finding.author.text, refused=True)


def _without(judgement: Judgement, undone: Set[Hashable]) -> Judgement:
    """Return what was heard during a job without the objects that were refused it: their retry is due already."""
    findings = tuple(finding for finding in judgement.findings if finding.thing not in undone)
    return judgement._replace(findings=findings)


_TAKE_OTHERS = frozenset({"namespace", LINK_KIND.name, ADDRESS_KIND.name, KERNEL_ROUTE_KIND.name})
"""Kinds of objects with which others go."""


def _repairs(plan: Plan, found: dict[Hashable, Finding]) -> Iterator[Repair]:
    """Yield the objects that a job has repaired, with their authors.

    Some objects go with others (a device's routes) without an event: their author is that of the only other finding.
    What goes with nothing (a packet filter table, a limit whose device is there) has the author that was heard, if any.
    """
    authors = {finding.author for finding in found.values()}
    takes_others = any(isinstance(thing, tuple) and thing[1] in _TAKE_OTHERS for thing in found)
    only = authors.pop().text if len(authors) == 1 and takes_others else ""

    def author(thing: Hashable) -> str:
        return found[thing].author.text if thing in found else only

    for changes in plan.changes:
        namespace = changes.namespace
        if changes.create or changes.remove:
            thing = thing_of(namespace, None)
            yield Repair(thing, _namespace_text(changes), author(thing))
            continue
        for change in changes.items:
            thing = thing_of(namespace, change.item)
            yield Repair(thing, f"{namespace}: {change.text}", author(thing))
        for table in changes.tables:
            rules = tuple(f"{namespace}: {line.full}" for line in table_lines(table))
            thing = (namespace, "table", table.new.key)
            by = found[thing].author.text if thing in found else ""
            yield Repair(thing, f"{namespace}: ~ {table_text(table.new)}", by, details=rules)
        for line in stale_table_lines([table.old for table in changes.stale_tables]):
            yield Repair((namespace, "table", line.text), f"{namespace}: {line.full}")
    yield from _of_lines(plan.ports, only)
    yield from _of_lines(((f"router {one.router_id}", one.text) for one in plan.services), only)


def _namespace_text(changes: Changes) -> str:
    number = len(changes.items) + len(changes.tables)
    inside = f" with {count(number, 'object')}" if number else ""
    return f"{changes.namespace}: {'+' if changes.create else '-'} namespace{inside}"


def _of_lines(lines: Iterable[tuple[str, str]], author: str) -> Iterator[Repair]:
    for namespace, text in lines:
        yield Repair((namespace, "port", text), f"{namespace}: {text}", author)
