"""No packet of a floating IP is stopped by something of which ``show fips`` says nothing.

Each object that the desired state has is removed on its own; where a ping by the floating IP then fails, the floating
IP's part of the plan must name the object.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dvr_agent.cli.render import Renderer
from dvr_agent.model.parse import parse_document
from dvr_agent.reconcile.floating_ip_plan import floating_ip_plan
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import Table
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.state.sysctl import Sysctl
from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import PUBLIC, World

RED = Network("red", ("10.1.0.0/24",))
LOCAL, CENTRAL = "203.0.113.51", "203.0.113.60"


@pytest.fixture
def router(world: World) -> RouterDocument:
    cloud = world.cloud
    one, other = cloud.vm("one", RED, "10.1.0.11"), cloud.vm("other", RED, "10.1.0.12", host="")
    made = cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10")
    made.floating_ip(LOCAL, one).floating_ip(CENTRAL, other, central=True)
    world.apply(made)
    world.boot(one, other)
    world.settle()
    return made


def told(world: World, document: RouterDocument) -> dict[str, list[str]]:
    """Floating IP → the lines of its part of the plan."""
    router = parse_document(document.raw(), document.name)
    job = world.reconciler.planner.plan_router(router)
    sections = {str(fip.address): Renderer().section(floating_ip_plan(job, fip)) for fip in router.floating_ips}
    return {
        address: [line.full for group in section.groups for line in group.lines]
        for address, section in sections.items()
    }


def faults(states: list[NamespaceState]) -> Iterator[tuple[str, KernelObject | Table, Change | None]]:
    """Yield (namespace, object that goes, the change): links go down, parameters are switched, tables are emptied."""
    for state in states:
        for kind in KINDS:
            for item in sorted(state.of_kind(kind), key=str):
                if isinstance(item, Link):
                    yield state.name, item, Change(Action.CHANGE, item._replace(up=False), item)
                elif isinstance(item, Sysctl):
                    yield state.name, item, Change(Action.CHANGE, item._replace(value="0"), item)
                else:
                    yield state.name, item, Change(Action.REMOVE, item, item)
        for table in state.tables:
            if table.chains:
                yield state.name, table, None


@pytest.mark.full
def test_whatever_stops_a_floating_ip_is_told_of_it(world: World, router: RouterDocument) -> None:
    kernel = world.reconciler.kernel
    state = world.reconciler.planner.plan_router(parse_document(router.raw(), router.name)).draft.state
    states = [one for one in (state.qrouter, state.base, state.slice, state.snat) if one is not None]
    assert all(lab.ping("internet", address) for address in (LOCAL, CENTRAL))
    assert told(world, router) == {LOCAL: [], CENTRAL: []}
    stopped = []
    for namespace, item, change in faults(states):
        if change is not None:
            kernel.interfaces.apply(namespace, [change])
        elif isinstance(item, Table):
            with kernel.packet_filter.defer_apply() as pending:
                pending.replace(namespace, make_table(item.family, item.name, {}))
        lines = told(world, router)
        for address in (LOCAL, CENTRAL):
            if lab.ping("internet", address, timeout=1):
                continue
            stopped.append((address, item.text))
            # A slow machine may have lost the first ping.
            assert lines[address] or lab.ping("internet", address), f"{item.text} stops {address}, and nothing is told"
        world.apply(router)
        assert told(world, router) == {LOCAL: [], CENTRAL: []}
        world.settle()
    assert {address for address, _ in stopped} == {LOCAL, CENTRAL}
    assert len(stopped) > 15
