"""A host with the real daemon on it, whose routers come from a neutron-server over a real message bus."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.oracle_build import external_bridge
from tests.support.recorded_documents import DATA
from tests.support.replay_server import Cloud, NeutronServer
from tests.support.waiting import wait_for

CALLS: dict[str, list[dict[str, Any]]] = json.loads((DATA / "rpc" / "calls.json").read_text())
Json = dict[str, Any]


def recorded(scenario: str, host: str) -> Json:
    """Router and ports of a scenario as that host sees them; a copy."""
    document: Json = json.loads((DATA / "documents" / f"{scenario}-{host}.json").read_text())
    return document


def add_to(cloud: Cloud, scenario: str, host: str) -> Json:
    """Have the server know what was recorded for this host; returns the router."""
    document = recorded(scenario, host)
    router: Json = document["router"]
    cloud.routers[router["id"]] = router
    cloud.ports.update(document["ports_by_subnet"])
    for call in CALLS[scenario]:
        args = call["args"]
        if call["method"] == "get_agent_gateway_port" and args["host"] == host and "id" in (call["result"] or {}):
            cloud.gateway_ports[args["network_id"]] = copy.deepcopy(call["result"])
        if call["method"] == "get_networks":
            cloud.mtus.update({network["id"]: network["mtu"] for network in call["result"]})
    return router


class Site:
    """
    :param external: external networks, each on a bridge that the host gives it
    :param extensions: as in ``[agent] extensions``
    """

    def __init__(
        self,
        host: lab.Host,
        base: Path,
        server: NeutronServer,
        mode: str,
        external: set[str],
        extensions: object = "",
        **options: object,
    ) -> None:
        self.server = server
        bridges = {network: host.bridge(external_bridge(network)) for network in sorted(external)}
        for bridge in bridges.values():
            # Else the host itself solicits routers there, and every fg- device learns it as a neighbour.
            lab.run("sysctl", "-qw", f"net.ipv6.conf.{bridge}.disable_ipv6=1")
        self.daemon = Daemon(
            base,
            DEFAULT={
                "host": server.host,
                "agent_mode": mode,
                "transport_url": server.url,
                "interface_driver": "bridge",
                "rpc_response_timeout": 3,
                "periodic_fuzzy_delay": 0,
                **options,
            },
            AGENT={"report_interval": 1, **({"extensions": extensions} if extensions else {})},
            neutron={"fallback_after": 1},
            bridge={"external_networks": ",".join(f"{network}:{bridge}" for network, bridge in bridges.items())},
        )

    def start(self, ready: bool = True) -> Site:
        self.daemon.start(ready)
        return self

    def stop(self) -> None:
        self.daemon.kill()

    def state(self, router_id: str) -> str | None:
        """What the daemon says of a router; None: it knows of none."""
        code, body = self.daemon.ask(f"/routers/{router_id}")
        return str(body["state"]) if code == 200 else None

    def in_sync(self, *router_ids: str) -> None:
        """Wait until all of these are built."""
        for router_id in router_ids:
            wait_for(lambda one=router_id: self.state(one) == "in sync")

    def gone(self, router_id: str) -> None:
        """Wait until nothing is left of the router."""
        wait_for(lambda: not exists(f"qrouter-{router_id}") and not exists(f"snat-{router_id}"))

    def source(self) -> Json:
        found: Json = self.daemon.status()["source"]
        return found


def exists(namespace: str) -> bool:
    return (lab.NETNS / namespace).exists()


def neighbours(router_id: str) -> dict[str, str]:
    """Permanent neighbours in the qrouter namespace: address → MAC address."""
    found = lab.ip_json("neigh", "show", "nud", "permanent", netns=f"qrouter-{router_id}")
    return {entry["dst"]: entry["lladdr"] for entry in found if entry["dev"].startswith("qr-")}
