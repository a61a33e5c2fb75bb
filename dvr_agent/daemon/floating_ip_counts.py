"""Counts the floating IPs of this host by status, as jobs have left them; for metrics, with any source.

The statuses are those that the neutron source reports (``sources/neutron/report/fip_statuses.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from dvr_agent.desired import floating_ips_here
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, make_view
from dvr_agent.errors import NotSupportedError
from dvr_agent.sources.api import DataPlane, JobReport


@dataclass(frozen=True, slots=True)
class _Router:
    """Floating IPs of one router: ids of those that are active, and numbers of the others."""

    active: tuple[str, ...] = ()
    down: int = 0
    error: int = 0


class FloatingIpCounts:
    """Belongs to the hub's thread.

    :ivar numbers: ``active``, ``down`` and ``error`` → number of floating IPs
    """

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._routers: dict[str, _Router] = {}
        self.numbers: Counter[str] = Counter()

    def job_ended(self, report: JobReport) -> None:
        """Count the floating IPs of a router anew."""
        self._store(report.router_id, self._router(report))

    def keep_only(self, router_ids: Container[str]) -> None:
        """Forget routers that are gone."""
        for gone in [router_id for router_id in self._routers if router_id not in router_ids]:
            self._store(gone, None)

    def _router(self, report: JobReport) -> _Router | None:
        if report.router is None or report.data_plane is DataPlane.LEFT_ALONE:
            # A removal that failed leaves the floating IPs where they are.
            return self._routers.get(report.router_id) if report.data_plane is DataPlane.FAILED else None
        try:
            view = make_view(report.router, self._settings)
        except NotSupportedError:
            return None
        return self._of(view, report)

    def _of(self, view: HostView, report: JobReport) -> _Router:
        wanted = frozenset(floating_ips_here.reported_here(view))
        if report.data_plane is DataPlane.ABSENT:
            return _Router(down=len(wanted))
        here = floating_ips_here.built_here(view)
        if report.data_plane is DataPlane.IN_PLACE:
            active = {fip_id for fip_id, address in here if address not in report.held} - report.left_out
        else:
            before = self._routers.get(report.router_id, _Router())
            active = {fip_id for fip_id, _ in here}.intersection(before.active)
        return _Router(tuple(active), error=len(wanted - active))

    def _store(self, router_id: str, now: _Router | None) -> None:
        before = self._routers.pop(router_id, None)
        for router, sign in ((before, -1), (now, 1)):
            if router is not None:
                self.numbers["active"] += sign * len(router.active)
                self.numbers["down"] += sign * router.down
                self.numbers["error"] += sign * router.error
        if now is not None:
            self._routers[router_id] = now
