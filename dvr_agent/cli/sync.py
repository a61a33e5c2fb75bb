"""``dvrctl sync``: has the daemon try one router or all at once, and waits for the end.

The daemon's status says of each router whether a job of it is queued or at work (``queued``), and of the source whether
a question to the server is open (``source.asking``): what neither holds for any more has ended.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dvr_agent.cli.admin_client import AdminClient
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import Output, harmless
from dvr_agent.cli.status_text import FINE, colour, counts, is_fine
from dvr_agent.cli.subjects import find_router
from dvr_agent.errors import DvrError
from dvr_agent.plural import count

PAUSE = 0.3
"""Seconds between two looks."""
REMOVED = "removed"
"""State of a router whose document was found deleted, and which is gone."""
Router = Mapping[str, Any]


class NotEndedError(DvrError):
    """Not all routers were tried in time."""


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl sync``.

    :returns: 0: all in sync; 2: a router is degraded, or its document is bad
    :raises NotEndedError: not all were tried in time
    """
    client = AdminClient.of(load_config(args))
    deadline = time.monotonic() + args.timeout
    only = find_router(args.router, _names(client)) if args.router else ""
    client.ask(f"/routers/{only}" if only else "/sync", "POST", max(args.timeout, 1.0))
    follower = _Follower(out, only)
    status = _follow(client, follower, deadline)
    ended = sorted(follower.ended.values(), key=lambda router: str(router["id"]))
    if out.json:
        out.document({"routers": ended, "waiting": follower.waiting, "state": status.get("state")})
    elif follower.is_over(status):
        out.line(f"{count(len(ended), 'router')}: {counts(_states(ended))}" if ended else "no routers")
    if not follower.is_over(status):
        raise NotEndedError(f"not ended within {args.timeout:g} s: {_open(follower, status)}; the daemon goes on")
    if only:
        return 0 if all(router["state"] in (*FINE, REMOVED) for router in ended) else 2
    return 0 if is_fine(status) else 2


def _names(client: AdminClient) -> dict[str, str]:
    """Map the ids of the daemon's routers to their names."""
    return {str(one["id"]): str(one["name"]) for one in client.ask("/status").get("routers") or []}


def _follow(client: AdminClient, follower: _Follower, deadline: float) -> Mapping[str, Any]:
    """Look at the daemon until all has ended, or until the deadline; returns the last status."""
    progress = _ProgressLine()
    try:
        while True:
            status = client.ask("/status")
            progress.clear()
            follower.look(status)
            if follower.is_over(status) or time.monotonic() >= deadline:
                return status
            progress.show(follower.text(status))
            time.sleep(min(PAUSE, max(deadline - time.monotonic(), 0)))
    finally:
        progress.clear()


@dataclass(slots=True)
class _Follower:
    """Prints each router as it ends.

    :param only: id of the router that is followed; empty: all
    :ivar ended: id → its last status
    :ivar waiting: ids of routers that have not ended
    """

    out: Output
    only: str
    ended: dict[str, Router] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    def look(self, status: Mapping[str, Any]) -> None:
        """Note and print routers that have ended since the last look; those that are gone have ended, too."""
        routers = {
            str(one["id"]): one for one in status.get("routers") or [] if not self.only or one["id"] == self.only
        }
        asking = bool((status.get("source") or {}).get("asking"))
        self.waiting = [router_id for router_id, one in routers.items() if asking or one.get("queued")]
        gone = {"id": self.only, "name": "", "state": REMOVED, "reason": ""}
        if self.only and not routers and not asking:
            routers = {self.only: gone}
        for router_id in routers.keys() - self.ended.keys() - set(self.waiting):
            self._ended(routers[router_id])
        self.ended |= {router_id: routers[router_id] for router_id in self.ended.keys() & routers.keys()}

    def is_over(self, status: Mapping[str, Any]) -> bool:
        """Return True if nothing is open: no question to the server, no router, no stale sweep of the resync."""
        sweeping = not self.only and str(status.get("progress") or "").startswith("resync")
        return not (self.waiting or sweeping or (status.get("source") or {}).get("asking"))

    def text(self, status: Mapping[str, Any]) -> str:
        """Return the progress as one line."""
        if (status.get("source") or {}).get("asking"):
            return "asking neutron-server"
        total = len(self.ended.keys() | set(self.waiting))
        return f"{len(self.ended)} of {count(total, 'router')}: {counts(_states(self.ended.values()))}"

    def _ended(self, router: Router) -> None:
        self.ended[str(router["id"])] = router
        if not self.out.json:
            name = f" ({router['name']})" if router.get("name") else ""
            reason = f": {router['reason']}" if router.get("reason") else ""
            state = str(router["state"])
            self.out.line(f"{state:<13} {router['id']}{name}{reason}", colour(state))
            self.out.flush()


def _states(routers: Iterable[Router]) -> dict[str, int]:
    found: dict[str, int] = {}
    for router in routers:
        found[str(router["state"])] = found.get(str(router["state"]), 0) + 1
    return found


def _open(follower: _Follower, status: Mapping[str, Any]) -> str:
    """Return what has not ended, and why where the source says it."""
    source = status.get("source") or {}
    if source.get("asking"):
        why = f" ({source['error']})" if source.get("error") else ""
        return f"neutron-server has not answered{why}"
    more = " and others" if len(follower.waiting) > 1 else ""
    if not follower.waiting:
        return "the sweep of stale objects is not over"
    return f"{count(len(follower.waiting), 'router')} not tried yet: {follower.waiting[0]}{more}"


class _ProgressLine:
    """One line on stderr that is rewritten; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        if self._terminal:
            sys.stderr.write(f"\r{harmless(text)}\x1b[K")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
