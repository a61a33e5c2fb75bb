"""Makes the report of agent state, with keys and values of neutron-l3-agent: scheduler and operators rely on these."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import is_left_alone
from dvr_agent.sources.neutron.api import Json
from dvr_agent.sources.neutron.crossing.router_store import StoredRouter
from dvr_agent.sources.neutron.options import NeutronOptions


def agent_state(host: HostSettings, options: NeutronOptions, routers: Iterable[StoredRouter], start: bool) -> Json:
    """Return the report of agent state, for ``L3Plugin.report_state``.

    :param routers: all routers; those that this agent builds are counted
    :param start: it is the first report of this process
    """
    known = [stored.router for stored in routers if stored.router is not None]
    built = [router for router in known if not is_left_alone(router, host)]
    state: Json = {
        "binary": "neutron-l3-agent",
        "host": host.host,
        "agent_type": "L3 agent",
        "topic": "l3_agent",
        "availability_zone": options.availability_zone,
        "configurations": {
            "agent_mode": host.mode.value,
            "handle_internal_only_routers": options.handle_internal_only_routers,
            "interface_driver": options.interface_driver,
            "log_agent_heartbeats": options.log_agent_heartbeats,
            "extensions": sorted(extension.value for extension in host.extensions),
            "routers": len(built),
            "ex_gw_ports": sum(router.gateway is not None for router in built),
            "interfaces": sum(len(router.interfaces) for router in built),
            "floating_ips": sum(len(router.floating_ips) for router in built),
        },
        "uuid": str(uuid.uuid4()),
    }
    if start:
        state["start_flag"] = True
    return state
