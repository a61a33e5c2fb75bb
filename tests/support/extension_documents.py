"""Router documents with conntrack helpers and NDP proxies."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.packet_documents import Json, RouterDocument, Vm, uid


@dataclass
class ExtendedRouter(RouterDocument):
    """A router document to which objects of L3 agent extensions are added.

    :ivar proxied: address → (VM, mode of the L3 agent on its host)
    :ivar helpers: (helper, protocol, port)
    :ivar legacy: the router is not distributed
    :ivar unknown: the NDP proxies could not be fetched
    """

    proxies_on: bool = True
    proxied: dict[str, tuple[Vm, str]] = field(default_factory=dict)
    helpers: list[tuple[str, str, int]] = field(default_factory=list)
    legacy: bool = False
    unknown: bool = False

    def proxy(self, vm: Vm, address: str, agent_mode: str = "dvr") -> None:
        """Have neighbours in the external network reach an address of a VM."""
        self.proxied[address] = (vm, agent_mode)

    def envelope(self) -> Json:
        document = super().envelope()
        document["router"]["enable_ndp_proxy"] = self.proxies_on
        document["router"]["conntrack_helpers"] = [
            {"helper": helper, "protocol": protocol, "port": number} for helper, protocol, number in self.helpers
        ]
        if self.legacy:
            document["router"] |= {
                "distributed": False,
                "_snat_router_interfaces": [],
                "_floatingip_agent_interfaces": [],
            }
        proxies = [
            {
                "id": uid("ndp", address),
                "router_id": self.id,
                "port_id": vm.port()["id"],
                "ip_address": address,
                "host": vm.host,
                "agent_mode": agent_mode,
            }
            for address, (vm, agent_mode) in self.proxied.items()
        ]
        return document | {"ndp_proxies": None if self.unknown else proxies}
