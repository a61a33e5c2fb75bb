"""``dvrctl plan`` shows the changes that documents need; ``dvrctl apply`` makes them, without the daemon.

Both end in a :class:`Report`: sections for stdout, one line per error for stderr, all of it in one object with
``-o json``.  ``dvr_agent.reconcile`` plans and applies.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dvr_agent.cli.inputs import Documents, load_config, read_files, read_source
from dvr_agent.cli.output import BOLD, Output, complain
from dvr_agent.cli.own_changes import OwnChanges
from dvr_agent.cli.render import Renderer, Section, as_json, as_lines, counts_text, omitted_text
from dvr_agent.config import make_settings
from dvr_agent.daemon.job_result import RouterState
from dvr_agent.errors import DvrError, NotSupportedError, ServiceError, about
from dvr_agent.lock import AgentLock
from dvr_agent.model.router import Router
from dvr_agent.plural import part
from dvr_agent.reconcile.api import Plan, Reconciler, RefusedError, Result, RouterPlanner
from dvr_agent.reconcile.factory import open_planner, open_reconciler
from dvr_agent.reconcile.left_alone import find_left_alone, left_alone_text


@dataclass
class Report:
    """Collects plans, results and errors; text is printed at once, JSON at the end (:meth:`finish`).

    :ivar sections: rendered plans
    :ivar errors: (router or document, error)
    :ivar skipped: (router, reason)
    """

    out: Output
    renderer: Renderer = field(default_factory=Renderer)
    sections: list[Section] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def plan(
        self, plan: Plan, name: str = "", result: Result | None = None, document: str = "", outdated: str = ""
    ) -> None:
        """Report a plan, or the plan that a job has carried out.

        :param outdated: why the newest document of the router cannot be used; empty if the plan is about that document
        """
        section = self.renderer.section(plan, name, result, document)
        if outdated:
            section = replace(section, outdated=outdated)
        self._show(section)

    def outdated(self, router_id: str, reason: str) -> None:
        """Report a router without a good document: there is no plan for it."""
        self._show(Section(f"router {router_id}", "", (), (), (), outdated=reason))

    def _show(self, section: Section) -> None:
        self.sections.append(section)
        if not self.out.json:
            for number, line in enumerate(as_lines(section)):
                self.out.line(line, BOLD if number == 0 else "")

    def error(self, subject: str, error: DvrError) -> None:
        """Report an error, at once on stderr."""
        self.errors.append((subject, str(error)))
        complain(about(subject, error))

    def skip(self, subject: str, reason: str) -> None:
        """Report a router that this agent skips, which is no error."""
        self.skipped.append((subject, reason))
        if not self.out.json:
            self.out.line(f"{subject}: {reason}", BOLD)

    def warn(self, text: str) -> None:
        """Report a warning, at once on stderr."""
        self.warnings.append(text)
        complain(f"warning: {text}")

    @property
    def in_sync(self) -> bool:
        """True if nothing differs, and no object of a document is left out."""
        return all(section.in_sync for section in self.sections) and not self.omitted

    @property
    def omitted(self) -> int:
        """Number of objects of the documents that are left out."""
        return sum(len(section.omitted) for section in self.sections)

    def finish(self, verb: str) -> None:
        """Print the summary.

        :param verb: ``plan`` or ``apply``
        """
        total = sum((section.counts() for section in self.sections), Counter[str]())
        if not self.out.json:
            self.out.line(f"{verb}: {self._summary(total, verb == 'apply')}", BOLD)
            return
        self.out.document(
            {
                "in_sync": self.in_sync and not self.errors,
                "total": {"add": total["+"], "remove": total["-"], "change": total["~"]},
                "plans": [as_json(section) for section in self.sections],
                "skipped": [{"subject": subject, "reason": reason} for subject, reason in self.skipped],
                "warnings": self.warnings,
                "errors": [{"subject": subject, "error": error} for subject, error in self.errors],
            }
        )

    def _summary(self, total: Counter[str], done: bool) -> str:
        same = sum(section.in_sync for section in self.sections)
        changed = sum(section.differs for section in self.sections)
        parts = [
            (changed, ("changed" if done else "with changes") + f" ({counts_text(total, done)})"),
            (same, "in sync before" if done else "in sync"),
            (sum(bool(section.outdated) for section in self.sections), "without the newest document"),
            (len(self.skipped), "left alone"),
            (len(self.errors), "failed"),
        ]
        texts = [f"{number} {text}" for number, text in parts if number]
        if self.omitted:
            texts.append(omitted_text(self.omitted))
        return ", ".join(texts) or "no router documents"


def run_plan(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl plan``, which writes neither kernel nor files.

    :returns: 0: in sync; 1: something could not be read; 2: there are changes, objects of a document are left out, or a
        router keeps an older document
    """
    conf = load_config(args)
    documents = read_files(args.files, conf.dvr_agent.max_document_size) if args.files else read_source(conf)
    report = Report(out)
    planner = open_planner(make_settings(conf))
    planner.load()
    for trouble in planner.services.troubles:
        report.warn(trouble)
    alone = find_left_alone(planner, documents.good)
    if alone:
        report.warn(left_alone_text(alone))
    planner.declare(documents.good)
    _for_each(documents, report, lambda name, router: _plan_one(planner, name, router, report, documents.outdated))
    for router_id in sorted(documents.outdated.keys() - {router.id for _, router in documents.good}):
        report.outdated(router_id, documents.outdated[router_id])
    if not args.files:
        _plan_stale(planner, documents, report)
    report.finish("plan")
    if report.errors:
        return 1
    return 0 if report.in_sync else 2


def run_apply(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl apply``.

    Nothing is changed if routers would be left alone and ``--yes`` does not say that this is known.

    :returns: 0: done; 1: a router failed or was skipped, or objects of a document are left out
    """
    conf = load_config(args)
    documents = read_files(args.files, conf.dvr_agent.max_document_size)
    report = Report(out)
    with AgentLock(conf.state_path, conf.host):
        reconciler = open_reconciler(make_settings(conf))
        alone = find_left_alone(reconciler.planner, documents.good)
        if alone and not args.yes:
            report.warn(f"{left_alone_text(alone)}. Nothing was changed; --yes goes on with the other routers")
            report.finish("apply")
            return 1
        reconciler.load()
        reconciler.planner.declare(documents.good)
        affected: set[str] = set()
        own = OwnChanges(conf, "apply")

        def apply(name: str, router: Router) -> None:
            affected.update(_apply_one(reconciler, name, router, report, own))

        try:
            _for_each(documents, report, apply)
            again = tuple((name, router) for name, router in documents.good if router.id in affected)
            _for_each(replace(documents, good=again, bad=()), report, apply)
        finally:
            _flush(reconciler, report)
        for trouble in reconciler.services.troubles:
            report.warn(trouble)
    report.finish("apply")
    return 1 if report.errors or report.skipped or report.omitted else 0


def _for_each(documents: Documents, report: Report, job: Callable[[str, Router], object]) -> None:
    """Call ``job`` for one good document after the other; an error is reported and does not stop the others."""
    for bad in documents.bad:
        report.error(bad.document, bad)
    for name, router in documents.good:
        subject = f"router {router.id}"
        try:
            job(name, router)
        except NotSupportedError as exc:
            report.skip(subject, str(exc))
        except DvrError as exc:
            report.error(subject, exc)


def _plan_one(
    planner: RouterPlanner, document: str, router: Router, report: Report, outdated: Mapping[str, str]
) -> None:
    plan = planner.plan_remove(router.id) if _is_down(router, planner) else planner.plan(router)
    report.plan(plan, router.name, document=document, outdated=outdated.get(router.id, ""))


def _apply_one(
    reconciler: Reconciler, document: str, router: Router, report: Report, own: OwnChanges
) -> tuple[str, ...]:
    """Apply a document; returns the ids of other routers that get something now which this one had."""
    state = _state_of(router, reconciler.planner)
    try:
        result = _apply_now(reconciler, document, router)
    except RefusedError as exc:
        own.router(router.id, router.name, exc.result, RouterState.DEGRADED, str(exc))
        if exc.result.plan:
            report.plan(exc.result.plan, router.name, exc.result, document)
        raise
    reason = "; ".join((*result.trouble, *(f"left out: {omission}" for omission in result.plan.omitted)))
    own.router(router.id, router.name, result, RouterState.DEGRADED if reason else state, reason)
    report.plan(result.plan, router.name, result, document)
    for trouble in result.trouble:
        report.error(f"router {router.id}", ServiceError(trouble))
    return result.affected


def _apply_now(reconciler: Reconciler, document: str, router: Router) -> Result:
    if _is_down(router, reconciler.planner):
        return reconciler.remove(router.id)
    return reconciler.reconcile(router, document=document)


def _state_of(router: Router, planner: RouterPlanner) -> str:
    """Return the state of a router after its document is applied without fault, as in ``dvrctl status``."""
    if planner.has_left(router):
        return RouterState.REMOVED
    return RouterState.IN_SYNC if router.admin_state_up else RouterState.ADMIN_DOWN


def _flush(reconciler: Reconciler, report: Report) -> None:
    """Write the state files; an error is reported after the results of the routers."""
    try:
        reconciler.flush()
    except DvrError as exc:
        report.error("state files cannot be written", exc)


def _is_down(router: Router, planner: RouterPlanner) -> bool:
    """Return True for a router of which this host is to have nothing.

    It is administratively down and not left alone, or it has become one that is another host's.
    """
    return planner.has_left(router) or (not router.admin_state_up and not planner.why_left_alone(router))


def _plan_stale(planner: RouterPlanner, documents: Documents, report: Report) -> None:
    if not documents.complete:
        report.warn("stale objects are not judged: a bad document may be of any router")
        return
    plan = planner.plan_stale(documents.known)
    if plan:
        report.plan(plan)
    stale, present = planner.stale_routers(documents.known)
    if stale and documents.suspect:
        removed = part(len(stale), present, "router", "is", "are")
        report.warn(f"{documents.suspect}: {removed} removed only if that is confirmed")
