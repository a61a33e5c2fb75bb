"""Adds to NDP proxies what Neutron's objects do not have: the host of each port, and the mode of the L3 agent there.

Two questions for all NDP proxies of a fetch; ``desired/ndp_proxy.py`` decides by the answers which host answers for an
address.  Pure but for the questions, which the caller asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from dvr_agent.sources.neutron.api import BulkPull, Json
from dvr_agent.sources.neutron.objects import PORT, PORT_VERSION

AGENT, AGENT_VERSION = "Agent", "1.1"
L3_AGENT = "L3 agent"
"""Version and type of Neutron 29 (neutron.objects.agent; neutron_lib.constants.AGENT_TYPE_L3)."""


def with_hosts(proxies: Sequence[Json], bulk_pull: BulkPull) -> list[Json]:
    """Return the NDP proxies with the keys ``host`` and ``agent_mode``.

    A port that is gone, or bound nowhere, has the host ``""``; without L3 agent there the mode is ``""``.  Errors of
    the questions are the caller's: without answers it is not known who has to answer for the addresses, so that the
    objects count as not known.
    """
    if not proxies:
        return []
    port_ids = sorted({str(one.get("port_id")) for one in proxies})
    hosts = dict(map(_binding, bulk_pull(PORT, PORT_VERSION, {"id": port_ids})))
    names = sorted(set(hosts.values()) - {""})
    modes: dict[str, str] = {}
    if names:
        modes = dict(_modes(bulk_pull(AGENT, AGENT_VERSION, {"agent_type": L3_AGENT, "host": names})))
    return [
        {**one, "host": host, "agent_mode": modes.get(host, "")}
        for one in proxies
        for host in (hosts.get(str(one.get("port_id")), ""),)
    ]


def _binding(port: Json) -> tuple[str, str]:
    """Return (id, host) of a port; of several bindings, in a live migration, the active one counts."""
    bindings = [one for one in port.get("bindings") or () if isinstance(one, dict)]
    active = [one for one in bindings if one.get("status", "ACTIVE") == "ACTIVE"]
    host = next((one.get("host") for one in active or bindings), "")
    return str(port.get("id")), host if isinstance(host, str) else ""


def _modes(agents: Iterable[Json]) -> Iterable[tuple[str, str]]:
    """Yield (host, agent mode)."""
    for agent in agents:
        values = agent.get("configurations")
        try:
            decoded = json.loads(values) if isinstance(values, str) else values
        except ValueError:
            continue
        mode = decoded.get("agent_mode") if isinstance(decoded, dict) else None
        if isinstance(mode, str) and isinstance(agent.get("host"), str):
            yield agent["host"], mode
