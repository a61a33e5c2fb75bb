"""Makes this agent's own section of the Guru Meditation report: health, worker, queue, routers that are not in sync.

It is read while the loop may hang, in the signal handler: nothing here waits, and an error costs this section only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dvr_agent.daemon.health import Health
from dvr_agent.daemon.job_result import RouterState
from dvr_agent.daemon.status import DaemonStatus

MANY = 50
"""Waiting jobs, and routers that are not in sync, that are listed."""
FINE = (RouterState.IN_SYNC, RouterState.NOT_SUPPORTED, RouterState.ADMIN_DOWN)


class ReportSection:
    """Generator of the section, as oslo.reports calls it."""

    def __init__(self, status: DaemonStatus, health: Health) -> None:
        self._status, self._health = status, health

    def __call__(self) -> Any:
        """Return the model of the section."""
        from oslo_reports.models.with_default_views import ModelWithDefaultViews

        made: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("state", lambda: self._status.line),
            ("health", self._checks),
            ("worker", self._worker),
            ("queue", self._queue),
            ("routers", self._routers),
        )
        return ModelWithDefaultViews(data={name: _tried(make) for name, make in made})

    def _checks(self) -> dict[str, str]:
        return {one.name: f"{'ok' if one.ok else 'NOT OK'}: {one.text}" for one in self._health.checks()}

    def _worker(self) -> dict[str, Any]:
        job = self._status.dispatcher.working_on
        return {
            "working on": f"{job['job']} for {job['seconds']} s" if job is not None else "nothing",
            "calls done": self._health.calls,
            # One text: oslo.reports sorts the items of lists.
            "stack": self._health.stack.rstrip(),
        }

    def _queue(self) -> dict[str, Any]:
        now = time.monotonic()
        waiting = self._status.schedule.waiting
        lines = [f"{one.key}: {one.priority.name.lower()}, for {now - one.since:.1f} s" for one in waiting[:MANY]]
        return {"depth": self._status.queue_depth, "waiting": [*lines, *_more(len(waiting))]}

    def _routers(self) -> dict[str, Any]:
        records = self._status.schedule.records
        bad = [record for record in records if record.state not in FINE]
        lines = [f"{one.id}: {one.state.value}: {one.bad or one.reason}" for one in bad[:MANY]]
        states = {state.value: number for state, number in records.states.items()}
        return {**states, "not in sync": [*lines, *_more(len(bad))]}


def _more(number: int) -> list[str]:
    return [f"and {number - MANY} more"] if number > MANY else []


def _tried(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as exc:  # noqa: BLE001 - the report is for times when something is wrong
        return f"cannot be told: {type(exc).__name__}: {exc}"
