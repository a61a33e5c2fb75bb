"""Has the planner compare documents and kernel for one router, and takes from its plan what the checks judge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dvr_agent.cli.why.facts import PlanFacts
from dvr_agent.errors import DvrError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.planner import Planner, RouterJob
from dvr_agent.state.link import Port
from dvr_agent.state.namespace import NamespaceState


def read_plan(planner: Planner, router: Router, document: str) -> PlanFacts:
    """Plan one router, after all documents were declared; an error is part of the result."""
    if not router.admin_state_up:
        return PlanFacts(error="the router is administratively down")
    try:
        job = planner.plan_router(router, document=document)
        obstacles = planner.obstacles(job)
    except DvrError as exc:
        return PlanFacts(error=str(exc))
    try:
        host_hindrances = planner.host_hindrances()
    except DvrError as exc:
        host_hindrances = (f"what stops traffic on the host could not be read: {exc}",)
    faults = {port.device: fault for one in job.jobs for port, fault in one.repair} | obstacles
    return replace(_facts(job), ports=faults, host_hindrances=host_hindrances, service_troubles=_troubles(planner))


def _troubles(planner: Planner) -> tuple[str, ...]:
    return tuple(planner.services.troubles)


def _facts(job: RouterJob) -> PlanFacts:
    plan, draft = job.plan, job.draft
    state = draft.state
    base = draft.shared.state if draft.shared is not None else state.base
    states = [one for one in (state.qrouter, base, state.slice, state.snat) if one is not None]
    return PlanFacts(
        view=draft.view,
        desired=_by_namespace(states),
        changes=plan.changes,
        plugged=tuple(link.origin for one in states for link in one.links if isinstance(link.origin, Port)),
        services=tuple((one.service, one.text) for one in plan.services),
        omitted=plan.omitted,
        warnings=plan.warnings,
        hindrances=plan.hindrances,
        is_master=draft.allocated.is_master if draft.place.state is not None else None,
    )


def _by_namespace(states: Iterable[NamespaceState]) -> dict[str, tuple[NamespaceState, ...]]:
    found: dict[str, tuple[NamespaceState, ...]] = {}
    for state in states:
        found[state.name] = (*found.get(state.name, ()), state)
    return found
