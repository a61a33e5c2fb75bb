"""Adds to the history what ``dvrctl apply``, ``cleanup`` and ``handover`` change.

They have the agent's lock meanwhile, so no daemon runs that writes the file; the next one goes on from their entries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any

from oslo_config import cfg

from dvr_agent.history.file import history_path
from dvr_agent.history.writer import HistoryWriter
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.history_entries import entries_by_router, make_entry
from dvr_agent.reconcile.plan_lines import Group, plan_groups


class OwnChanges:
    """Writes entries of one verb, each at once: the process may be killed.  A file that fails is a warning, no more.

    :param verb: as the operator has typed it
    """

    def __init__(self, conf: cfg.ConfigOpts, verb: str) -> None:
        self._conf, self._job = conf, f"dvrctl {verb}"

    def router(self, router_id: str, name: str, result: Result, state: str, reason: str = "") -> None:
        """Add what was changed for a router, if anything was.

        :param state: of the router afterwards, as in ``dvrctl status``
        """
        groups, _shared = plan_groups(result.plan)
        if groups:
            entry = make_entry(router_id, name, self._job, "", groups)
            milliseconds = round(result.seconds * 1e3, 2)
            self._write([entry | {"milliseconds": milliseconds, "state": state, "reason": reason}])

    def by_router(self, groups: Collection[Group], router_ids: Iterable[str], state: str = "") -> None:
        """Add an entry for each of these routers that has changes, and one for the rest of the host.

        :param state: of the routers afterwards
        """
        if groups:
            self._write(entries_by_router(self._job, "", groups, dict.fromkeys(router_ids, ""), state))

    @cached_property
    def _writer(self) -> HistoryWriter:
        """Opened for the first entry, and not for a dry run."""
        options = self._conf.dvr_agent
        path = history_path(self._conf.state_path, self._conf.host)
        return HistoryWriter(path, options.history_entries, options.history_file_size)

    def _write(self, entries: Iterable[dict[str, Any]]) -> None:
        for entry in entries:
            self._writer.add(entry)
        self._writer.write()
