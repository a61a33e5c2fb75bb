"""Completes a router of an answer by further questions: agent gateway port, MTUs, ports of its subnets.

Agent gateway ports and MTUs are asked for once and kept until the next full sync; :class:`SubnetPortsFetch` says when
ports of subnets are asked for.  ``answers`` uses both classes.
"""

from __future__ import annotations

import copy

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.api import Json, L3Plugin, RemoteError
from dvr_agent.sources.neutron.crossing.router_store import RouterStore
from dvr_agent.sources.neutron.documents import RouterDraft
from dvr_agent.sources.neutron.fetch.sync_progress import SyncProgress
from dvr_agent.sources.neutron.store.document_builder import DocumentBuilder


class RouterEnrichment:
    """Agent gateway ports of this host, and MTUs of networks."""

    def __init__(self, plugin: L3Plugin, host: HostSettings) -> None:
        self._plugin, self._host = plugin, host
        self._gateways: dict[str, Json | RemoteError] = {}
        """External network → agent gateway port, or why there is none; errors until :meth:`forget_errors`."""
        self._mtus: dict[str, int] = {}

    def forget_errors(self) -> None:
        """Forget errors: what failed may be asked again."""
        self._gateways = {net: port for net, port in self._gateways.items() if not isinstance(port, RemoteError)}

    def forget(self) -> None:
        """Forget all answers."""
        self._gateways.clear()
        self._mtus.clear()

    def forget_network(self, network_id: str) -> None:
        """Forget the answers about a network that has changed, or whose agent gateway port is deleted."""
        self._gateways.pop(network_id, None)
        self._mtus.pop(network_id, None)

    def complete(self, raw: Json) -> Json:
        """Return the router with everything that its document needs.

        :raises RemoteError: the server answered with an error
        :raises ServerAwayError: it did not answer
        """
        network = documents.network_without_agent_gateway(raw, self._host)
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
                network_id = canonical_id(network.get("id"))
                if network_id is not None:
                    self._mtus[network_id] = network["mtu"]


class SubnetPortsFetch:
    """Ports of subnets: asked for when a router joins the subnet, and once in each full sync.

    :param builder: has the cache of ports
    """

    def __init__(self, plugin: L3Plugin, routers: RouterStore, builder: DocumentBuilder) -> None:
        self._plugin, self._routers, self._builder = plugin, routers, builder
        self._ports = builder.ports
        self._errors: dict[str, RemoteError] = {}
        """Subnet id → why its ports could not be asked for; kept until :meth:`forget_errors`."""
        self._in_use: tuple[str, ...] = ()
        """Subnets of the router that a full sync is processing: the store does not have its draft yet."""

    def forget_errors(self) -> None:
        """Forget errors: what failed may be asked again."""
        self._errors.clear()

    def pull(self, draft: RouterDraft, query: int, sync: SyncProgress | None) -> None:
        """Bring the ports of the router's subnets up to date.

        :param query: number of the query that brought the router
        :raises RemoteError: the server answered with an error
        """
        if sync is None:
            self._pull(draft, None)
        else:
            self._in_use = draft.subnets
            try:
                self._pull(draft, sync)
            finally:
                self._in_use = ()
        if draft.own_ports is not None and not self._routers.is_late(draft.router_id, query):
            self._builder.outdate(self._ports.retain_ports(draft.router_id, draft.own_ports, query))

    def forget_unused(self) -> None:
        """Forget subnets in which no router of this host is: the server sends no notifications about them."""
        used = {subnet_id for draft in self._routers.drafts() for subnet_id in draft.subnets}
        self._ports.retain(used.union(self._in_use))

    def _pull(self, draft: RouterDraft, sync: SyncProgress | None) -> None:
        rejoined = self._rejoined(draft)
        for subnet_id in draft.subnets:
            is_known = subnet_id in self._ports and (sync is None or subnet_id in sync.pulled)
            if is_known and subnet_id not in rejoined:
                continue
            if subnet_id in self._errors:
                raise self._errors[subnet_id]
            if sync is not None:
                sync.serve_updates()  # older notifications must not be applied to newer ports
            self._ask(subnet_id, draft)
            if sync is not None:
                sync.pulled.add(subnet_id)
            if is_known:
                self._builder.outdate({subnet_id})

    def _ask(self, subnet_id: str, draft: RouterDraft) -> None:
        query = self._routers.begin_query()
        try:
            answer = self._plugin.get_ports_by_subnet(subnet_id)
            self._ports.put(subnet_id, answer, draft.cidrs.get(subnet_id), query)
        except RemoteError as exc:
            self._errors[subnet_id] = exc
            raise

    def _rejoined(self, draft: RouterDraft) -> set[str]:
        """Return the subnets in which the router has other interfaces than before.

        Between the two it may have had none, and about a subnet without router the server sends no notifications.
        """
        stored = self._routers.get(draft.router_id)
        if stored is None or stored.draft is None:
            return set()
        before = stored.draft.interfaces
        return {
            subnet_id
            for subnet_id in draft.subnets
            if subnet_id in before and before[subnet_id].isdisjoint(draft.interfaces[subnet_id])
        }
