"""The desired state of recorded routers, with host allocations that are always the same."""

from __future__ import annotations

from typing import Any

from dvr_agent.desired.allocation import PAIRS
from dvr_agent.desired.build import DesiredRouter, desired_router
from dvr_agent.desired.host_allocations import HostAllocations, new_fip_pair
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import HostView, make_view
from dvr_agent.model.router import Router
from tests.support.recorded_documents import MODES


def desired(
    router: Router, host: str, mode: AgentMode | None = None, **settings: Any
) -> tuple[HostView, DesiredRouter]:
    view = make_view(router, HostSettings(host, mode or MODES[host], **settings))
    link = new_fip_pair(router.id, PAIRS[0]) if view.agent_gateway else None
    priorities = tuple((str(fip.address), 40000 + i) for i, fip in enumerate(view.local_fips))
    return view, desired_router(view, HostAllocations(link, priorities))
