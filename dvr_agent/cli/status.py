"""``dvrctl status``: shows the status of the running daemon, from its admin socket (``dvr_agent.daemon.admin``)."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, GREEN, RED, YELLOW, Output
from dvr_agent.errors import DvrError
from dvr_agent.plural import count

TIMEOUT = 10
"""Seconds within which the daemon must answer; it never waits for the kernel to do so."""
IN_SYNC = "in sync"
FINE = (IN_SYNC, "not supported", "admin down")
"""States of a router in which an operator need not act."""


class UnreachableError(DvrError):
    """The daemon does not answer."""


class UnknownResourceError(UnreachableError):
    """The daemon is of a version that does not have the resource, or there is no such object."""


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl status``.

    :returns: 0: all in sync; 1: the daemon is not reachable; 2: something is pending or degraded
    """
    conf = load_config(args)
    status = ask(conf.dvr_agent.admin_socket, "/status")
    if out.json:
        out.document(status)
    else:
        _show(out, status)
    return 0 if is_fine(status) else 2


def is_fine(status: Mapping[str, Any]) -> bool:
    """Return True if all routers are in sync and the daemon reports no trouble."""
    routers, source = status.get("routers") or [], status.get("source") or {}
    all_fine = all(router.get("state") in FINE for router in routers)
    return status.get("state") == IN_SYNC and all_fine and not source.get("bad") and not source.get("error")


def ask(path: str, resource: str) -> dict[str, Any]:
    """Return a resource of the admin socket, by HTTP GET.

    :raises UnreachableError: no answer, or an answer that is not JSON
    """
    connection = UnixConnection(path)
    try:
        connection.request("GET", resource)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != http.client.OK:
            kind = UnknownResourceError if response.status == http.client.NOT_FOUND else UnreachableError
            raise kind(f"the daemon answered {response.status} {response.reason}: {answer.get('error')}")
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise UnreachableError(f"dvr-agent is not reachable at {path}: {reason}") from exc
    except (http.client.HTTPException, ValueError, AttributeError) as exc:
        raise UnreachableError(f"the process that answers at {path} is no dvr-agent: {exc}") from exc
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise UnreachableError(f"the process that answers at {path} is no dvr-agent")
    return answer


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    :param timeout: seconds
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _show(out: Output, status: dict[str, Any]) -> None:
    source = status.get("source") or {}
    state = str(status.get("state"))
    out.line(f"dvr-agent {status.get('version')} on {status.get('host')} ({status.get('mode')})", BOLD)
    out.line(f"state        {state}", _colour(state))
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
        ("routers", _counts(status.get("states") or {})),
    ):
        if value is not None and value != "":
            out.line(f"{title:<12} {value}")
    for bad in source.get("bad") or []:
        out.line(f"bad document {bad.get('error')}", RED)
    for fight in status.get("fights") or []:
        out.line(_fight(fight), RED)
    rows = [_row(router) for router in sorted(status.get("routers") or [], key=_order)]
    if rows:
        out.line()
        out.table(("ROUTER", "NAME", "STATE", "RETRY", "REASON"), rows)


def _fight(fight: Mapping[str, Any]) -> str:
    by = f", last changed by {fight['changed_by']}" if fight.get("changed_by") else ""
    repaired = "repair refused" if fight.get("refused") else "repaired"
    return (
        f"fight        router {fight.get('router')}: {fight.get('object')}: {repaired} {fight.get('repairs')} times "
        f"in 10 minutes{by}; repaired again in {fight.get('next_repair')} s at the earliest"
    )


def _source(source: dict[str, Any]) -> str:
    where = " ".join(str(source[key]) for key in ("source", "path") if source.get(key))
    text = f"{where}: {source.get('error') or source.get('state') or 'ok'}"
    text += f"; {count(source['documents'], 'document')}" if "documents" in source else ""
    return text + (f"; {source['incomplete']}" if source.get("incomplete") else "")


def _server(source: dict[str, Any]) -> str:
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
    return routers if number else ""


def _ago(when: float | None) -> str:
    return "never" if when is None else f"{max(time.time() - when, 0):.0f} s ago"


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none"


def _order(router: dict[str, Any]) -> tuple[bool, str]:
    """Return the sort key of a router: routers that need attention come first."""
    return (router.get("state") in FINE, str(router.get("id")))


def _row(router: dict[str, Any]) -> tuple[str, ...]:
    retry = router.get("next_retry")
    when = "" if retry is None else f"in {retry} s"
    name, state, reason = (str(router.get(key) or "") for key in ("name", "state", "reason"))
    vrrp = f"VRRP {router['vrrp']}" if router.get("vrrp") else ""
    return (str(router.get("id")), name, state, when, "; ".join(filter(None, (vrrp, reason))))


def _colour(state: str) -> str:
    return GREEN if state == IN_SYNC else RED if state == "degraded" else YELLOW
