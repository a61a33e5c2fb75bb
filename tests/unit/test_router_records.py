"""Records of routers: frozen values that only their owner replaces."""

from __future__ import annotations

import dataclasses

import pytest

from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.router_records import HELD_BACK, RouterRecords
from dvr_agent.reconcile.api import Plan, Result


def test_nobody_else_can_change_a_record() -> None:
    records = RouterRecords()
    record = records.document_deleted("r1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.failures = 3  # type: ignore[misc]


def test_failures_add_up_until_a_success() -> None:
    records = RouterRecords()
    records.document_bad("r1", "bad")
    failed = JobResult(RouterState.DEGRADED, "no", retry=True)
    assert [records.job_failed("r1", failed).failures for _ in range(3)] == [1, 2, 3]
    records.job_ended("r1", JobResult(RouterState.IN_SYNC, reconciled=Result(Plan("router r1"), 0.0)))
    record = records.get("r1")
    assert record is not None
    assert (record.failures, record.reason) == (0, "")
    assert record.state is RouterState.BAD, "its document is bad still"
    assert records.states == {RouterState.BAD: 1}


def test_numbers_of_states_follow_the_records() -> None:
    records = RouterRecords()
    for router_id in ("r1", "r2", "r3"):
        records.document_bad(router_id, "bad")
    records.document_deleted("r1")
    records.job_failed("r1", JobResult(RouterState.DEGRADED, "no", retry=True))
    records.drop("r3")
    records.drop("nobody")
    counted = {record.state for record in records}
    assert records.states == {state: sum(one.state is state for one in records) for state in counted}
    for router_id in ("r1", "r2"):
        records.drop(router_id)
    assert records.states == {}


def test_exactly_the_named_routers_are_held_back() -> None:
    records = RouterRecords()
    for router_id in ("r1", "r2"):
        records.document_bad(router_id, "bad")
    for held_back in ({"r1"}, {"r2"}, set()):
        records.hold_back(held_back)
        assert {record.id for record in records if HELD_BACK in str(record.to_json(0.0)["reason"])} == held_back


def test_nothing_of_earlier_tries_is_left_when_the_document_is_deleted() -> None:
    records = RouterRecords()
    records.document_bad("r1", "bad")
    records.job_failed("r1", JobResult(RouterState.DEGRADED, "no", retry=True))
    records.hold_back({"r1"})
    records.set_retry("r1", 3.0)
    record = records.document_deleted("r1")
    assert (record.state, record.reason, record.bad, record.failures) == (RouterState.PENDING, "", "", 0)
    assert (record.retry_at, record.held_back, record.deleted, record.auditable) == (None, False, True, False)


def test_what_stops_traffic_is_news_for_the_first_router_and_over_with_the_last() -> None:
    """A bridge that is down concerns every router on it."""
    records, down, policy = RouterRecords(), "bridge br-ex is down", "namespace qrouter-r1: policy DROP"
    for router_id in ("r1", "r2", "r3"):
        records.document_bad(router_id, "")
    assert records.hindrances_found("r1", (down, policy)) == ([down, policy], [])
    assert records.hindrances_found("r1", (down, policy)) == ([], [])
    assert records.hindrances_found("r2", (down,)) == ([], [])
    assert records.hindrance == f"traffic may be stopped by others: {down} (and 1 more, see the log)"
    assert records.hindrances_found("r1", ()) == ([], [policy])
    assert records.hindrances_found("r2", ()) == ([], [down])
    assert records.hindrances_found("r3", (down,)) == ([down], []), "it is back"
    records.drop("r3")
    assert records.hindrance == ""
    assert records.hindrances_found("r1", (down,)) == ([down], [])
