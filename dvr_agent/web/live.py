"""Follows the daemon while a page is open, and tells every open page what changes.

One thread asks for status and for changes that were made, another one for the index of documents, once for all pages;
with no page open they ask for nothing.  What it sends, by server-sent events:

==========  ==========================================================================================
``status``  the host's values and all routers: to a page that is new or was too slow, and after an outage
``delta``   host, routers and ids that are gone, as :class:`dvr_agent.web.deltas.Delta` has them
``events``  new events, newest last; the last ones of them to a page that is new
``index``   router id → what its document can be found by; all of it
``down``    the daemon does not answer, and why
==========  ==========================================================================================
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from dvr_agent.web.deltas import Event, Snapshot, compare, events, snapshot
from dvr_agent.web.made import made_event
from dvr_agent.web.wire import Kind, QuestionError

LOG = logging.getLogger(__name__)

POLL_SECONDS = 1.0
POLL_SHARE, LONGEST_PAUSE = 20, 4.0
"""The pause between two rounds is so many times what a round takes, up to so many seconds: many routers are asked for
less often."""
INDEX_SECONDS = 2.0
SUBSCRIBERS = 12
"""Pages that may be open at a time."""
QUEUE = 64
"""Messages that wait for one page; a page that is slower gets the whole status again."""
EVENTS_KEPT = 400
MADE_AT_ONCE = 200

Ask = Callable[..., Any]


class Subscriber:
    """One open page: its messages, as (event, JSON text)."""

    def __init__(self) -> None:
        self.messages: queue.Queue[tuple[str, str]] = queue.Queue(QUEUE)
        self.behind = False

    def put(self, event: str, text: str) -> None:
        """Add a message; a full queue is emptied, and the page is behind until it gets the whole status."""
        try:
            self.messages.put_nowait((event, text))
        except queue.Full:
            self.behind = True
            while not self.messages.empty():
                self.messages.get_nowait()


class Live:
    """The state that all open pages show.

    :param ask: asks ``dvrctl web`` (:meth:`dvr_agent.web.questions.Questions.ask`)
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []
        self._wanted = threading.Event()
        self._now: Snapshot | None = None
        self._down: dict[str, str] | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._index: dict[str, Any] = {}
        self._last_made: int | None = None
        self._has_history: bool | None = None
        """None: not asked yet."""

    def subscribe(self) -> Subscriber | None:
        """Add a page, which gets everything first; None: too many are open."""
        with self._lock:
            if len(self._subscribers) >= SUBSCRIBERS:
                return None
            one = Subscriber()
            self._send_all(one)
            self._subscribers.append(one)
            self._wanted.set()
            return one

    def unsubscribe(self, one: Subscriber) -> None:
        """Remove a page that was closed."""
        with self._lock:
            if one in self._subscribers:
                self._subscribers.remove(one)
            if not self._subscribers:
                self._wanted.clear()

    def run(self) -> None:
        """Follow the daemon; never returns."""
        while True:
            self._wanted.wait()
            started = time.monotonic()
            self.poll()
            time.sleep(min(max(POLL_SECONDS, POLL_SHARE * (time.monotonic() - started)), LONGEST_PAUSE))

    def run_index(self) -> None:
        """Follow the documents; never returns."""
        while True:
            self._wanted.wait()
            self.poll_index()
            time.sleep(INDEX_SECONDS)

    def poll(self) -> None:
        """Ask for everything once, and send what changed."""
        try:
            self._poll()
        except QuestionError as exc:
            self._note_down(exc)
        except Exception as exc:  # an answer of another form must not leave the page with old values for ever
            LOG.exception("the answer of dvr-agent cannot be shown")
            self._note_down(QuestionError(Kind.FAILED, f"its answer cannot be shown ({type(exc).__name__})"))

    def _poll(self) -> None:
        answer = self._ask("status")
        now = time.time()
        with self._lock:
            self._note_status(snapshot(answer, now, self._now), now)
        self._ask_for_history()

    def _note_down(self, exc: QuestionError) -> None:
        down = {"kind": exc.kind.value, "error": str(exc)}
        with self._lock:
            if down != self._down:
                self._down = down
                self._broadcast("down", down)

    def _note_status(self, after: Snapshot, now: float) -> None:
        before, was_down = self._now, self._down is not None
        self._now, self._down = after, None
        if before is None or before.host.get("pid") != after.host.get("pid"):
            self._last_made = self._has_history = None  # another daemon counts anew
        if before is None or was_down:
            self._broadcast("status", _whole(after))
        else:
            self._send_delta(before, after)
        if before is not None:
            self._add_events(events(before, after, now))

    def _send_delta(self, before: Snapshot, after: Snapshot) -> None:
        delta = compare(before, after)
        if delta:
            self._broadcast("delta", delta._asdict())
        for one in [one for one in self._subscribers if one.behind]:
            one.behind = False
            self._send_all(one)

    def _ask_for_history(self) -> None:
        if self._has_history is False:
            return
        position = {} if self._last_made is None else {"after": self._last_made}
        try:
            answer = self._ask("history", limit=MADE_AT_ONCE, **position)
        except QuestionError as exc:
            if exc.kind is Kind.MISSING:
                self._has_history = False
            return
        self._has_history = True
        with self._lock:
            self._last_made = answer.get("last", self._last_made)
            self._add_events([made_event(entry) for entry in answer.get("entries") or ()])

    def poll_index(self) -> None:
        """Ask for the index of documents, and send it if it has changed."""
        try:
            answer = self._ask("index", version=self._index.get("version"))
        except QuestionError as exc:
            LOG.debug("the documents cannot be listed: %s", exc)
            return
        with self._lock:
            if "routers" in answer and answer != self._index:
                self._index = answer
                self._broadcast("index", answer)

    def _add_events(self, found: list[Event]) -> None:
        if found:
            self._events.extend(found)
            self._broadcast("events", found)

    def _send_all(self, one: Subscriber) -> None:
        if self._now is not None:
            one.put("status", json.dumps(_whole(self._now)))
        if self._down is not None:
            one.put("down", json.dumps(self._down))
        if self._index:
            one.put("index", json.dumps(self._index))
        one.put("events", json.dumps(list(self._events)))

    def _broadcast(self, event: str, value: Any) -> None:
        if self._subscribers:
            text = json.dumps(value)
            for one in self._subscribers:
                one.put(event, text)


def _whole(state: Snapshot) -> dict[str, Any]:
    return {"host": state.host, "routers": list(state.routers.values())}
