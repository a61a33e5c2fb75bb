"""What every method has to make: the desired states of the agent's own planner, with the allocations it would make.

So the floor and the commands make the same objects as the agent by construction, and :mod:`.same` proves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.documents import FIPS, HOST, OTHER_HOST, PORTS, document
from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.state.namespace import NamespaceState


def settings(mode: str) -> HostSettings:
    return HostSettings(HOST, AgentMode(mode))


def gateway_host(mode: str) -> str:
    """In mode ``dvr_snat`` the bench is about the host that has the SNAT."""
    return HOST if mode == AgentMode.DVR_SNAT.value else OTHER_HOST


def raw_documents(mode: str, count: int, fips: int = FIPS, ports: int = PORTS) -> list[bytes]:
    host = gateway_host(mode)
    return [document(number, host, fips, ports) for number in range(count)]


def parse(documents: Sequence[bytes]) -> list[Router]:
    return [parse_document(raw, f"router {number}") for number, raw in enumerate(documents)]


def namespaces(mode: str, routers: Sequence[Router]) -> Iterator[list[NamespaceState]]:
    """Per router its parts, in the order in which they are made; the shared part comes with the first router."""
    allocations = Allocations(Path("/nonexistent"))
    allocations.load({}, (), ())
    known: set[str] = set()
    for router in routers:
        view = make_view(router, settings(mode))
        state = desired_router(view, allocations.allocate(view))
        parts = [state.base, state.qrouter, state.slice, state.snat]
        found = [part for part in parts if part is not None]
        if state.base is not None:
            found = [part for part in found if part is not state.base or part.name not in known]
            known.add(state.base.name)
        yield found
