"""Prints the daemon's status as text, for ``dvrctl status``; ``dvr_agent.daemon.status`` says what is in it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from dvr_agent.cli.output import BOLD, GREEN, RED, YELLOW, Output
from dvr_agent.plural import count

IN_SYNC = "in sync"
FINE = (IN_SYNC, "not supported", "admin down")
"""States of a router in which an operator need not act."""
STATES = ("degraded", "pending", "bad document", *FINE)
"""All states of a router (``dvr_agent.daemon.job_result.RouterState``)."""


def is_fine(status: Mapping[str, Any]) -> bool:
    """Return True if all routers are in sync and the daemon reports no trouble."""
    routers, source = status.get("routers") or [], status.get("source") or {}
    all_fine = all(router.get("state") in FINE for router in routers)
    return status.get("state") == IN_SYNC and all_fine and not source.get("bad") and not source.get("error")


def show(out: Output, status: Mapping[str, Any], only: Collection[str] = ()) -> None:
    """Write the status: what it comes to first, then the parts of the daemon, then the routers.

    :param only: states of the routers that are listed; none: all
    """
    source = status.get("source") or {}
    state = str(status.get("state"))
    out.line(f"dvr-agent {status.get('version')} on {status.get('host')} ({status.get('mode')})", BOLD)
    out.line(f"state        {state}", colour(state))
    out.line(f"routers      {counts(status.get('states') or {})}")
    for title, value in (
        ("guard", status.get("guard")),
        ("trouble", "; ".join(status.get("troubles") or [])),
        ("progress", status.get("progress")),
        ("process", f"{status.get('pid')}, since {status.get('started')}"),
        ("queue", status.get("queue_depth")),
        ("last sync", status.get("last_sync") or "none yet"),
        ("audits", f"last {status.get('last_audit') or 'none yet'}, next {status.get('next_audit') or 'never'}"),
        ("source", _source(source)),
        ("server", _server(source)),
        *((name, _service(service)) for name, service in sorted((status.get("services") or {}).items())),
    ):
        if value is not None and value != "":
            out.line(f"{title:<12} {value}")
    for bad in source.get("bad") or []:
        out.line(f"bad document {bad.get('error')}", RED)
    for fight in status.get("fights") or []:
        out.line(_fight(fight), RED)
    listed = [router for router in status.get("routers") or [] if not only or router.get("state") in only]
    if listed:
        out.line()
        out.table(("ROUTER", "NAME", "STATE", "RETRY", "REASON"), [_row(one) for one in sorted(listed, key=_order)])
    elif only:
        out.line(f"no router is {' or '.join(only)}")


def _fight(fight: Mapping[str, Any]) -> str:
    by = f", last changed by {fight['changed_by']}" if fight.get("changed_by") else ""
    repaired = "repair refused" if fight.get("refused") else "repaired"
    return (
        f"fight        router {fight.get('router')}: {fight.get('object')}: {repaired} {fight.get('repairs')} times "
        f"in 10 minutes{by}; repaired again in {fight.get('next_repair')} s at the earliest"
    )


def _source(source: Mapping[str, Any]) -> str:
    where = " ".join(str(source[key]) for key in ("source", "path") if source.get(key))
    said = str(source.get("error") or source.get("state") or "ok").removeprefix(f"{where}: ")
    text = f"{where}: {said}"
    text += f"; {count(source['documents'], 'document')}" if "documents" in source else ""
    return text + (f"; {source['incomplete']}" if source.get("incomplete") else "")


def _server(source: Mapping[str, Any]) -> str:
    """Return the reachability of neutron-server, and pending requests, as text; empty for other sources."""
    server, bus = source.get("server") or {}, source.get("bus") or {}
    if not server:
        return ""
    sync = server.get("last_full_sync") or {}
    parts = [
        "unavailable" if server.get("away") else "",
        "" if bus.get("connected") else "message bus not connected",
        f"last report {_ago(server.get('last_report'))}",
        f"last resync {_ago(sync.get('at'))}",
        *(f"{server[key]} {text}" for key, text in _WAITING.items() if server.get(key)),
    ]
    return "; ".join(part for part in parts if part)


_WAITING = {"statuses_not_sent": "floating IP statuses not sent yet", "pending": "routers to be fetched"}


def _service(service: Mapping[str, Any]) -> str:
    """Return the state of one service as text; empty if it serves no router and has no trouble."""
    number, trouble = service.get("routers") or 0, service.get("trouble")
    routers = count(number, "router")
    if trouble:
        return f"{trouble} (for {_ago(service.get('since')).removesuffix(' ago')}; {routers})"
    silent = sorted((service.get("silent_gateways") or {}).items())
    more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
    texts = [f"gateway {gateway} of router {router_id}{more} did not answer" for router_id, gateway in silent[:1]]
    faults = [f"{service['faults']} in state fault, see its log"] if service.get("faults") else []
    return "; ".join((routers, *texts, *faults)) if number else ""


def _ago(when: float | None) -> str:
    return "never" if when is None else f"{max(time.time() - when, 0):.0f} s ago"


def counts(states: Mapping[str, int]) -> str:
    """Return the number of routers in each state; states that need attention come first."""
    ordered = sorted(states.items(), key=lambda item: (item[0] in FINE, item[0]))
    return ", ".join(f"{number} {state}" for state, number in ordered) or "none"


def _order(router: Mapping[str, Any]) -> tuple[bool, str]:
    """Return the sort key of a router: routers that need attention come first."""
    return (router.get("state") in FINE, str(router.get("id")))


def _row(router: Mapping[str, Any]) -> tuple[str, ...]:
    retry = router.get("next_retry")
    when = "" if retry is None else f"in {retry} s"
    name, state, reason = (str(router.get(key) or "") for key in ("name", "state", "reason"))
    vrrp = f"VRRP {router['vrrp']}" if router.get("vrrp") else ""
    return (str(router.get("id")), name, state, when, "; ".join(filter(None, (vrrp, reason))))


def colour(state: str) -> str:
    """Return the colour of a state of the daemon or of a router."""
    return GREEN if state == IN_SYNC else RED if state == "degraded" else YELLOW
