"""Names the routers of this host that this agent would leave alone, before anything is changed.

Used by ``dvrctl plan`` and ``apply``, and by the daemon when a round of jobs begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dvr_agent.errors import grouped
from dvr_agent.model.router import Router
from dvr_agent.plural import count, verb
from dvr_agent.reconcile.api import RouterPlanner

MOST_NAMED = 20
"""Number of routers that are named; the text counts the rest."""


class LeftAlone(NamedTuple):
    """A router that this agent neither builds nor removes."""

    router: Router
    reason: str

    @property
    def title(self) -> str:
        """Name and id."""
        return f"{self.router.name} ({self.router.id})" if self.router.name else self.router.id


def find_left_alone(planner: RouterPlanner, documents: Iterable[tuple[str, Router]]) -> list[LeftAlone]:
    """Return the routers of these documents that are left alone, sorted by id."""
    found = [LeftAlone(router, planner.why_left_alone(router)) for _, router in documents]
    return sorted((one for one in found if one.reason), key=lambda one: one.router.id)


def left_alone_text(found: list[LeftAlone]) -> str:
    """Say which routers are left alone, and what that means."""
    routers = f"{count(len(found), 'router')} {verb(len(found), 'is', 'are')}"
    named = grouped((one.title, one.reason) for one in found[:MOST_NAMED])
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"{routers} left alone (what exists stays, and no agent of this host updates it any more): {named}{more}"
