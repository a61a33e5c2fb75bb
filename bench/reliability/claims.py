"""Measures that documents cannot take things from each other: all ways of claiming, on the real kernel.

For each way: the first router is built, the second document comes, the agent starts again with the documents in the
other order, the holder goes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.reliability.api import Figure, Options
from bench.reliability.processor_time import seconds_of
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.model.router import Router
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab, rival_documents
from tests.support.small_routers import EXTERNAL, HOST

_BRIDGE = "br-claims"
_ROUNDS = 200


def every_way(options: Options) -> Figure:
    """Let a second document claim what a router has, in every way that is known."""
    lab.Host().bridge(_BRIDGE)
    first = rival_documents.first()
    cases = list(rival_documents.CASES.items())[: 3 if options.quick else None]
    wrong = [f"{name}: {text}" for name, (second, _) in cases for text in _try(first, second)]
    return Figure(f"{len(cases)} ways, {len(wrong)} objects taken or left", not wrong, tuple(wrong))


def _try(first: Router, second: Router) -> Iterator[str]:
    """Yield what went wrong for one way."""
    with tempfile.TemporaryDirectory() as path:
        reconciler = _start(Path(path))
        reconciler.reconcile(first, document="a.json")
        if not reconciler.reconcile(second, document="b.json").plan.omitted:
            yield "nothing was left out"
        if reconciler.planner.plan(first):
            yield "the second document has changed the first router"
        reconciler.flush()
        reconciler = _start(Path(path))
        reconciler.begin_resync([("b.json", second), ("a.json", first)])
        for router in (second, first):
            if reconciler.reconcile(router, in_resync=True).plan:
                yield "something changes after a restart"
        if reconciler.remove(first.id).affected != (second.id,):
            yield "the second router is not told that the first has gone"
        if reconciler.reconcile(second).plan.omitted or reconciler.planner.plan(second):
            yield "the second router does not get what is free"
        reconciler.remove(second.id)
        if reconciler.kernel.namespaces.list():
            yield "namespaces are left"


def cost(options: Options) -> Figure:
    """Compare the register's part of a resync in which nothing changes with the whole."""
    lab.Host().bridge(_BRIDGE)
    first = rival_documents.first()
    with tempfile.TemporaryDirectory() as path:
        reconciler = _start(Path(path))
        reconciler.reconcile(first)
        rounds = _ROUNDS // 10 if options.quick else _ROUNDS
        whole = seconds_of(lambda: reconciler.reconcile(first, in_resync=True), rounds)
        part = seconds_of(lambda: _register(reconciler, first), rounds)
        reconciler.remove(first.id)
    return Figure(f"{100 * part / whole:.2f} % of the processor time of a resync", part < 0.02 * whole)


def _register(reconciler: RouterReconciler, router: Router) -> None:
    """Ask the register what a job on an unchanged document asks."""
    claims, settings = reconciler.memory.claims, HostSettings(HOST, AgentMode.DVR_SNAT)
    claims.declare_all([("a.json", router)], settings)
    claims.grant(router, settings, "a.json")
    claims.note_gateway(router.agent_gateways[0])
    claims.grant(router, settings)
    claims.is_granted(router.id)
    claims.take_affected(router.id)
    claims.take_rivals()


def _start(path: Path) -> RouterReconciler:
    os.makedirs("/run/netns", exist_ok=True)
    reconciler = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: _BRIDGE}, path)
    reconciler.load()
    return reconciler
