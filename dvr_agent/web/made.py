"""Makes events for the page of the daemon's history: one entry of ``GET /history`` is one event.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

TEXTS = 3
"""Changes that an event names; then their number."""


def made_event(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the history as an event, with the whole entry in it."""
    return {
        "time": entry.get("time"),
        "kind": entry.get("job") or "job",
        "router": entry.get("router") or "",
        "name": entry.get("name") or "",
        "text": _text(entry),
        "severity": "bad" if entry.get("state") in ("degraded", "bad document") else _severity(entry),
        "entry": dict(entry),
    }


def _severity(entry: Mapping[str, Any]) -> str:
    return "wait" if entry.get("job") == "drift" else ""


def _text(entry: Mapping[str, Any]) -> str:
    lines = list(_lines(entry))
    named = "; ".join(lines[:TEXTS]) + (f" and {len(lines) - TEXTS} more" if len(lines) > TEXTS else "")
    authors = (f"{one['program']} (process {one.get('pid')})" for one in entry.get("by") or () if one.get("program"))
    by = ", ".join(dict.fromkeys(authors))
    parts = (_counts(entry), named, f"changed by {by}" if by else "", entry.get("reason"))
    return ": ".join(str(part) for part in parts if part) or "unchanged"


def _lines(entry: Mapping[str, Any]) -> Iterator[str]:
    for namespace in entry.get("namespaces") or ():
        if namespace.get("action") in ("+", "-"):
            yield f"{namespace['action']} namespace {namespace.get('name')}"
        for change in namespace.get("changes") or ():
            yield f"{change.get('action')} {change.get('text')}"


def _counts(entry: Mapping[str, Any]) -> str:
    signs = Counter(line[:1] for line in _lines(entry))
    names = (("+", "added"), ("~", "changed"), ("-", "removed"))
    return ", ".join(f"{signs[sign]} {name}" for sign, name in names if signs[sign])
