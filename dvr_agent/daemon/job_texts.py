"""Makes texts about jobs for the log: subjects, counts of changed objects, times."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dvr_agent import logs
from dvr_agent.reconcile.api import Plan, Result

LOG = logging.getLogger(__name__)

HINDERED = "traffic may be stopped by others: "
"""Begin of each text about what stops traffic without being ours."""


def subject_text(router_id: str, name: str) -> str:
    """Return ``router <id> (<name>)``; a user chose the name, so it is escaped to fit one log line."""
    return f"router {router_id} ({logs.one_line(name)})" if name else f"router {router_id}"


def counts_text(plan: Plan) -> str:
    """Return the number of objects by kind: ``3 routes, 2 rules, 1 table``."""
    return ", ".join(f"{number} {_plural(kind, number)}" for kind, number in plan.counts().items()) or "nothing"


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


def log_objects(plan: Plan) -> None:
    """Log each changed object at DEBUG."""
    if not LOG.isEnabledFor(logging.DEBUG):
        return
    for namespace, text in plan.ports:
        LOG.debug("%s: %s", namespace, text)
    for change in plan.services:
        LOG.debug("router %s: %s", change.router_id, change.text)
    for changes in plan.changes:
        if changes.create or changes.remove:
            LOG.debug("%s: %s namespace", changes.namespace, "+" if changes.create else "-")
        for item in changes.items:
            LOG.debug("%s: %s", changes.namespace, item.text)
        for table in changes.tables:
            LOG.debug("%s: ~ table %s of IPv%d", changes.namespace, table.new.name, table.new.family)


def _plural(kind: str, number: int) -> str:
    if number == 1:
        return kind
    return kind + ("es" if kind.endswith("s") else "s")
