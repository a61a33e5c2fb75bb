"""Compares two answers of the daemon's ``/status``, and says what changed for a page and for its list of events.  Pure.

``next_retry`` counts down, so that it differs in every answer; here it becomes ``retry_at``, seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Router = dict[str, Any]
Event = dict[str, Any]

SAME_RETRY = 1.5
"""Seconds by which two answers may differ about one time."""
FINE = ("in sync", "not supported", "admin down")
"""States of a router in which an operator need not act (``dvr_agent.cli.status``)."""


class Snapshot(NamedTuple):
    """What a page shows of the daemon's status: the host's values, and router id → router."""

    host: dict[str, Any]
    routers: dict[str, Router]


class Delta(NamedTuple):
    """What changed: the host's values if they did, routers that are new or changed, ids of those that are gone."""

    host: dict[str, Any] | None
    routers: list[Router]
    gone: list[str]

    def __bool__(self) -> bool:
        return bool(self.host or self.routers or self.gone)


def snapshot(status: Mapping[str, Any], now: float, before: Snapshot | None = None) -> Snapshot:
    """Return an answer of the daemon as a snapshot.

    :param now: time of the answer, seconds since the epoch
    :param before: the last snapshot: times of retries that it has stay as they are
    """
    known = before.routers if before else {}
    routers = {}
    for one in status.get("routers") or ():
        if isinstance(one, dict) and isinstance(one.get("id"), str):
            routers[one["id"]] = _with_time(one, now, known.get(one["id"]))
    return Snapshot({key: value for key, value in status.items() if key != "routers"}, routers)


def _with_time(router: Router, now: float, before: Router | None) -> Router:
    made = {key: value for key, value in router.items() if key != "next_retry"}
    seconds = router.get("next_retry")
    made["retry_at"] = None
    if isinstance(seconds, int | float):
        when = round(now + seconds, 1)
        last = before.get("retry_at") if before else None
        made["retry_at"] = last if last is not None and abs(last - when) <= SAME_RETRY else when
    return made


def compare(before: Snapshot, after: Snapshot) -> Delta:
    """Return what differs between two snapshots."""
    changed = [router for router_id, router in after.routers.items() if before.routers.get(router_id) != router]
    gone = [router_id for router_id in before.routers if router_id not in after.routers]
    return Delta(after.host if after.host != before.host else None, changed, gone)


def events(before: Snapshot, after: Snapshot, now: float) -> list[Event]:
    """Return what an operator wants to know of a change: states of routers and of the host, troubles, fights."""
    found = [_event(now, "host", "", "", text) for text in _host_texts(before.host, after.host)]
    for router_id, router in after.routers.items():
        last = before.routers.get(router_id)
        if last is None:
            found.append(_event(now, "router", router_id, router.get("name"), f"new here: {_state(router)}"))
        elif (last.get("state"), last.get("reason")) != (router.get("state"), router.get("reason")):
            text = f"{last.get('state')} → {_state(router)}"
            found.append(_event(now, "router", router_id, router.get("name"), text, _severity(router)))
    for router_id, router in before.routers.items():
        if router_id not in after.routers:
            found.append(_event(now, "router", router_id, router.get("name"), "removed"))
    return found


def _host_texts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[str]:
    if before.get("pid") != after.get("pid"):
        yield f"dvr-agent was started again (process {after.get('pid')})"
    if before.get("state") != after.get("state"):
        yield f"{before.get('state')} → {after.get('state')}"
    for text in after.get("troubles") or ():
        if text not in (before.get("troubles") or ()):
            yield str(text)
    known = {(one.get("router"), one.get("object")) for one in before.get("fights") or ()}
    for one in after.get("fights") or ():
        if (one.get("router"), one.get("object")) not in known:
            yield f"fight about {one.get('object')}, router {one.get('router')}"


def _state(router: Router) -> str:
    reason = router.get("reason")
    return f"{router.get('state')}: {reason}" if reason else str(router.get("state"))


def _severity(router: Router) -> str:
    return "good" if router.get("state") in FINE else "wait" if router.get("state") == "pending" else "bad"


def _event(now: float, kind: str, router_id: str, name: Any, text: str, severity: str = "") -> Event:
    return {"time": now, "kind": kind, "router": router_id, "name": name or "", "text": text, "severity": severity}
