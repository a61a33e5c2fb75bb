"""The path that a subject's packets take: which namespaces and devices they pass on this host.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.model.router import RouterPort
from dvr_agent.state.link import Port


class Leg(NamedTuple):
    """A port of the router that the packets pass: namespace, device and port."""

    namespace: str
    device: str
    port: RouterPort

    @property
    def as_port(self) -> Port:
        """The port, as attach drivers know it."""
        return Port(self.device, self.port.id, self.port.network_id, self.port.mac, self.port.mtu)


@dataclass(frozen=True, slots=True)
class AddressPath:
    """Namespaces and devices, from the outside to the instance.

    :ivar legs: ports of the router, outermost first
    :ivar pair: namespace → its end of the veth pair between qrouter and fip
    :ivar addresses: of the subject; packets with others take another path
    :ivar others: addresses that belong to other floating IPs of the router
    :ivar is_whole: the whole router, so that every object counts
    """

    legs: tuple[Leg, ...] = ()
    pair: Mapping[str, str] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    is_whole: bool = False

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Names of the namespaces, outermost first."""
        return tuple(dict.fromkeys([*(leg.namespace for leg in self.legs), *self.pair]))

    def devices(self, namespace: str) -> frozenset[str]:
        """Return the devices of the path in a namespace."""
        found = {leg.device for leg in self.legs if leg.namespace == namespace}
        return frozenset(found | ({self.pair[namespace]} if namespace in self.pair else set()))

    @property
    def outside(self) -> Leg | None:
        """The leg in the external network, None if the path does not go there."""
        external = (names.AGENT_GATEWAY, names.GATEWAY)
        return next((leg for leg in self.legs if leg.device.startswith(external)), None)

    @property
    def inside(self) -> tuple[Leg, ...]:
        """The legs in internal networks."""
        return tuple(leg for leg in self.legs if leg.device.startswith((names.INTERNAL, names.CSNAT)))


NO_PATH = AddressPath()
"""Of packets that do not pass this host."""


def whole_path(view: HostView) -> AddressPath:
    """Return the path of everything that the router has on this host."""
    legs = [*_fip_legs(view), *_central_legs(view, ""), *_internal_legs(view, "")]
    return AddressPath(_once(legs), _pair(view), is_whole=True)


def local_path(view: HostView, address: str, fixed: str) -> AddressPath:
    """Return the path of a floating IP that is built in the fip namespace and qrouter."""
    legs = [*_fip_legs(view), *_internal_legs(view, fixed)]
    return AddressPath(_once(legs), _pair(view), frozenset({address, fixed}), _others(view, {address, fixed}))


def central_path(view: HostView, address: str, fixed: str) -> AddressPath:
    """Return the path of a floating IP that is built in the namespace of the gateway port.

    The instance's answers reach the SNAT namespace by qrouter, which redirects them.
    """
    legs = [*_central_legs(view, fixed), *_internal_legs(view, fixed)]
    mine = {address, fixed} - {""}
    return AddressPath(_once(legs), {}, frozenset(mine), _others(view, mine))


def fixed_path(view: HostView, fixed: str) -> AddressPath:
    """Return the path of an instance without floating IP: qrouter, and SNAT if it is here."""
    legs = [*_central_legs(view, fixed), *_internal_legs(view, fixed)]
    return AddressPath(_once(legs), {}, frozenset({fixed}), _others(view, {fixed}))


def own_path(view: HostView, address: str, device: str) -> AddressPath:
    """Return the path to an address of the router: the leg that has it."""
    whole = whole_path(view)
    legs = tuple(leg for leg in whole.legs if leg.device == device)
    pair = whole.pair if device in whole.pair.values() or device.startswith(names.AGENT_GATEWAY) else {}
    return AddressPath(legs, pair, frozenset({address}), _others(view, {address}))


def _others(view: HostView, mine: set[str]) -> frozenset[str]:
    router = view.router
    pairs = {str(one) for fip in router.floating_ips for one in (fip.address, fip.fixed_address)}
    forwarded = {str(one.address) for one in router.features.forwarding_ips}
    return frozenset((pairs | forwarded) - mine)


def _fip_legs(view: HostView) -> list[Leg]:
    port = view.agent_gateway
    if port is None or view.fip is None:
        return []
    return [Leg(view.fip, names.device(names.AGENT_GATEWAY, port.id), port)]


def _central_legs(view: HostView, fixed: str) -> list[Leg]:
    central, gateway = view.central, view.gateway_here
    if central is None:
        return []
    outside = [] if gateway is None else [Leg(central.name, names.device(names.GATEWAY, gateway.id), gateway)]
    inside = [Leg(central.name, device, port) for device, port in central.inside if _serves(port, fixed)]
    return [*outside, *inside]


def _internal_legs(view: HostView, fixed: str) -> list[Leg]:
    ports = [port for port in view.interfaces if _serves(port, fixed)]
    return [Leg(view.qrouter, names.device(names.INTERNAL, port.id), port) for port in ports]


def _pair(view: HostView) -> dict[str, str]:
    return {view.fip: view.fpr, view.qrouter: view.rfp} if view.fip is not None else {}


def _serves(port: RouterPort, address: str) -> bool:
    """True if a port is in the subnet of an address; of any address if it is empty."""
    return not address or any(ip_address(address) in subnet.cidr for _, subnet in port_subnets(port))


def _once(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    return tuple(dict.fromkeys(legs))
