"""Which jobs become entries of the history, and what an entry has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.daemon.history import History
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.jobs import RemoveRouter, UpdateRouter
from dvr_agent.daemon.work_queue import Priority
from dvr_agent.history.writer import HistoryWriter
from dvr_agent.kernel.port_owner import Author
from dvr_agent.reconcile.api import Plan, Result
from dvr_agent.reconcile.drift import Finding
from dvr_agent.reconcile.history_entries import LINES, bridge_groups
from dvr_agent.reconcile.plan_lines import Group, Line
from dvr_agent.sources.api import Document
from tests.support.small_routers import make_router

ROUTER = make_router("one", 1)
WORK = UpdateRouter(Document("one", ROUTER, b""))
QROUTER = f"qrouter-{ROUTER.id}"
CHANGES = (Group(QROUTER, "~", (Line("~", "link", "link qr-1 mtu 1400", "link qr-1 mtu 1500"),)),)
IN_SYNC, DEGRADED = JobResult(RouterState.IN_SYNC), JobResult(RouterState.DEGRADED, "refused", retry=True)


class Kept:
    """A history without its thread."""

    def __init__(self, path: Path) -> None:
        self.history = History(HistoryWriter(path / "history.jsonl", 100, 1 << 20))
        self.history.starting = False

    def end(self, result: JobResult, priority: Priority = Priority.RETRY, *found: Finding) -> None:
        self.history.router_job_ended(WORK, priority, result, found)

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(one.text) for one in self.history.writer.ring.select()]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def changed(**fields: Any) -> JobResult:
    return JobResult(RouterState.IN_SYNC, changes=CHANGES, seconds=0.0123, request_id="req-1", **fields)


def test_an_entry_has_all_that_an_operator_asks_for(kept: Kept) -> None:
    finding = Finding(ROUTER.id, "thing", f"{QROUTER}: link qr-1 gone", Author(4711, "ip", "zebra"))
    kept.end(changed(), Priority.DRIFT, finding, Finding(ROUTER.id, "other", "something"))
    (entry,) = kept.entries
    assert entry.pop("time") > 1e9
    change = {"action": "~", "kind": "link", "text": "link qr-1 mtu 1400", "was": "link qr-1 mtu 1500"}
    assert entry == {
        "seq": 1,
        "router": ROUTER.id,
        "name": ROUTER.name,
        "job": "drift",
        "request_id": "req-1",
        "namespaces": [{"name": QROUTER, "action": "~", "changes": [change]}],
        "milliseconds": 12.3,
        "state": "in sync",
        "reason": "",
        "by": [
            {"text": f"{QROUTER}: link qr-1 gone", "pid": 4711, "program": "ip", "protocol": "zebra"},
            {"text": "something", "pid": None, "program": None, "protocol": None},
        ],
    }


@pytest.mark.parametrize(
    ("starting", "priority", "job"),
    [
        (True, Priority.RESYNC, "start"),
        (True, Priority.EVENT, "start"),
        (True, Priority.RETRY, "retry"),
        (False, Priority.RESYNC, "resync"),
        (False, Priority.EVENT, "update"),
        (False, Priority.AUDIT, "drift"),
    ],
)
def test_the_kind_of_job_is_told(kept: Kept, starting: bool, priority: Priority, job: str) -> None:
    kept.history.starting = starting
    kept.end(changed(), priority)
    assert kept.entries[0]["job"] == job


def test_a_job_that_changes_nothing_is_no_entry_but_a_change_of_the_state_is_one(kept: Kept) -> None:
    for result in (IN_SYNC, IN_SYNC, DEGRADED, DEGRADED, IN_SYNC, IN_SYNC):
        kept.end(result)
    assert [entry["state"] for entry in kept.entries] == ["degraded", "in sync"]


def test_a_router_that_is_left_alone_is_no_news_at_each_start(kept: Kept) -> None:
    kept.end(JobResult(RouterState.NOT_SUPPORTED, "of another host"))
    assert kept.entries == []


def test_mastership_is_kept_when_it_changes(kept: Kept) -> None:
    for is_master in (True, True, False, None):
        kept.end(JobResult(RouterState.IN_SYNC, reconciled=Result(Plan("router"), 0.0, is_master=is_master)))
    assert [entry.get("vrrp") for entry in kept.entries] == ["backup", None]


def test_what_a_failed_job_has_changed_is_kept(kept: Kept) -> None:
    kept.end(JobResult(RouterState.DEGRADED, "refused", retry=True, changes=CHANGES))
    (entry,) = kept.entries
    assert (entry["state"], entry["reason"], len(entry["namespaces"])) == ("degraded", "refused", 1)


def test_an_explicit_removal_is_told_apart(kept: Kept) -> None:
    work = RemoveRouter(ROUTER.id, "web")
    gone = JobResult(RouterState.REMOVED, changes=(Group(QROUTER, "-", ()),))
    kept.history.router_job_ended(work, Priority.EVENT, gone, ())
    kept.history.router_job_ended(work, Priority.EVENT, JobResult(RouterState.REMOVED), ())
    (entry,) = kept.entries
    assert (entry["job"], entry["state"], entry["name"]) == ("removal", "removed", "web")


def test_a_sweep_is_an_entry_for_each_router_and_one_for_the_host(kept: Kept) -> None:
    shared = Group("fip-00000000-0000-4000-8000-00000000000f", "~", (Line("-", "rule", "rule"),))
    groups = (Group(QROUTER, "-", ()), Group(f"snat-{ROUTER.id}", "-", ()), shared)
    kept.history.removed("sweep", "req-2", groups, {ROUTER.id: "web"})
    kept.history.removed("bridges", "req-3", bridge_groups(["brq1"]), {})
    of_router, of_host, bridges = kept.entries
    assert [group["name"] for group in of_router["namespaces"]] == [QROUTER, f"snat-{ROUTER.id}"]
    assert (of_router["router"], of_router["name"], of_host["router"]) == (ROUTER.id, "web", None)
    assert bridges["namespaces"][0]["changes"][0]["text"] == "bridge brq1"


def test_an_entry_has_a_bounded_number_of_lines(kept: Kept) -> None:
    lines = tuple(Line("+", "neighbour", f"neighbour {number}") for number in range(LINES + 7))
    kept.end(JobResult(RouterState.IN_SYNC, changes=(Group(QROUTER, "~", lines),)))
    (entry,) = kept.entries
    assert [len(group["changes"]) for group in entry["namespaces"]] == [LINES, 1]
    assert entry["namespaces"][1]["changes"][0]["text"] == "and 7 more"
