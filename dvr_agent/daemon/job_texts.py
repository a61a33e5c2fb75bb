"""Makes texts about jobs for the log: subjects, counts of changed objects, times."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from dvr_agent import logs, plural
from dvr_agent.reconcile.api import Plan, Result
from dvr_agent.reconcile.plan_lines import CHANGE, Group

LOG = logging.getLogger(__name__)

HINDERED = "traffic may be stopped by others: "
"""Begin of each text about what stops traffic without being ours."""
LINES = 3
"""Changed objects of a job that are logged at INFO."""


def subject_text(router_id: str, name: str) -> str:
    """Return ``router <id> (<name>)``; a user chose the name, so it is escaped to fit one log line."""
    return f"router {router_id} ({logs.one_line(name)})" if name else f"router {router_id}"


def counts_text(plan: Plan) -> str:
    """Return the number of objects by kind: ``3 routes, 2 rules, 1 table``."""
    return ", ".join(plural.count(number, kind) for kind, number in plan.counts().items()) or "nothing"


def some_ids(ids: list[str]) -> str:
    """Return the first five ids, and an ellipsis if there are more."""
    return ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")


def times_text(result: Result, late: float) -> str:
    """Return the duration of a job, and its delay since the event."""
    return f"{result.seconds * 1e3:.1f} ms, started {late * 1e3:.1f} ms after the event"


def log_hindrances(begun: Iterable[str], ceased: Iterable[str], subject: str = "") -> None:
    """Log what began, and what has ceased, to stop traffic without being ours.

    :param subject: the router that met it; empty: it concerns the host
    """
    who = f"{subject}: " if subject else ""
    for text in begun:
        LOG.warning("%s%s%s", who, HINDERED, text)
    for text in ceased:
        LOG.info("%straffic is no longer stopped by others: %s", who, text)


def place_text(router_id: str, place: str) -> str:
    """Return where an object of a router is, so that the text has the router's id once.

    :param place: its namespace, which has the id in its name, or another place
    """
    return place if not router_id or router_id in place else f"router {router_id}: {place}"


def brief_lines(router_id: str, groups: Iterable[Group]) -> Iterator[str]:
    """Yield a line for each changed object; a namespace that was created or removed is one object with all in it."""
    for group in groups:
        place = place_text(router_id, group.name)
        if group.sign != CHANGE:
            inside = f" with {plural.count(len(group.lines), 'object')}" if group.lines else " with all that was in it"
            yield f"{place}: {group.sign} namespace{inside}"
            continue
        for line in group.lines:
            yield f"{place}: {line.full}"


def log_changes(router_id: str, groups: Iterable[Group]) -> None:
    """Log the first changed objects at INFO and how many more there are; at DEBUG all of them."""
    groups = tuple(groups)
    lines = list(brief_lines(router_id, groups))
    for text in lines[:LINES]:
        LOG.info("%s", text)
    if LOG.isEnabledFor(logging.DEBUG):
        log_objects(router_id, groups, {*lines[:LINES]})
    elif len(lines) > LINES:
        LOG.info("%s: and %d more", f"router {router_id}" if router_id else "host", len(lines) - LINES)


def log_objects(router_id: str, groups: Iterable[Group], logged: Iterable[str] = ()) -> None:
    """Log each changed object at DEBUG.

    :param logged: lines that are in the log already
    """
    if not LOG.isEnabledFor(logging.DEBUG):
        return
    done = frozenset(logged)
    for group in groups:
        place = place_text(router_id, group.name)
        for line in group.lines:
            text = f"{place}: {line.full}"
            if text not in done:
                LOG.debug("%s", text)
