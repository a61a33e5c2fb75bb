"""Router documents with port forwardings."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.packet_documents import Json, RouterDocument, Vm, uid


@dataclass
class ForwardingRouter(RouterDocument):
    """A router document whose envelope has port forwardings.

    :ivar forwardings: name → object
    :ivar unknown: the objects could not be fetched
    """

    forwardings: dict[str, Json] = field(default_factory=dict)
    unknown: bool = False

    def forward(
        self, address: str, protocol: str, external: str, vm: Vm, internal: str, name: str = ""
    ) -> ForwardingRouter:
        """Make (or change, by its name) a port forwarding; ranges are ``first:last``."""
        name = name or f"{address} {protocol} {external}"
        self.forwardings[name] = {
            "id": uid("forwarding", name),
            "router_id": self.id,
            "floatingip_id": uid("fip", address),
            "floating_ip_address": address,
            "protocol": protocol,
            "external_port_range": external if ":" in external else f"{external}:{external}",
            "internal_port_range": internal if ":" in internal else f"{internal}:{internal}",
            "internal_ip_address": vm.address,
            "internal_port_id": vm.port()["id"],
        }
        return self

    def envelope(self) -> Json:
        document = super().envelope()
        network = self.external.id if self.external else None
        addresses = {one["floatingip_id"]: one["floating_ip_address"] for one in self.forwardings.values()}
        document["router"]["_pf_floatingips"] = [
            {"id": fip_id, "floating_ip_address": address, "floating_network_id": network, "status": "DOWN"}
            for fip_id, address in addresses.items()
        ]
        return document | {"port_forwardings": None if self.unknown else list(self.forwardings.values())}
