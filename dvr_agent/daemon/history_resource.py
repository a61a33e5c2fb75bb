"""Answers ``GET /history?router=<id>&since=<seconds since the epoch>&after=<number>&limit=<number>``.

All parameters are optional.  The answer is ``{"entries": [entry, …], "last": number of the newest entry, "trouble": why
the file cannot be written, or empty}``.  Older entries come first: without ``after`` these are the newest ones, with it
those that follow that number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.http_resources import Answer, Request
from dvr_agent.daemon.json_portions import TURN
from dvr_agent.history.ring import Kept
from dvr_agent.history.writer import HistoryWriter

LIMIT = 1000
"""Entries of an answer whose request names no limit."""

T = TypeVar("T", int, float)


def answer(history: HistoryWriter, request: Request) -> Answer:
    """Answer a request."""
    ring = history.ring
    query = request.query
    try:
        since = _number(query, "since", float, 0.0)
        after = _number(query, "after", int, -1)
        limit = _number(query, "limit", int, LIMIT)
    except ValueError as exc:
        return Answer("400 Bad Request", {"error": str(exc)})
    entries = ring.select(query.get("router", ""), since, after if after >= 0 else None, limit)
    trouble = json.dumps(history.trouble).encode()
    return Answer("200 OK", b'{"entries": [%b], "last": %d, "trouble": %b}\n' % (_joined(entries), ring.last, trouble))


def _number(query: Mapping[str, str], name: str, kind: Callable[[str], T], default: T) -> T:
    """Return a parameter.

    :raises ValueError: naming the parameter and its value
    """
    if name not in query:
        return default
    try:
        found = kind(query[name])
    except ValueError:
        found = kind("-1")
    if not 0 <= found < 1 << 62:
        raise ValueError(f"{name}={query[name]}: expected a number, 0 or greater")
    return found


def _joined(entries: Iterable[Kept]) -> bytes:
    """Return the texts of entries with commas between them; other green threads have their turn meanwhile."""
    found, begun = [], time.monotonic()
    for entry in entries:
        found.append(entry.text.encode())
        if time.monotonic() - begun >= TURN:
            eventlet_shim.sleep(0)
            begun = time.monotonic()
    return b", ".join(found)
