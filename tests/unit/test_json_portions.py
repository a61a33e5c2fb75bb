"""Long answers of the admin socket: the same JSON, and the hub goes on while it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.daemon import eventlet_shim, json_portions
from dvr_agent.daemon.http_application import HttpApplication
from dvr_agent.daemon.http_resources import Answer, Resource, ResourceTable
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.router_records import RouterRecords

LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@given(VALUES)
def test_the_text_is_that_of_json_dumps(value: object) -> None:
    assert "".join(json_portions.pieces(value)) == json.dumps(value)


@given(st.lists(VALUES, max_size=150))
def test_an_iterator_is_a_list(values: list[object]) -> None:
    assert json_portions.encode({"all": iter(values)}) == json.dumps({"all": values}).encode()


def records(number: int) -> RouterRecords:
    found = RouterRecords()
    for one in range(number):
        found.job_failed(f"{one:08x}", JobResult(RouterState.DEGRADED, "refused", retry=True))
    return found


def status(found: RouterRecords) -> Iterator[dict[str, object]]:
    snapshot = list(found)
    return (record.to_json(0.0) for record in snapshot)


def test_the_hub_goes_on_while_the_status_of_many_routers_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_portions, "TURN", 0.0)
    routers = records(2000)
    resource = Resource("/status", lambda request: Answer("200 OK", {"routers": status(routers)}))
    application = HttpApplication("test", ResourceTable([resource]))
    turns: list[int] = []
    ended = False

    def others() -> None:
        while not ended:
            turns.append(len(turns))
            routers.drop(f"{len(turns):08x}")
            eventlet_shim.sleep(0)

    eventlet_shim.spawn(others)
    answer: list[Any] = []
    data = application({"REQUEST_METHOD": "GET", "PATH_INFO": "/status"}, lambda *head: answer.append(head))
    ended = True
    assert answer[0][0] == "200 OK"
    assert len(turns) >= 2000 // json_portions.PORTION
    assert len(json.loads(b"".join(data))["routers"]) == 2000, "all are of one moment"
