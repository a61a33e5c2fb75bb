"""Asks the running daemon by its admin socket."""

from __future__ import annotations

from dvr_agent.cli.admin_client import AdminClient, SilentError, UnreachableError
from dvr_agent.cli.why.facts import DaemonFacts


def read_daemon(client: AdminClient, router_id: str) -> DaemonFacts:
    """Ask for the status, and for the record of a router; an error is part of the result.

    :param router_id: empty: no router is asked for
    """
    try:
        status = client.ask("/status")
    except UnreachableError as exc:
        process = exc.process
        return DaemonFacts(
            str(exc),
            pid=process.pid if process is not None else 0,
            is_silent=isinstance(exc, SilentError),
            is_stopped=process is not None and process.is_stopped,
        )
    record: dict[str, object] = {}
    if router_id:
        try:
            record = client.ask(f"/routers/{router_id}")
        except UnreachableError:
            record = {}
    return DaemonFacts(status=status, router=record)
