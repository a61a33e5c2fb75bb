"""What open pages are sent: everything first, then what changed, and everything again to a page that was too slow."""

from __future__ import annotations

import json
from typing import Any

from dvr_agent.web.application import Application
from dvr_agent.web.live import QUEUE, SUBSCRIBERS, Live, Subscriber
from dvr_agent.web.wire import Kind, QuestionError


class Daemon:
    """Answers like ``dvrctl web``; an answer that is an error is raised."""

    def __init__(self) -> None:
        self.host: dict[str, Any] = {"pid": 1, "state": "in sync", "troubles": []}
        self.routers: list[dict[str, Any]] = [router("a")]
        self.entries: list[dict[str, Any]] = []
        self.errors: dict[str, QuestionError] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, question: str, **argument: Any) -> Any:
        self.asked.append((question, argument))
        if question in self.errors:
            raise self.errors[question]
        if question == "status":
            return {**self.host, "routers": self.routers}
        if question == "history":
            after = argument.get("after", 0)
            return {"entries": [one for one in self.entries if one["seq"] > after], "last": len(self.entries)}
        return {"version": "1", "routers": {}} if argument["version"] is None else {"version": "1"}


def router(name: str, state: str = "in sync", **more: Any) -> dict[str, Any]:
    return {"id": name, "name": name, "state": state, "reason": "", "next_retry": None, **more}


def sent(page: Subscriber | None) -> list[tuple[str, Any]]:
    assert page is not None
    found = []
    while not page.messages.empty():
        event, text = page.messages.get()
        found.append((event, json.loads(text)))
    return found


def named(page: Subscriber | None, event: str) -> list[Any]:
    return [value for name, value in sent(page) if name == event]


def test_a_page_gets_everything_then_changes_only() -> None:
    daemon = Daemon()
    live = Live(daemon.ask)
    page = live.subscribe()
    live.poll()
    assert named(page, "status") == [{"host": daemon.host, "routers": [router_shown("a")]}]
    live.poll()
    assert sent(page) == []
    daemon.routers = [router("a"), router("b", "degraded", reason="refused", next_retry=4.0)]
    live.poll()
    messages = dict(sent(page))
    assert [one["id"] for one in messages["delta"]["routers"]] == ["b"]
    assert messages["delta"]["host"] is None
    assert messages["events"][0]["text"] == "new here: degraded: refused"
    daemon.routers = [router("b", "degraded", reason="refused", next_retry=3.0)]
    live.poll()
    messages = dict(sent(page))
    assert messages["delta"] == {"host": None, "routers": [], "gone": ["a"]}  # a retry that comes nearer is no change
    assert dict(sent(live.subscribe()))["events"][-1]["text"] == "removed"


def router_shown(name: str) -> dict[str, Any]:
    shown = {**router(name), "retry_at": None}
    del shown["next_retry"]
    return shown


def test_an_outage_is_told_once_and_ends_with_everything() -> None:
    daemon = Daemon()
    live = Live(daemon.ask)
    page = live.subscribe()
    live.poll()
    sent(page)
    daemon.errors["status"] = QuestionError(Kind.UNREACHABLE, "dvr-agent is not reachable")
    live.poll()
    live.poll()
    assert sent(page) == [("down", {"kind": "unreachable", "error": "dvr-agent is not reachable"})]
    assert ("down", {"kind": "unreachable", "error": "dvr-agent is not reachable"}) in sent(live.subscribe())
    del daemon.errors["status"]
    daemon.host["pid"] = 2
    live.poll()
    messages = dict(sent(page))
    assert messages["status"]["host"]["pid"] == 2
    assert "started again" in messages["events"][0]["text"]


def test_changes_that_were_made_come_once() -> None:
    daemon = Daemon()
    daemon.entries = [
        {"seq": 1, "time": 5.0, "router": "a", "name": "a", "job": "drift", "namespaces": [], "reason": "x"}
    ]
    live = Live(daemon.ask)
    page = live.subscribe()
    live.poll()
    assert [[one["kind"] for one in value] for value in named(page, "events") if value] == [["drift"]]
    live.poll()
    assert named(page, "events") == []
    assert daemon.asked[-1] == ("history", {"limit": 200, "after": 1})


def test_a_daemon_without_history_is_not_asked_again_until_it_is_another() -> None:
    daemon = Daemon()
    daemon.errors["history"] = QuestionError(Kind.MISSING, "no /history")
    live = Live(daemon.ask)
    live.subscribe()
    live.poll()
    live.poll()
    assert [question for question, _ in daemon.asked].count("history") == 1
    daemon.host["pid"] = 2
    live.poll()
    assert [question for question, _ in daemon.asked].count("history") == 2


def test_a_page_that_is_too_slow_gets_everything_again() -> None:
    daemon = Daemon()
    live = Live(daemon.ask)
    page = live.subscribe()
    for number in range(QUEUE + 10):
        daemon.routers = [router(f"r{number}")]
        live.poll()
    assert page is not None
    assert page.messages.qsize() <= QUEUE
    sent(page)
    daemon.routers = [router("last")]
    page.behind = True
    live.poll()
    last = named(page, "status")[-1]
    assert [one["id"] for one in last["routers"]] == ["last"]
    assert not page.behind


def test_the_index_is_sent_when_it_changes() -> None:
    daemon = Daemon()
    live = Live(daemon.ask)
    page = live.subscribe()
    live.poll_index()
    live.poll_index()
    assert named(page, "index") == [{"version": "1", "routers": {}}]
    assert daemon.asked == [("index", {"version": None}), ("index", {"version": "1"})]


def test_an_answer_of_another_form_is_an_outage() -> None:
    daemon = Daemon()
    live = Live(daemon.ask)
    page = live.subscribe()
    daemon.routers = 5  # type: ignore[assignment]  # what another program may answer
    live.poll()
    assert named(page, "down") == [{"kind": "failed", "error": "its answer cannot be shown (TypeError)"}]
    daemon.routers = []
    live.poll()
    assert named(page, "status")


def test_a_stream_that_is_closed_unread_is_no_page() -> None:
    live = Live(Daemon().ask)
    application = Application("t", {}, Daemon().ask, live)
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/events",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": "Bearer t",
    }
    for _ in range(SUBSCRIBERS + 3):
        codes: list[str] = []
        answer: Any = application(environ, lambda code, headers: codes.append(code))  # noqa: B023 - called at once
        answer.close()
        assert codes == ["200 OK"]


def test_pages_are_counted() -> None:
    live = Live(Daemon().ask)
    pages = [live.subscribe() for _ in range(SUBSCRIBERS)]
    assert all(pages)
    assert live.subscribe() is None
    live.unsubscribe(pages[0])  # type: ignore[arg-type]  # checked above
    assert live.subscribe() is not None
