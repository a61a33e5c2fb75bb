"""What a job is, and how the worker carries it out and tells its story in the log.

Everything here runs in the worker thread, blocks, and writes nothing that the hub reads: the result goes back as a
value.  Each job has its own request id, and its lines carry the router's id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from dvr_agent import logs
from dvr_agent.daemon.work_queue import Job, Priority
from dvr_agent.errors import DvrError, NotSupportedError
from dvr_agent.reconcile.api import Plan, Reconciler, is_mass_removal
from dvr_agent.reconcile.api import Result as Outcome
from dvr_agent.sources.api import Document, Fate, Settled

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """Make the kernel agree with this document.

    :ivar warned: warnings and omissions that were already logged for it
    :ivar recovering: the last try failed, or its document was bad: say when it is well again
    """

    document: Document
    warned: frozenset[str] = frozenset()
    recovering: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """The router is gone."""

    router_id: str
    name: str


class Control(Enum):
    """Jobs that belong to no router; the value is their key in the queue."""

    BEGIN_PASS = "begin pass"
    SWEEP = "stale sweep"
    ANNOUNCE = "announce again"
    TIDY = "tidy bridges"


Work = Update | Remove | Control


@dataclass(frozen=True, slots=True)
class Done:
    """The job did what it was to do; ``outcome.plan.omitted`` is left out."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Degraded:
    """The router's kernel state is in place, but one of its services does not serve it."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class NotSupported:
    """The router is of a kind that is left alone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed; the router keeps what it has."""

    reason: str


Result = Done | Degraded | NotSupported | Failed


def run(job: Job[Work], reconciler: Reconciler, late: float) -> Result:
    """Carry out the job of a router.  Never raises: an error that nobody expected is a failed try like any other.

    :param late: seconds between the event and now
    """
    work = job.work
    assert not isinstance(work, Control)
    router_id = work.router_id if isinstance(work, Remove) else work.document.router.id
    with logs.job_context(router_id):
        subject = subject_text(router_id, work.name if isinstance(work, Remove) else work.document.router.name)
        try:
            if isinstance(work, Remove):
                return _remove(router_id, subject, "removed", reconciler, late)
            return _update(job, work, subject, reconciler, late)
        except NotSupportedError as exc:
            return NotSupported(str(exc))
        except DvrError as exc:
            failed = Failed(str(exc))
        except Exception as exc:
            LOG.exception("%s: failed by an error that should not happen", subject)
            return Failed(f"{type(exc).__name__}: {exc}")
        # Not inside the except clause: there oslo.log would say the exception once more.
        LOG.error("%s: failed: %s", subject, failed.reason)
        return failed


def settled(job: Job[Work], result: Result) -> Settled:
    """What the source is told about the end of a router's job."""
    work = job.work
    assert not isinstance(work, Control)
    if isinstance(work, Remove):
        fate = Fate.ABSENT if isinstance(result, Done) else Fate.FAILED
        return Settled(work.router_id, fate, None, result.reason if isinstance(result, Failed) else "")
    router = work.document.router
    if isinstance(result, Failed):
        return Settled(router.id, Fate.FAILED, router, result.reason)
    if isinstance(result, NotSupported):
        return Settled(router.id, Fate.LEFT_ALONE, router, result.reason)
    return Settled(router.id, Fate.IN_PLACE if router.admin_state_up else Fate.ABSENT, router)


def _update(job: Job[Work], work: Update, subject: str, reconciler: Reconciler, late: float) -> Result:
    router = work.document.router
    if not router.admin_state_up and router.distributed and not router.ha:
        return _remove(router.id, subject, "administratively down, removed", reconciler, late)
    in_pass = job.priority in (Priority.SYNC, Priority.AUDIT)
    outcome = reconciler.reconcile(router, in_resync=in_pass)
    plan = outcome.plan
    for warning in plan.warnings:
        if warning not in work.warned:
            LOG.warning("%s: %s", subject, warning)
    for omission in plan.omitted:
        if omission not in work.warned:
            LOG.error("%s: left out: %s: %s", subject, work.document.name, omission)
    if job.priority is Priority.AUDIT:
        if plan:
            LOG.warning("%s: drift repaired: %s; %s", subject, counts_text(plan), _times(outcome, late))
    elif plan:
        word = "added" if any(change.create for change in plan.changes) else "changed"
        LOG.info("%s: %s: %s; %s", subject, word, counts_text(plan), _times(outcome, late))
    else:
        level = logging.INFO if job.priority is Priority.EVENT or work.recovering else logging.DEBUG
        LOG.log(level, "%s: in sync, nothing to change; %s", subject, _times(outcome, late))
    _details(plan)
    if outcome.trouble:
        LOG.error("%s: %s", subject, "; ".join(outcome.trouble))
        return Degraded(outcome, "; ".join((*outcome.trouble, *plan.omitted)))
    if work.recovering and not plan.omitted:
        LOG.info("%s: is well again", subject)
    return Done(outcome)


def _remove(router_id: str, subject: str, word: str, reconciler: Reconciler, late: float) -> Done:
    outcome = reconciler.remove(router_id)
    if outcome.plan:
        LOG.info("%s: %s: %s; %s", subject, word, counts_text(outcome.plan), _times(outcome, late))
    else:
        LOG.debug("%s: %s: nothing there", subject, word)
    _details(outcome.plan)
    return Done(outcome)


@dataclass(frozen=True, slots=True)
class Swept:
    """What the stale sweep did.

    :ivar outcome: None if the guard held it back
    :ivar guard: the guard's words then, else empty
    """

    outcome: Outcome | None
    guard: str = ""


def sweep(reconciler: Reconciler, known: Collection[str], allow_mass_removal: bool, suspect: str = "") -> Swept:
    """Remove what belongs to no known router, unless that looks like a fault of the source.

    :param suspect: why the source's listing must not remove any router, however few; empty: their number decides
    :raises DvrError: the kernel refused; what is left is swept next time
    """
    with logs.job_context():
        stale, present = reconciler.planner.stale_routers(known)
        if stale and not allow_mass_removal and (suspect or is_mass_removal(len(stale), present)):
            return Swept(None, guard_text(len(stale), present, suspect))
        outcome = reconciler.remove_stale(known)
        if outcome.plan:
            of = f"{len(stale)} routers without document ({_some(sorted(stale))}): " if stale else ""
            LOG.info("left-overs removed: %s%s; %.1f ms", of, counts_text(outcome.plan), outcome.seconds * 1e3)
            _details(outcome.plan)
        return Swept(outcome)


def remove_bridges(reconciler: Reconciler, networks: Collection[str]) -> None:
    """Remove idle bridges of networks that no router document names.

    :param networks: those of all router documents
    :raises DvrError: the kernel refused
    """
    with logs.job_context():
        names = reconciler.remove_bridges(networks)
        if names:
            LOG.info("bridges removed, no router document names their networks: %s", ", ".join(names))


def guard_text(stale: int, present: int, suspect: str = "") -> str:
    why = f"{suspect}, which" if suspect else "removing so many"
    return (
        f"{stale} of {present} routers on this host have no document any more; {why} looks like a fault "
        "of the source, so nothing was removed. If it is right: restart with [dvr_agent] allow_mass_removal = true, "
        "or stop the agent and remove them by dvrctl cleanup"
    )


def subject_text(router_id: str, name: str) -> str:
    return f"router {router_id} ({logs.one_line(name)})" if name else f"router {router_id}"


def counts_text(plan: Plan) -> str:
    """``3 routes, 2 rules, 1 table``."""
    return ", ".join(f"{number} {_plural(kind, number)}" for kind, number in plan.counts().items()) or "nothing"


def _plural(kind: str, number: int) -> str:
    if number == 1:
        return kind
    return kind + ("es" if kind.endswith("s") else "s")


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")


def _times(outcome: Outcome, late: float) -> str:
    return f"{outcome.seconds * 1e3:.1f} ms, started {late * 1e3:.1f} ms after the event"


def _details(plan: Plan) -> None:
    if not LOG.isEnabledFor(logging.DEBUG):
        return
    for namespace, text in plan.ports:
        LOG.debug("%s: %s", namespace, text)
    for change in plan.services:
        LOG.debug("router %s: %s", change.router_id, change.text)
    for changes in plan.changes:
        if changes.create or changes.remove:
            LOG.debug("%s: %s namespace", changes.namespace, "+" if changes.create else "-")
        for item in changes.items:
            LOG.debug("%s: %s", changes.namespace, item.text)
        for table in changes.tables:
            LOG.debug("%s: ~ table %s of IPv%d", changes.namespace, table.new.name, table.new.family)


def started_late(since: float) -> float:
    return max(time.monotonic() - since, 0.0)
