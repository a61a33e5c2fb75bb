"""What a router document needs and does not bring: the agent gateway port of this host, MTUs of networks.

Each is asked for once and kept until the next full sync.  Belongs to the fetch thread.
"""

from __future__ import annotations

import copy

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.api import Json, L3Plugin, RemoteError


class Supplements:
    """Asks for what is missing."""

    def __init__(self, plugin: L3Plugin, settings: HostSettings) -> None:
        self._plugin, self._settings = plugin, settings
        self._gateways: dict[str, Json | RemoteError] = {}
        """External network → agent gateway port, or why there is none; errors last for one round."""
        self._mtus: dict[str, int] = {}

    def begin_round(self) -> None:
        """What failed may be asked again."""
        self._gateways = {net: port for net, port in self._gateways.items() if not isinstance(port, RemoteError)}

    def forget(self) -> None:
        """Ask for everything again."""
        self._gateways.clear()
        self._mtus.clear()

    def forget_network(self, network_id: str) -> None:
        """The network, or its agent gateway port, is another one now or gone."""
        self._gateways.pop(network_id, None)
        self._mtus.pop(network_id, None)

    def complete(self, raw: Json) -> Json:
        """The router with everything that its document needs.

        :raises RemoteError: the server could not tell
        :raises ServerAwayError: it did not answer
        """
        network = documents.lacks_agent_gateway(raw, self._settings)
        if network is not None:
            raw = documents.with_agent_gateway(raw, self._gateway(network))
        lacking = documents.networks_without_mtu(raw)
        if lacking:
            self._learn_mtus(lacking - self._mtus.keys())
            raw = copy.deepcopy(raw)
            documents.set_mtus(raw, self._mtus)
        return raw

    def _gateway(self, network: str) -> Json:
        found = self._gateways.get(network)
        if found is None:
            found = self._gateways[network] = self._ask_gateway(network)
        if isinstance(found, RemoteError):
            raise found
        return found

    def _ask_gateway(self, network: str) -> Json | RemoteError:
        try:
            port = self._plugin.get_agent_gateway_port(network)
        except RemoteError as exc:
            return exc
        if not isinstance(port, dict) or "id" not in port:
            return RemoteError(f"get_agent_gateway_port of network {network}: the answer is no port")
        return port

    def _learn_mtus(self, networks: set[str]) -> None:
        if not networks:
            return
        answer = self._plugin.get_networks(sorted(networks))
        if not isinstance(answer, list):
            raise RemoteError("get_networks: the answer is no list")
        for network in answer:
            if isinstance(network, dict) and isinstance(network.get("mtu"), int):
                network_id = documents.canonical_id(network.get("id"))
                if network_id is not None:
                    self._mtus[network_id] = network["mtu"]
