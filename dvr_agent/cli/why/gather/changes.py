"""Reads the newest entries of the history that concern the subject."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from dvr_agent.cli.admin_client import AdminClient
from dvr_agent.cli.history import HistoryError, HistoryReader, about_address
from dvr_agent.cli.why.facts import Facts
from dvr_agent.history.file import history_path


def read_changes(conf: cfg.ConfigOpts, client: AdminClient, facts: Facts) -> tuple[dict[str, Any], ...]:
    """Return the entries, oldest first; none where there is no history that can be read."""
    reader = HistoryReader(history_path(conf.state_path, conf.host), client)
    try:
        entries = reader.entries()
    except HistoryError:
        return ()
    subject = facts.subject
    router_id = subject.router.id if subject.router is not None else ""
    if not router_id and facts.refusal is not None:
        router_id = facts.refusal.router_id
    about = about_address(entries, subject.address) if subject.address else None
    return tuple(
        entry
        for entry in entries
        if (router_id and entry["router"] == router_id) or (about is not None and about(entry))
    )
