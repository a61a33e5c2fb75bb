"""Decides which VRRP states of HA routers must be sent to the server.  ``reporter`` sends them.

The server binds the ports of a router to the host that says it is active, so that only one host may say so: a host
does it after it has been the master for an advertisement interval, in which a rival would have been heard.  That it is
standby it says at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dvr_agent.model.router import Router
from dvr_agent.sources.api import DataPlane, JobReport

ACTIVE, STANDBY = "active", "standby"
"""neutron_lib.constants HA_ROUTER_STATE_…"""


@dataclass(slots=True)
class _RouterState:
    """The state of one router.

    :ivar wanted: what the server should know
    :ivar since: when this host came to it, by the monotonic clock
    :ivar server: what the server knows, by its newest document and what was sent since
    :ivar router: of the newest document
    """

    wanted: str
    since: float
    server: str | None = None
    router: Router | None = None


class HaStates:
    """Compares the states of this host with those that the server knows.

    :param interval: ``ha_vrrp_advert_int``
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._routers: dict[str, _RouterState] = {}

    def job_ended(self, report: JobReport, now: float) -> None:
        """Set the state of a router by the report of a job."""
        if report.is_master is None:
            if report.data_plane is not DataPlane.FAILED:
                self._routers.pop(report.router_id, None)
            return
        wanted = ACTIVE if report.is_master else STANDBY
        state = self._routers.setdefault(report.router_id, _RouterState(wanted, now))
        if state.wanted != wanted:
            state.wanted, state.since = wanted, now
        if report.router is not None and report.router is not state.router:
            state.router = report.router
            ha = report.router.ha_interface
            state.server = ha.state if ha is not None else None

    def due(self, now: float) -> dict[str, str]:
        """Return the states to send now, by router id."""
        return {router_id: one.wanted for router_id, one in self._differing() if self._due_at(one) <= now}

    def next_time(self) -> float | None:
        """Return when a state is due, None if none is."""
        return min((self._due_at(one) for _, one in self._differing()), default=None)

    def sent(self, states: Mapping[str, str]) -> None:
        """Note that the server has accepted these states."""
        for router_id, state in states.items():
            if router_id in self._routers:
                self._routers[router_id].server = state

    def _differing(self) -> list[tuple[str, _RouterState]]:
        return [(router_id, one) for router_id, one in self._routers.items() if one.wanted != one.server]

    def _due_at(self, state: _RouterState) -> float:
        return state.since + (self._interval if state.wanted == ACTIVE else 0.0)
