"""What the judge of events makes of events from the time of a job."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.kernel.drift_events import HOST, AnyEvent, Event, RuleSetChange
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.table_check import Difference
from dvr_agent.reconcile.trust import Trust
from dvr_agent.state.link import Link, Port
from tests.support.desired_state import desired
from tests.support.recorded_documents import load

ROUTER = load("b2_dvr_snat_node_with_vms", "compute1")


class Events:
    """These events, once."""

    heard, buffer_size = 0, 0

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        self._events = list(events)

    def read(self, _limit: int) -> tuple[list[AnyEvent], bool]:
        return self._events, False

    def listen(self, _name: str) -> bool:
        return True

    def hears_whole(self, _name: str) -> bool:
        return False


class Memory:
    """The desired state in force."""

    def __init__(self, state: DesiredRouter) -> None:
        self._state = state
        self.others: dict[str, DesiredRouter | None] = {}
        self.trust, self.distrusted = Trust(), list[str]()
        self.snapshot = SimpleNamespace(clear=lambda: None)

    def distrust(self, router_id: str, _namespaces: Sequence[str]) -> None:
        self.distrusted.append(router_id)

    def distrust_all(self) -> None:
        self.distrusted.append("all")

    def desired_of(self, router_id: str) -> DesiredRouter | None:
        return self.others.get(router_id, self._state)


@pytest.fixture
def state() -> DesiredRouter:
    return desired(ROUTER, "compute1")[1]


def findings(state: DesiredRouter, events: Sequence[Event], own: str = "") -> int:
    judge = DriftJudge(Events(events), Memory(state), None, None)  # type: ignore[arg-type]
    return len(judge.judge(own).findings)


def csnat(state: DesiredRouter) -> Link:
    assert state.snat is not None
    return next(link for link in state.snat.links if link.name.startswith("sg-"))


def event(state: DesiredRouter, link: Link, present: bool = True) -> Event:
    assert state.snat is not None
    return Event(state.snat.name, link, present, 0)


def test_states_in_between_are_no_drift_in_the_time_of_a_job(state: DesiredRouter) -> None:
    link = csnat(state)
    events = [event(state, link._replace(up=False)), event(state, link)]
    assert findings(state, events, own=ROUTER.id) == 0
    assert findings(state, events[:1], own=ROUTER.id) == 1


def test_a_link_that_was_gone_in_the_time_of_a_job_is_checked_once_more(state: DesiredRouter) -> None:
    """It was renamed after the job had read it: the port that the job made in its place lacks the addresses."""
    link = csnat(state)
    assert findings(state, [event(state, link, present=False), event(state, link)], own=ROUTER.id) == 1


class Attach:
    """Every outer side has a fault."""

    def check(self, ports: Sequence[Port]) -> dict[str, str]:
        return {port.device: "down" for port in ports}


def tap_down(state: DesiredRouter) -> Event:
    """The outer side of a csnat port is down."""
    port = csnat(state).origin
    assert isinstance(port, Port)
    return Event(HOST, Link(tap_name(port.port_id), "", 1500, False), True, 0)


def test_a_router_that_a_stale_sweep_has_removed_is_forgotten(state: DesiredRouter) -> None:
    memory = Memory(state)
    judge = DriftJudge(Events([tap_down(state)]), memory, Attach(), None)  # type: ignore[arg-type]
    judge.job_ended(ROUTER.id)
    assert [finding.router_id for finding in judge.judge().findings] == [ROUTER.id]
    memory.others[ROUTER.id] = None
    judge.forget_gone()
    assert not judge.judge().findings
    assert (judge._ports, judge._bridges, judge._known, judge._stems) == ({}, {}, {}, {})


def test_a_port_that_another_router_has_by_now_is_not_forgotten(state: DesiredRouter) -> None:
    memory = Memory(state)
    judge = DriftJudge(Events([tap_down(state)]), memory, Attach(), None)  # type: ignore[arg-type]
    judge.job_ended(ROUTER.id)
    judge.job_ended("other")
    memory.others[ROUTER.id] = None
    judge.job_ended(ROUTER.id)
    assert [finding.router_id for finding in judge.judge().findings] == ["other"]


class Tables:
    """A table of each namespace is not as desired."""

    def __init__(self) -> None:
        self.checked: list[str] = []

    def differences(self, namespace: str, _router_ids: Sequence[str]) -> list[Difference]:
        self.checked.append(namespace)
        return [Difference((namespace, "table"), f"{namespace}: a table")]


@pytest.mark.parametrize(
    ("programs", "text"),
    [(["nft"], "nft (process 7)"), (["nft", "nft"], "nft"), (["nft", "iptables-nft"], "iptables-nft or nft")],
)
def test_a_namespace_is_read_once_however_often_nf_tables_were_changed(
    state: DesiredRouter, programs: list[str], text: str
) -> None:
    name, tables = state.qrouter.name, Tables()
    events = [RuleSetChange(name, 7 + pid, program) for pid, program in enumerate(programs) for _ in range(100)]
    judge = DriftJudge(Events([*events, RuleSetChange("others", 1, "nft")]), Memory(state), None, tables)  # type: ignore[arg-type]
    (finding,) = (one for one in judge.judge().findings if one.router_id == ROUTER.id)
    assert (finding.thing, finding.author.text) == ((name, "table"), text)
    assert tables.checked.count(name) == 1
