"""External networks on this host: which routers have a slice of whose fip namespace, and by which port it is plugged.

A memory of the reconciler.  It begins with a look at the kernel (``load``) and is kept up by the jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import agent_gateways
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.reconcile.inventory import Inventory
from dvr_agent.state.namespace import NamespaceState


@dataclass(slots=True)
class _Network:
    """One external network.  Routers are known by their stem, as much of the id as device names hold.

    :ivar stems: routers that have, or may have, a slice of the fip namespace
    :ivar at_start: ``fg-`` devices that were there when this process began
    :ivar devices: ``fg-`` devices that are, or may be, there
    :ivar port: the agent gateway port in use, by the newest document that says something about it
    :ivar listed: stem → agent gateway ports that the router's document listed when it was last looked at
    :ivar paths: stem → ``fg-`` devices that the routes of its slice use; no entry: not known
    :ivar base: the shared part as it was found or made in this pass
    """

    stems: set[str] = field(default_factory=set)
    at_start: frozenset[str] = frozenset()
    devices: set[str] = field(default_factory=set)
    port: RouterPort | None = None
    listed: dict[str, list[RouterPort]] = field(default_factory=dict)
    paths: dict[str, frozenset[str]] = field(default_factory=dict)
    base: NamespaceState | None = None


class FipNetworks:
    """All external networks in use."""

    def __init__(self) -> None:
        self._networks: dict[str, _Network] = {}

    def load(self, found: Inventory) -> None:
        """Take over what the kernel holds at start."""
        self._networks = {
            network: _Network(set(stems), frozenset(found.gateways[network]), set(found.gateways[network]))
            for network, stems in found.slices.items()
        }

    @property
    def gateways(self) -> Mapping[str, str]:
        """External network → ``fg-`` device of the agent gateway port in use."""
        return {network: device_of(one.port) for network, one in self._networks.items() if one.port is not None}

    def of_router(self, router_id: str) -> list[str]:
        """Networks in whose fip namespace the router has, or may have, a slice."""
        stem = names.router_stem(router_id)
        return sorted(network for network, one in self._networks.items() if stem in one.stems)

    def of_routers(self, router_ids: Iterable[str]) -> set[str]:
        """Networks in whose fip namespace any of the routers has, or may have, a slice."""
        stems = {names.router_stem(router_id) for router_id in router_ids}
        return {network for network, one in self._networks.items() if one.stems & stems}

    def is_last(self, network: str, router_id: str) -> bool:
        """True if no other router has a slice there."""
        one = self._networks.get(network)
        return one is None or one.stems <= {names.router_stem(router_id)}

    def claim(self, network: str, router_id: str) -> None:
        """From now on the router may have a slice, also if its job fails half way."""
        self._of(network).stems.add(names.router_stem(router_id))

    def leave(self, network: str, stem: str) -> None:
        """A slice is gone; with the last one the namespace is."""
        one = self._networks.get(network)
        if one is None:
            return
        one.stems.discard(stem)
        one.paths.pop(stem, None)
        one.listed.pop(stem, None)
        if not one.stems:
            del self._networks[network]

    # The agent gateway port

    def choose(self, router: Router, settings: HostSettings) -> RouterPort | None:
        """Choose the agent gateway port of the router's external network: one for all routers of this host.

        Neutron may replace it, and the routers' documents learn that one after the other.  A document that newly lists
        another port has the last word; one that has not changed follows.  Of several listed ports the one in use stays,
        then one that was plugged when this process began, then the lowest id.

        :returns: None if the document lists no port for this host
        """
        candidates = agent_gateways(router, settings)
        if not candidates or router.gateway is None:
            return None
        one = self._of(router.gateway.network_id)
        stem = names.router_stem(router.id)
        known, one.listed[stem] = one.listed.get(stem), candidates
        if known == candidates and one.port is not None:
            return one.port
        offered = self._offered(one, candidates)
        first_look = known is None and one.port is not None
        if first_look and not (self._was_plugged(one, offered) and not self._was_plugged(one, one.port)):
            return one.port
        one.port = offered
        return offered

    def devices(self, network: str) -> frozenset[str]:
        """``fg-`` devices that are, or may be, in the fip namespace."""
        return frozenset(self._of(network).devices)

    def saw(self, network: str, router_id: str, routes_by: Iterable[str]) -> None:
        """Note the ``fg-`` devices that the routes of a router's slice use."""
        one = self._of(network)
        one.paths[names.router_stem(router_id)] = frozenset(
            device for device in routes_by if device.startswith(names.AGENT_GATEWAY)
        )

    def unused(self, network: str, but: Collection[str] = ()) -> frozenset[str]:
        """``fg-`` devices other than the one in use by which no router's traffic goes any more.

        :param but: stems of routers that do not count
        """
        one = self._of(network)
        others = one.stems - set(but)
        if one.port is None or not others <= one.paths.keys():
            return frozenset()
        used = {device for stem in others for device in one.paths[stem]}
        return frozenset(one.devices - used - {device_of(one.port)})

    def is_busy(self, network: str, device: str, known: Collection[str]) -> bool:
        """True if the traffic of one of the known routers goes, or may go, by this ``fg-`` device.

        :param known: stems of routers that have a document
        """
        one = self._of(network)
        return any(device in one.paths.get(stem, (device,)) for stem in one.stems.intersection(known))

    # The shared part of the namespace, in a pass over all routers

    def begin_pass(self) -> None:
        """Shared parts are due once more."""
        for one in self._networks.values():
            one.base = None

    def is_checked(self, network: str, base: NamespaceState) -> bool:
        """True if the shared part was found or made like this in this pass."""
        return self._of(network).base == base

    def checked(self, network: str, base: NamespaceState, left: Iterable[str]) -> None:
        """The shared part is as it should be.

        :param left: other ``fg-`` devices that were left in place
        """
        one = self._of(network)
        one.devices = {*left, *(link.name for link in base.links)}
        one.base = replace(base, ownership=replace(base.ownership, devices=frozenset(one.devices)))

    def _of(self, network: str) -> _Network:
        return self._networks.setdefault(network, _Network())

    @staticmethod
    def _offered(one: _Network, candidates: list[RouterPort]) -> RouterPort:
        current = one.port.id if one.port is not None else None
        plugged = (port for port in candidates if device_of(port) in one.at_start)
        return next((port for port in candidates if port.id == current), None) or next(plugged, candidates[0])

    @staticmethod
    def _was_plugged(one: _Network, port: RouterPort | None) -> bool:
        return port is not None and device_of(port) in one.at_start


def device_of(port: RouterPort) -> str:
    """Name of the device of an agent gateway port."""
    return names.device(names.AGENT_GATEWAY, port.id)
