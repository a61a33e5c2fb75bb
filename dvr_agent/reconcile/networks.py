"""External networks on this host: which routers have a slice of whose fip namespace, and by which port it is plugged.

A memory of the reconciler.  It begins with a look at the kernel (``load``) and is kept up by the jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dvr_agent.desired import names
from dvr_agent.desired.settings import HostSettings
from dvr_agent.desired.view import agent_gateways
from dvr_agent.model.router import Router
from dvr_agent.reconcile.inventory import Inventory
from dvr_agent.state.namespace import NamespaceState


class FipNetworks:
    """All external networks in use.  Routers are known by their stem, as much of the id as device names hold."""

    def __init__(self) -> None:
        self._stems: dict[str, set[str]] = {}
        self._gateways: dict[str, str] = {}
        self._devices_at_start: dict[str, set[str]] = {}
        self._bases: dict[str, NamespaceState] = {}

    def load(self, found: Inventory) -> None:
        """What the kernel holds at start."""
        self._stems = {network: set(stems) for network, stems in found.slices.items()}
        self._devices_at_start = found.gateways

    @property
    def gateways(self) -> Mapping[str, str]:
        """External network → id of the agent gateway port in use."""
        return self._gateways

    def of_router(self, router_id: str) -> list[str]:
        """Networks in whose fip namespace the router has, or may have, a slice."""
        stem = names.router_stem(router_id)
        return sorted(network for network, stems in self._stems.items() if stem in stems)

    def of_routers(self, router_ids: Iterable[str]) -> set[str]:
        """Networks in whose fip namespace any of the routers has, or may have, a slice."""
        stems = {names.router_stem(router_id) for router_id in router_ids}
        return {network for network, here in self._stems.items() if here & stems}

    def is_last(self, network: str, router_id: str) -> bool:
        """True if no other router has a slice there."""
        return self._stems.get(network, set()) <= {names.router_stem(router_id)}

    def claim(self, network: str, router_id: str) -> None:
        """From now on the router may have a slice, also if its job fails half way."""
        self._stems.setdefault(network, set()).add(names.router_stem(router_id))

    def leave(self, network: str, stem: str) -> None:
        """A slice is gone; with the last one the namespace is."""
        stems = self._stems.get(network, set())
        stems.discard(stem)
        if not stems:
            for memory in (self._stems, self._gateways, self._devices_at_start, self._bases):
                memory.pop(network, None)

    def plugged(self, router: Router, settings: HostSettings) -> str | None:
        """Of several agent gateway ports of the router's external network the one that is in use already."""
        if router.gateway is None:
            return None
        network = router.gateway.network_id
        candidates = agent_gateways(router, settings)
        if len(candidates) > 1 and self._gateways.get(network) not in [port.id for port in candidates]:
            present = self._devices_at_start.get(network, set())
            found = [port.id for port in candidates if names.device(names.AGENT_GATEWAY, port.id) in present]
            return found[0] if found else None
        return self._gateways.get(network)

    def begin_pass(self) -> None:
        """Shared parts are due once more."""
        self._bases.clear()

    def is_checked(self, network: str, base: NamespaceState) -> bool:
        """True if the shared part was found or made like this in this pass."""
        return self._bases.get(network) == base

    def checked(self, network: str, base: NamespaceState, port_id: str) -> None:
        """The shared part is as it should be, with this agent gateway port."""
        self._bases[network], self._gateways[network] = base, port_id
