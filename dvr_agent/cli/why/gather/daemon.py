"""Asks the running daemon by its admin socket."""

from __future__ import annotations

from dvr_agent.cli.admin_client import UnreachableError, ask
from dvr_agent.cli.why.facts import DaemonFacts


def read_daemon(socket: str, router_id: str) -> DaemonFacts:
    """Ask for the status, and for the record of a router; an error is part of the result.

    :param router_id: empty: no router is asked for
    """
    try:
        status = ask(socket, "/status")
    except UnreachableError as exc:
        return DaemonFacts(unreachable=str(exc))
    record: dict[str, object] = {}
    if router_id:
        try:
            record = ask(socket, f"/routers/{router_id}")
        except UnreachableError:
            record = {}
    return DaemonFacts(status=status, router=record)
