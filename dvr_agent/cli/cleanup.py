"""``dvrctl cleanup``: removes objects of ours: those of one router, of routers without a document, or all."""

from __future__ import annotations

import argparse
import contextlib
import sys
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from oslo_config import cfg

from dvr_agent import stale_files
from dvr_agent.cli.inputs import load_config, read_source
from dvr_agent.cli.output import Output, complain
from dvr_agent.cli.own_changes import OwnChanges
from dvr_agent.cli.render import Renderer, as_json, as_lines
from dvr_agent.config import make_settings
from dvr_agent.daemon.job_result import RouterState
from dvr_agent.errors import DvrError, SourceError
from dvr_agent.lock import AgentLock
from dvr_agent.mass_removal import is_mass_removal
from dvr_agent.plural import part
from dvr_agent.reconcile.api import Plan, Reconciler, RefusedError, Result, RouterPlanner
from dvr_agent.reconcile.factory import open_planner, open_reconciler
from dvr_agent.reconcile.history_entries import bridge_groups
from dvr_agent.reconcile.plan_lines import plan_groups

EVERYTHING = "everything of dvr-agent"


class Extras(NamedTuple):
    """Bridges and files that are removed beside the plan, or would be.

    :ivar bridges: names of bridges that nothing uses
    :ivar files: paths of stale temporary files of killed processes
    :ivar planned: True if they would be removed (``--dry-run``)
    """

    bridges: list[str]
    files: list[str]
    planned: bool


class Choice(NamedTuple):
    """What the command line asks for.

    :ivar carry_out: carries the plan out
    :ivar question: to the operator; empty: none
    :ivar routers: ids of the routers that are removed
    :ivar networks: networks whose idle bridges stay; None: bridges and files are not cleaned up
    """

    plan: Plan
    carry_out: Callable[[Reconciler], Result]
    question: str
    routers: Collection[str]
    networks: Collection[str] | None


class CleanupError(DvrError):
    """The cleanup was refused, by dvrctl or by the operator."""


def router_id(text: str) -> str:
    """Return a router id in canonical form, for argparse."""
    return str(uuid.UUID(text))


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl cleanup``.

    :returns: 0: done, or nothing to do (or ``--dry-run``); 1: refused or failed
    """
    conf = load_config(args)
    settings = make_settings(conf)
    lock = contextlib.nullcontext() if args.dry_run else AgentLock(conf.state_path, conf.host)
    with lock:
        reconciler = None if args.dry_run else open_reconciler(settings)
        planner: RouterPlanner = open_planner(settings) if reconciler is None else reconciler.planner
        planner.load()
        choice = _choose(args, conf, planner)
        plan, networks, own = choice.plan, choice.networks, OwnChanges(conf, "cleanup")
        result: Result | None = None
        bridges: list[str] = []
        files: list[str] = []
        trouble = ""
        asked = bool(choice.question) and not args.yes
        if plan and reconciler is not None:
            if asked:
                _confirm(choice.question, plan, out)
            try:
                result, trouble = _carried_out(choice, reconciler, own)
            finally:
                trouble = _flush(reconciler) or trouble
        if networks is not None:
            if reconciler is None:
                bridges, files = planner.idle_bridges(networks, plan), stale_files.find(settings)
            else:
                bridges = reconciler.remove_bridges(networks, await_teardown=True)
                own.by_router(bridge_groups(bridges) if bridges else (), [])
                files = stale_files.remove(settings)
    _show(out, plan, result, Extras(bridges, files, args.dry_run), brief=asked and result is not None)
    return 1 if trouble else 0


def _carried_out(choice: Choice, reconciler: Reconciler, own: OwnChanges) -> tuple[Result, str]:
    """Return what was removed, and what was refused: everything else is removed, and printed, nevertheless."""
    trouble = ""
    try:
        result = choice.carry_out(reconciler)
    except RefusedError as exc:
        complain(f"error: {exc}")
        result, trouble = exc.result, str(exc)
    removed = set(choice.routers) - result.staying
    own.by_router(plan_groups(result.plan)[0], removed, RouterState.REMOVED)
    return result, trouble


def _flush(reconciler: Reconciler) -> str:
    """Write the state files; returns the error, if any: the removed objects are printed nevertheless."""
    try:
        reconciler.flush()
    except DvrError as exc:
        complain(f"error: state files cannot be written: {exc}")
        return str(exc)
    return ""


def _choose(args: argparse.Namespace, conf: cfg.ConfigOpts, planner: RouterPlanner) -> Choice:
    """Choose what the command line asks for."""
    if args.router:
        plan = planner.plan_remove(args.router)
        return Choice(plan, lambda reconciler: reconciler.remove(args.router), "", [args.router], None)
    if args.all:
        stale, present = planner.stale_routers(())
        question = f"Remove everything of dvr-agent on this host (routers: {present})?"
        plan = replace(planner.plan_stale(()), subject=EVERYTHING)
        return Choice(plan, lambda reconciler: reconciler.remove_stale(()), question, stale, ())
    documents = read_source(conf)
    if not documents.complete:
        raise SourceError("stale objects cannot be judged: a bad document may be of any router (see dvrctl check)")
    stale, present = planner.stale_routers(documents.known)
    question = ""
    if stale and (documents.suspect or is_mass_removal(len(stale), present)):
        why = f" ({documents.suspect})" if documents.suspect else ""
        question = f"{part(len(stale), present, 'router', 'has', 'have')} no document{why}. Remove them?"
    networks = {network_id for _, router in documents.good for network_id in router.networks}
    for _, router in documents.good:
        with contextlib.suppress(DvrError):  # the devices of a router that cannot be read count as used
            planner.learn(router)
    plan = planner.plan_stale(documents.known)
    return Choice(plan, lambda reconciler: reconciler.remove_stale(documents.known), question, stale, networks)


def _confirm(question: str, plan: Plan, out: Output) -> None:
    """Ask the operator for permission.

    :raises CleanupError: the answer is no, or standard input is no terminal
    """
    if not sys.stdin.isatty():
        raise CleanupError(f"{question} Standard input is no terminal: use --yes")
    if not out.json:
        for line in as_lines(Renderer().section(plan)):
            out.line(line)
        out.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CleanupError("nothing was removed")


def _show(out: Output, plan: Plan, result: Result | None, extras: Extras, brief: bool) -> None:
    """Print the result, or the plan.

    :param brief: print one line only, since the plan was printed before the question
    """
    done = replace(result.plan, subject=plan.subject) if result else plan
    section = Renderer().section(done, result=result)
    if out.json:
        lists = {"bridges": extras.bridges, "files": extras.files}
        out.document({"done": result is not None, **lists, **as_json(section)})
    elif not plan and not extras.bridges and not extras.files:
        out.line(f"{plan.subject}: nothing to remove")
    else:
        lines = list(as_lines(section))
        for line in lines[:1] if brief else lines:
            out.line(line)
        verb = "to remove" if extras.planned else "removed"
        for what, names in (("bridges", extras.bridges), ("temporary files", extras.files)):
            if names:
                out.line(f"{what} {verb}: {', '.join(names)}")
