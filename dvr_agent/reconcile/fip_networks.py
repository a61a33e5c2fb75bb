"""External networks on this host: agent gateway port, routers with a slice, shared part of the fip namespace.

This is a part of the host memory: filled from the inventory at start (``load``), updated by the planner and by finished
jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.desired.fip import base_state
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import agent_gateways
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.reconcile.inventory import Inventory, PluggedGateway
from dvr_agent.state.namespace import NamespaceState


class _Listing(NamedTuple):
    """The agent gateway ports that a router's document listed when it was last planned.

    :ivar ports: all of them
    :ivar usable: those whose addresses no other document has
    """

    ports: list[RouterPort]
    usable: list[RouterPort]


@dataclass(slots=True)
class _Network:
    """One external network.  Routers go by their stem: the beginning of the id, as much as device names contain.

    :ivar stems: routers that have, or may have, a slice of the fip namespace
    :ivar at_start: ``fg-`` devices in the fip namespace when this process began
    :ivar devices: ``fg-`` devices that are, or may be, in the fip namespace
    :ivar port: the agent gateway port in use, by the newest document that lists one
    :ivar listed: stem → what the router's document lists; the newest last
    :ivar paths: stem → ``fg-`` devices that the routes of its slice use; no entry: not known
    :ivar base: the shared part that this resync has found or made; None: not checked yet
    :ivar vouched: the shared part as the kernel has it by its events (``trust``); None: it has to be read
    :ivar refused: the shared part of which something was refused, and the stem of the router that tries it again
    """

    stems: set[str] = field(default_factory=set)
    at_start: Mapping[str, PluggedGateway] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    port: RouterPort | None = None
    listed: dict[str, _Listing] = field(default_factory=dict)
    paths: dict[str, frozenset[str]] = field(default_factory=dict)
    base: NamespaceState | None = None
    vouched: NamespaceState | None = None
    refused: tuple[NamespaceState, str] | None = None


@dataclass(frozen=True, slots=True)
class SharedPart:
    """The part of a fip namespace that all routers share, with the devices of earlier agent gateway ports.

    The shared part owns all these devices, since an object on an earlier one may block the same object on the device in
    use.  An earlier device is removed when no router's routes use it any more.

    :ivar state: desired state; its ownership has all ``fg-`` devices
    :ivar staying: ``fg-`` devices of earlier ports that stay unchanged for now
    """

    state: NamespaceState
    staying: frozenset[str]

    @property
    def has_unused_device(self) -> bool:
        """True if the device of an earlier agent gateway port can be removed."""
        return self.state.ownership.devices != self.staying | {link.name for link in self.state.links}


class FipNetworks:
    """All external networks in use."""

    def __init__(self) -> None:
        self._networks: dict[str, _Network] = {}
        self.is_open = True
        """Documents that are there when this process begins are being declared, or nobody declares them."""
        self._moved: set[str] = set()
        """Networks whose agent gateway port in use has changed."""

    def load(self, found: Inventory) -> None:
        """Note the slices and ``fg-`` devices that the inventory found at start."""
        self._networks = {
            network: _Network(set(stems), found.gateways[network], set(found.gateways[network]))
            for network, stems in found.slices.items()
        }

    @property
    def gateways(self) -> Mapping[str, str]:
        """External network → ``fg-`` device of the agent gateway port in use."""
        return {network: device_of(one.port) for network, one in self._networks.items() if one.port is not None}

    def of_router(self, router_id: str) -> list[str]:
        """Return the networks in whose fip namespace the router has, or may have, a slice."""
        stem = names.router_stem(router_id)
        return sorted(network for network, one in self._networks.items() if stem in one.stems)

    def of_routers(self, router_ids: Iterable[str]) -> set[str]:
        """Return the networks in whose fip namespace any of the routers has, or may have, a slice."""
        stems = {names.router_stem(router_id) for router_id in router_ids}
        return {network for network, one in self._networks.items() if one.stems & stems}

    def listed_only(self, router_id: str) -> list[str]:
        """Return the networks for which the router's document lists a port, and in which it has never had a slice."""
        stem = names.router_stem(router_id)
        return [network for network, one in self._networks.items() if stem in one.listed and stem not in one.stems]

    def is_last(self, network: str, router_id: str) -> bool:
        """Return True if no other router has a slice of the network's fip namespace."""
        one = self._networks.get(network)
        return one is None or one.stems <= {names.router_stem(router_id)}

    def is_used(self, network: str) -> bool:
        """Return True if any router has, or may have, a slice of the network's fip namespace."""
        return network in self._networks

    def has_slice(self, network: str, stem: str) -> bool:
        """Return True if the router has, or may have, a slice of the network's fip namespace."""
        one = self._networks.get(network)
        return one is not None and stem in one.stems

    def claim(self, network: str, router_id: str, device: str) -> None:
        """Note that the router may have a slice, and the network this ``fg-`` device, even if the job fails."""
        self._of(network).stems.add(names.router_stem(router_id))
        self._of(network).devices.add(device)

    def leave(self, network: str, stem: str) -> None:
        """Forget a slice that is gone; with the last slice the namespace is gone, too."""
        one = self._networks.get(network)
        if one is None:
            return
        one.stems.discard(stem)
        one.paths.pop(stem, None)
        one.listed.pop(stem, None)
        self._resign(one, stem)
        if not one.stems:
            del self._networks[network]
        else:
            self._use_listed(network)

    def distrust(self, network: str) -> None:
        """Forget that the shared part was checked: a job that broke off may have changed it, or another program has."""
        if network in self._networks:
            self._networks[network].base = self._networks[network].vouched = None

    def distrust_all(self) -> None:
        """Forget that the shared parts were checked: events were lost."""
        for network in self._networks:
            self.distrust(network)

    def has_others(self, network: str, stem: str) -> bool:
        """Return True if another router has, or may have, a slice of the network's fip namespace."""
        one = self._networks.get(network)
        return one is not None and bool(one.stems - {stem})

    # The agent gateway port

    def choose(self, router: Router, settings: HostSettings, document: Router) -> RouterPort | None:
        """Choose the agent gateway port of the router's external network: one for all routers of this host.

        Neutron may replace the port, and the routers' documents learn that one after the other.  A document that newly
        lists another port decides, for unchanged documents too.  Of several listed ports the one in use stays, else one
        that was plugged when this process began is chosen, else the one with the lowest id.  Of documents that were
        there when this process began the one decides that describes the port as the kernel has it.

        :param router: without what others have
        :param document: the router as its document has it: ports that it does not list decide nothing
        :returns: None if the document lists no port for this host
        """
        candidates = agent_gateways(router, settings)
        if not candidates or router.gateway is None:
            return None
        network = router.gateway.network_id
        one, stem = self._of(network), names.router_stem(router.id)
        ports = agent_gateways(document, settings)
        listing = _Listing(ports, [port for port in candidates if port in ports])
        known = one.listed.get(stem)
        if known == listing and one.port is not None:
            return one.port
        if known is not None and known.ports == ports and one.port is not None:
            one.listed[stem] = listing
            return self._use_listed(network)
        one.listed.pop(stem, None)
        one.listed[stem] = listing
        if not listing.usable:
            return one.port or candidates[0]
        if known is None and one.port is not None and self.is_open:
            offered = max(listing.usable, key=lambda port: self._likeness(one, port))
            if self._likeness(one, offered) <= self._likeness(one, one.port):
                return one.port
        else:
            offered = self._offered(one, listing.usable)
        return self._use(network, offered)

    def take_moved(self) -> list[tuple[str, RouterPort]]:
        """Return, once, the networks whose agent gateway port in use has changed, each with its port now."""
        moved, self._moved = self._moved, set()
        found = ((network, self._networks[network].port) for network in sorted(moved & self._networks.keys()))
        return [(network, port) for network, port in found if port is not None]

    def note_paths(self, network: str, router_id: str, devices: Iterable[str]) -> None:
        """Note the ``fg-`` devices that the routes of a router's slice use.

        :param devices: all devices of the routes
        """
        found = tuple([device for device in devices if device.startswith(names.AGENT_GATEWAY)])
        self._of(network).paths[names.router_stem(router_id)] = _set_of(found)

    def unused(self, network: str, but: Collection[str] = ()) -> frozenset[str]:
        """Return the ``fg-`` devices of earlier ports that no router's routes use any more.

        :param but: stems of routers whose routes do not count
        """
        one = self._of(network)
        if one.port is None or one.devices <= {device_of(one.port)}:
            return frozenset()
        others = one.stems - set(but)
        if not others <= one.paths.keys():
            return frozenset()
        used = {device for stem in others for device in one.paths[stem]}
        return frozenset(one.devices - used - {device_of(one.port)})

    def is_busy(self, network: str, device: str, known: Collection[str]) -> bool:
        """Return True if the routes of one of the known routers use, or may use, this ``fg-`` device.

        :param known: stems of routers that have a document
        """
        one = self._of(network)
        return any(device in one.paths.get(stem, (device,)) for stem in one.stems.intersection(known))

    # The shared part of the namespace, which a resync checks once

    def begin_resync(self) -> None:
        """Let every shared part be checked again."""
        for one in self._networks.values():
            one.base = None

    def shared_part(self, base: NamespaceState, network: str, router_id: str) -> SharedPart:
        """Return the shared part as a job on this router must make it.

        :param base: desired state of the shared part by the router's document
        :param router_id: the same job moves this router's routes away from the devices of earlier ports
        """
        devices = base.ownership.devices | self._of(network).devices
        if devices == base.ownership.devices:
            return SharedPart(base, frozenset())
        unused = self.unused(network, but=[names.router_stem(router_id)])
        current = {link.name for link in base.links}
        return SharedPart(replace(base, ownership=replace(base.ownership, devices=devices)), devices - unused - current)

    def is_checked(self, network: str, part: SharedPart) -> bool:
        """Return True if this resync has found or made this shared part, and no device of it can be removed."""
        return self._of(network).base == part.state and not part.has_unused_device

    def is_vouched(self, network: str, part: SharedPart) -> bool:
        """Return True if the kernel has this shared part by its events, and no device of it can be removed."""
        return self._of(network).vouched == part.state and not part.has_unused_device

    def is_left_to_another(self, network: str, part: SharedPart, router_id: str) -> bool:
        """Return True if something of this shared part was refused, and the job of another router tries it again."""
        refused = self._of(network).refused
        if refused is None or part.has_unused_device:
            return False
        return refused[0] == part.state and refused[1] != names.router_stem(router_id)

    def note_refused(self, network: str, part: SharedPart, router_id: str) -> None:
        """Note that something of the shared part was refused: the retries of this router's job try it again."""
        self._of(network).refused = (part.state, names.router_stem(router_id))

    def resign(self, router_id: str) -> None:
        """Leave refused shared parts to the next router's job: this router has no jobs any more."""
        for one in self._networks.values():
            self._resign(one, names.router_stem(router_id))

    @staticmethod
    def _resign(one: _Network, stem: str) -> None:
        if one.refused is not None and one.refused[1] == stem:
            one.refused = None

    def note_checked(self, network: str, part: SharedPart, is_heard: bool = False) -> None:
        """Note that the shared part is in sync.

        :param is_heard: the events of the namespace were heard since before it was read
        """
        one = self._of(network)
        one.devices = {*part.staying, *(link.name for link in part.state.links)}
        ownership = replace(part.state.ownership, devices=frozenset(one.devices))
        one.base = replace(part.state, ownership=ownership)
        one.vouched = one.base if is_heard else None
        one.refused = None

    def _use_listed(self, network: str) -> RouterPort | None:
        """Return the port in use; it is another one if no document lists it any more."""
        one = self._networks[network]
        if any(one.port in listing.usable for listing in one.listed.values()):
            return one.port
        newest = next((listing.usable for listing in reversed(one.listed.values()) if listing.usable), None)
        return self._use(network, self._offered(one, newest)) if newest else one.port

    def _use(self, network: str, port: RouterPort) -> RouterPort:
        """Use a port as the agent gateway port of a network."""
        one = self._networks[network]
        if one.port is not None and one.port != port:
            self._moved.add(network)
        one.port = port
        return port

    def _of(self, network: str) -> _Network:
        return self._networks.setdefault(network, _Network())

    @staticmethod
    def _offered(one: _Network, candidates: list[RouterPort]) -> RouterPort:
        current = one.port.id if one.port is not None else None
        in_use = next((port for port in candidates if port.id == current), None)
        return in_use or max(candidates, key=lambda port: FipNetworks._likeness(one, port))

    @staticmethod
    def _likeness(one: _Network, port: RouterPort | None) -> int:
        """Return how much a port is like its device when this process began; 0: there was no such device."""
        found = one.at_start.get(device_of(port)) if port is not None else None
        if found is None or port is None:
            return 0
        hops = {str(subnet.gateway_ip) for subnet in port.subnets if subnet.gateway_ip is not None}
        same_addresses = found.addresses == {fixed.cidr for fixed in port.fixed_ips if not fixed.address.is_link_local}
        same_onlink = found.onlink == {route.dst for route in base_state(port).routes}
        return 1 + (found.mac == port.mac) + same_addresses + (found.hops <= hops) + same_onlink


@lru_cache(maxsize=64)
def _set_of(devices: tuple[str, ...]) -> frozenset[str]:
    """Return the set of devices: one object for all routers of a network."""
    return frozenset(devices)


def device_of(port: RouterPort) -> str:
    """Return the name of the device of an agent gateway port."""
    return names.device(names.AGENT_GATEWAY, port.id)
