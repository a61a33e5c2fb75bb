"""Makes entries of the history, for jobs of the daemon and verbs of ``dvrctl``; ``dvr_agent.history`` keeps them.

===================  ==============================================================================================
``seq``, ``time``    number of the entry, and seconds since the epoch
``router``, ``name`` id and name of the router; null and empty: it concerns the host
``job``              ``start``, ``update``, ``removal``, ``resync``, ``retry``, ``drift``, ``sweep``, ``bridges`` of the
                     daemon; ``dvrctl apply``, ``dvrctl cleanup``, ``dvrctl handover``
``request_id``       of the log lines of the job; empty for ``dvrctl``
``namespaces``       what was changed, as in the JSON of ``dvrctl plan``
``by``               what was heard of drift: ``{"text", "pid", "program", "protocol"}``, null where it is not known
``milliseconds``     how long the changes took
``state``            of the router after the job; ``reason``: why it is degraded or left alone
``vrrp``             of an HA router: ``master`` or ``backup``
===================  ==============================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dvr_agent.desired.names import parse_namespace
from dvr_agent.reconcile.plan_lines import CHANGE, Group, Line

LINES = 5000
"""Changed objects of one entry at most; beyond it their number is the last line."""


def make_entry(
    router_id: str | None, name: str, job: str, request_id: str, groups: tuple[Group, ...]
) -> dict[str, Any]:
    """Make an entry of this moment; its number and the state of the router are the caller's."""
    return {
        "time": round(time.time(), 3),
        "router": router_id,
        "name": name,
        "job": job,
        "request_id": request_id,
        "namespaces": [group.to_json() for group in _bounded(groups)],
    }


def entries_by_router(
    job: str, request_id: str, groups: Iterable[Group], names: Mapping[str, str], state: str
) -> Iterator[dict[str, Any]]:
    """Yield an entry for each router, and one for the host.

    :param names: id → name of the routers that have an entry of their own
    :param state: of these routers afterwards
    """
    of: dict[str, list[Group]] = {}
    for group in groups:
        parsed = parse_namespace(group.name)
        router_id = parsed[1] if parsed is not None and parsed[1] in names else ""
        of.setdefault(router_id, []).append(group)
    for router_id, found in of.items():
        entry = make_entry(router_id or None, names.get(router_id, ""), job, request_id, tuple(found))
        yield entry | {"state": state if router_id else "", "reason": ""}


def bridge_groups(bridges: Iterable[str]) -> tuple[Group, ...]:
    """Return the removal of idle bridges as a group of lines."""
    return (Group("(host)", CHANGE, tuple(Line("-", "bridge", f"bridge {name}") for name in bridges)),)


def _bounded(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Return the groups with :data:`LINES` lines at most."""
    left, found = LINES, []
    number = sum(len(group.lines) for group in groups)
    if number <= LINES:
        return groups
    for group in groups:
        found.append(Group(group.name, group.sign, group.lines[:left]))
        left -= len(found[-1].lines)
    more = Line(CHANGE, "more", f"and {number - LINES} more")
    return (*found, Group("(more)", CHANGE, (more,)))
