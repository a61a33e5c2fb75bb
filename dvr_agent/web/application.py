"""Answers the requests of browsers: a WSGI application (PEP 3333).

=======================================  =====================================================================
``/``, ``/*.js``, ``/page.css``          the page itself, without any data: no token needed
``/events``                              server-sent events, see :mod:`dvr_agent.web.live`
``/api/<question>?<argument>=…``         the answer of ``dvrctl web`` to one of :data:`QUESTIONS`, as JSON
=======================================  =====================================================================

An error is JSON too: ``{"error": text, "kind": kind}``.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from dvr_agent.web import checks
from dvr_agent.web.live import Ask, Live, Subscriber
from dvr_agent.web.static import Files
from dvr_agent.web.wire import Kind, QuestionError

QUESTIONS = frozenset({"router", "host", "why", "history", "counters", "rules"})
PING_SECONDS = 5.0
"""A comment is sent when there was nothing for so long: the only way to notice a page that was closed."""
STATUS = {
    Kind.MISSING: "501 Not Implemented",
    Kind.UNREACHABLE: "502 Bad Gateway",
    Kind.BAD: "404 Not Found",
    Kind.BUSY: "503 Service Unavailable",
    Kind.FAILED: "500 Internal Server Error",
}

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Environ = Mapping[str, Any]


class Application:
    """The page.

    :param ask: asks ``dvrctl web``
    """

    def __init__(self, token: str, files: Files, ask: Ask, live: Live) -> None:
        self._token, self._files, self._ask, self._live = token, files, ask, live

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        refusal = checks.refuse(environ)
        if refusal is None:
            file = self._files.get(environ["PATH_INFO"])
            if file is not None:
                return _send(start_response, "200 OK", file.type, file.data)
            refusal = checks.refuse_stranger(environ, self._token)
        if refusal is not None:
            return _send_json(start_response, refusal.status, {"error": refusal.text}, refusal.headers)
        return self._answer(environ["PATH_INFO"], environ.get("QUERY_STRING", ""), start_response)

    def _answer(self, path: str, query: str, start_response: StartResponse) -> Iterable[bytes]:
        if path == "/events":
            return self._events(start_response)
        question = path.removeprefix("/api/")
        if question == path or question not in QUESTIONS:
            return _send_json(start_response, "404 Not Found", {"error": f"no {path[:80]} here"})
        try:
            answer = self._ask(question, **_arguments(query))
        except QuestionError as exc:
            return _send_json(start_response, STATUS[exc.kind], {"error": str(exc), "kind": exc.kind.value})
        return _send_json(start_response, "200 OK", answer)

    def _events(self, start_response: StartResponse) -> Iterable[bytes]:
        subscriber = self._live.subscribe()
        if subscriber is None:
            return _send_json(start_response, "503 Service Unavailable", {"error": "too many pages are open"})
        start_response("200 OK", [("Content-Type", "text/event-stream; charset=utf-8"), *checks.HEADERS])
        return _Stream(self._live, subscriber)


class _Stream:
    """The messages of one page, until the server closes it, since the page has gone.

    No generator: the close of one that was never asked for anything would not reach its ``finally``.
    """

    def __init__(self, live: Live, subscriber: Subscriber) -> None:
        self._live, self._subscriber = live, subscriber

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            event, text = self._subscriber.messages.get(timeout=PING_SECONDS)
        except queue.Empty:
            return b": \n\n"
        return f"event: {event}\ndata: {text}\n\n".encode()

    def close(self) -> None:
        """End the subscription; the server calls it in any case (PEP 3333)."""
        self._live.unsubscribe(self._subscriber)


def _arguments(query: str) -> dict[str, str]:
    """Return the arguments of a question: its asker checks them.

    :raises QuestionError: there are too many
    """
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8))
    except ValueError as exc:
        raise QuestionError(Kind.BAD, f"the arguments cannot be read: {exc}") from exc


def _send_json(
    start_response: StartResponse, status: str, value: Any, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    return _send(start_response, status, "application/json", json.dumps(value).encode(), headers)


def _send(
    start_response: StartResponse, status: str, kind: str, data: bytes, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data))), *checks.HEADERS, *headers])
    return [data]
