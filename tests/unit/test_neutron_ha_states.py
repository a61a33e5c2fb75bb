"""Which VRRP states of HA routers are sent to neutron-server, and when."""

from __future__ import annotations

from dataclasses import replace

from dvr_agent.model.router import Router
from dvr_agent.sources.api import DataPlane, JobReport
from dvr_agent.sources.neutron.report.ha_states import HaStates
from tests.support.recorded_documents import load_features

INTERVAL = 2.0
ROUTER = load_features("q2_ha_dvr_pair", "compute1")


def known_as(state: str | None) -> Router:
    """Return the router of a document in which the server says this of the host."""
    assert ROUTER.ha_interface is not None
    return replace(ROUTER, ha_interface=replace(ROUTER.ha_interface, state=state))


def report(router: Router, is_master: bool | None, data_plane: DataPlane = DataPlane.IN_PLACE) -> JobReport:
    return JobReport(router.id, data_plane, router, is_master=is_master)


def test_active_is_sent_after_it_has_held_for_an_interval_and_standby_at_once() -> None:
    states, router = HaStates(INTERVAL), known_as("standby")
    states.job_ended(report(router, False), 0.0)
    assert states.next_time() is None
    states.job_ended(report(router, True), 10.0)
    assert not states.due(11.9)
    assert states.next_time() == 12.0
    assert states.due(12.0) == {router.id: "active"}
    states.sent({router.id: "active"})
    assert not states.due(100.0)
    states.job_ended(report(router, False), 100.0)
    assert states.due(100.0) == {router.id: "standby"}


def test_a_master_for_less_than_an_interval_is_not_told() -> None:
    states, router = HaStates(INTERVAL), known_as("standby")
    states.job_ended(report(router, True), 0.0)
    states.job_ended(report(router, False), 1.0)
    assert states.next_time() is None


def test_a_router_of_which_the_server_knows_nothing_is_told_to_be_standby() -> None:
    states = HaStates(INTERVAL)
    states.job_ended(report(known_as("unknown"), False), 0.0)
    assert states.due(0.0) == {ROUTER.id: "standby"}


def test_a_start_on_the_active_host_tells_nothing() -> None:
    states = HaStates(INTERVAL)
    states.job_ended(report(known_as("active"), True), 0.0)
    assert states.next_time() is None


def test_a_document_that_says_something_else_has_the_state_sent_again() -> None:
    states, router = HaStates(INTERVAL), known_as("active")
    states.job_ended(report(router, True), 0.0)
    states.job_ended(report(known_as("standby"), True), 50.0)
    assert states.due(50.0) == {router.id: "active"}


def test_a_router_that_is_gone_or_takes_no_part_any_more_is_forgotten() -> None:
    states = HaStates(INTERVAL)
    states.job_ended(report(known_as("unknown"), False), 0.0)
    states.job_ended(report(ROUTER, None, DataPlane.FAILED), 1.0)
    assert states.due(1.0)
    states.job_ended(report(ROUTER, None), 1.0)
    assert states.next_time() is None
