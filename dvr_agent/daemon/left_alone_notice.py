"""Logs which routers are left alone, before the first job of a round; again when others are."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import RouterPlanner
from dvr_agent.reconcile.left_alone import find_left_alone, left_alone_text

LOG = logging.getLogger(__name__)


class LeftAloneNotice:
    """Says it once for the same routers.  Belongs to the dispatcher's green thread."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []

    def check(self, planner: RouterPlanner, documents: Iterable[tuple[str, Router]]) -> None:
        """Log a warning if routers of these documents are left alone, and others than at the last call."""
        found = find_left_alone(planner, documents)
        said = [(one.router.id, one.reason) for one in found]
        if found and said != self._said:
            LOG.warning("%s", left_alone_text(found))
        self._said = said
