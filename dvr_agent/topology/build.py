"""Makes the topology graph of routers from their observed states and documents.

The caller reads the kernel (:class:`RouterParts`); a namespace that several routers share may be in the parts of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6
from dvr_agent.state.translations import Inbound, inbound, rules_of
from dvr_agent.state.wiring import Wiring
from dvr_agent.topology.graph import Device, DeviceState, Edge, FloatingIp, Graph, Node, Translation, plain

_EXTERNAL = (names.AGENT_GATEWAY, names.GATEWAY)
"""Devices of ports in external networks."""


class RouterParts(NamedTuple):
    """One router as it is on this host.

    :ivar document: None: it has none that can be used
    :ivar states: what its namespaces hold: links, addresses, routes and tables count
    """

    router_id: str
    document: Router | None
    states: Sequence[NamespaceState]


@dataclass
class _Namespace:
    """What is known of a namespace, from all routers that have a part in it."""

    prefix: str
    uuid: str
    title: str = ""
    devices: dict[str, Device] = field(default_factory=dict)
    translations: dict[Translation, None] = field(default_factory=dict)
    routes: set[str] = field(default_factory=set)
    gateways: dict[str, set[str]] = field(default_factory=dict)
    """Device in an external network → gateways of the default routes by it."""


def make_graph(title: str, routers: Iterable[RouterParts], wiring: Wiring | None = None) -> Graph:
    """Make the graph of one or several routers.

    :param title: for people, e.g. the router's name and id
    :param wiring: layer 2 sides of the ports; None: they are not known
    """
    routers = list(routers)
    wiring = wiring or Wiring()
    found = _namespaces(routers, wiring)
    networks = _networks(routers, found)
    nodes = [_namespace_node(name, one) for name, one in sorted(found.items())]
    edges = [*_pairs(found), *_ports(found, networks)]
    nodes += _network_nodes(edges, found, networks, wiring)
    for node in [node for node in nodes if node.kind == "network" and node.external]:
        outside = _outside(node, edges, found)
        if outside is not None:
            nodes.append(outside)
            edges.append(Edge("gateway", node.id, outside.id))
    return Graph(plain(title), tuple(nodes), tuple(edges), tuple(_floating_ips(routers)))


# --- namespaces ----------------------------------------------------------------------------------------------------


def _namespaces(routers: Iterable[RouterParts], wiring: Wiring) -> dict[str, _Namespace]:
    found: dict[str, _Namespace] = {}
    for router in routers:
        for state in router.states:
            parsed = names.parse_namespace(state.name)
            if parsed is None:
                continue
            namespace = found.setdefault(state.name, _Namespace(*parsed))
            if namespace.prefix != names.FIP and router.document is not None:
                namespace.title = plain(router.document.name)
            _read(state, namespace, wiring)
            for device in _missing(router.document, namespace, state):
                namespace.devices[device.name] = device
    return found


def _read(state: NamespaceState, namespace: _Namespace, wiring: Wiring) -> None:
    for link in state.links:
        namespace.devices[link.name] = _device(link, state, wiring)
    for route in state.routes:
        if route.dst in (DEFAULT_V4, DEFAULT_V6):
            namespace.routes.add(route.text.removeprefix("route "))
            for hop in route.hops:
                if hop.gateway is not None:
                    namespace.gateways.setdefault(hop.device, set()).add(hop.gateway)
    for one in inbound(rules_of(state.tables)):
        namespace.translations[_translation(one)] = None


def _device(link: Link, state: NamespaceState, wiring: Wiring) -> Device:
    addresses = [one.cidr for one in state.addresses if one.device == link.name]
    wire = wiring.of_device(link.name)
    is_up: DeviceState = "up" if link.up else "down"
    ordered = tuple(sorted(addresses, key=lambda cidr: (":" in cidr, cidr)))
    return Device(link.name, link.mac, link.mtu, is_up, ordered, wire.outer if wire is not None else "")


def _translation(one: Inbound) -> Translation:
    if one.ports is None:
        return Translation(one.address, one.fixed)
    protocol, first, last = one.ports
    outside = str(first) if first == last else f"{first}-{last}"
    to = one.to[0]
    inside = "" if to is None else f" → {to[0]}" if to[0] == to[1] else f" → {to[0]}-{to[1]}"
    return Translation(one.address, one.fixed, f"{protocol} {outside}{inside}")


def _missing(document: Router | None, namespace: _Namespace, state: NamespaceState) -> Iterator[Device]:
    """Yield the devices that a document wants in a namespace that is there, and that the kernel lacks."""
    present = {link.name for link in state.links}
    for prefix, port in _wanted(document, namespace.prefix):
        name = names.device(prefix, port.id)
        if name not in present:
            yield Device(name, port.mac, port.mtu, "missing", tuple(fixed.cidr for fixed in port.fixed_ips))


def _wanted(document: Router | None, namespace_prefix: str) -> Iterator[tuple[str, RouterPort]]:
    """Yield (prefix of the device, port) of a router's own ports in its qrouter or snat namespace."""
    if document is None or namespace_prefix == names.FIP:
        return
    is_central = (namespace_prefix == names.SNAT) == document.distributed
    internal = document.snat_interfaces if namespace_prefix == names.SNAT else document.interfaces
    prefix = names.CSNAT if namespace_prefix == names.SNAT else names.INTERNAL
    yield from ((prefix, port) for port in internal if port.admin_state_up)
    if is_central and document.gateway is not None:
        yield names.GATEWAY, document.gateway


def _namespace_node(name: str, one: _Namespace) -> Node:
    is_fip = one.prefix == names.FIP
    return Node(
        name,
        "namespace",
        name,
        one.title,
        router_id="" if is_fip else one.uuid,
        network_id=one.uuid if is_fip else "",
        devices=tuple(one.devices[device] for device in sorted(one.devices)),
        translations=tuple(sorted(one.translations, key=lambda each: (each.floating_ip, each.fixed_ip, each.ports))),
        routes=tuple(sorted(one.routes)),
    )


# --- connections ---------------------------------------------------------------------------------------------------


def _pairs(found: dict[str, _Namespace]) -> Iterator[Edge]:
    """Yield the veth pairs between fip and qrouter namespaces: both ends have the same stem in their names."""
    inner = {
        device.partition("-")[2]: (name, device)
        for name, one in found.items()
        for device in one.devices
        if device.startswith(names.ROUTER_TO_FIP)
    }
    for name, one in sorted(found.items()):
        for device in sorted(one.devices):
            stem = device.removeprefix(names.FIP_TO_ROUTER)
            if stem != device and stem in inner:
                target, other = inner[stem]
                yield Edge("veth", name, target, device, other)


def _networks(routers: Iterable[RouterParts], found: dict[str, _Namespace]) -> dict[str, str]:
    """Return device of a port → id of its network, by documents and by the names of fip namespaces."""
    known = {
        device: one.uuid
        for one in found.values()
        if one.prefix == names.FIP
        for device in one.devices
        if device.startswith(names.AGENT_GATEWAY)
    }
    for router in routers:
        if router.document is not None:
            known |= _ports_of(router.document)
    return known


def _ports_of(router: Router) -> dict[str, str]:
    ports = [(names.INTERNAL, port) for port in router.interfaces]
    ports += [(names.CSNAT, port) for port in router.snat_interfaces]
    ports += [(names.AGENT_GATEWAY, port) for port in router.agent_gateways]
    ports += [(names.GATEWAY, router.gateway)] if router.gateway is not None else []
    ports += [(names.HA, router.ha_interface.port)] if router.ha_interface is not None else []
    return {names.device(prefix, port.id): port.network_id for prefix, port in ports}


def _ports(found: dict[str, _Namespace], networks: dict[str, str]) -> Iterator[Edge]:
    """Yield the connections of ports to their networks; a device without a document gets a network of its own."""
    for name, one in sorted(found.items()):
        for device in one.devices.values():
            if device.name.startswith(names.PORT_PREFIXES):
                network = networks.get(device.name, f"of-{device.name}")
                yield Edge("port", name, f"network-{network}", device.name, device.outer)


def _network_nodes(
    edges: Iterable[Edge], found: dict[str, _Namespace], networks: dict[str, str], wiring: Wiring
) -> list[Node]:
    devices: dict[str, list[str]] = {}
    for edge in edges:
        if edge.kind == "port":
            devices.setdefault(edge.target, []).append(edge.source_device)
    return [_network_node(node_id, inside, networks, wiring) for node_id, inside in sorted(devices.items())]


def _network_node(node_id: str, devices: list[str], networks: dict[str, str], wiring: Wiring) -> Node:
    wires = [wire for wire in map(wiring.of_device, devices) if wire is not None]
    bridge = next((wire.bridge for wire in wires if wire.bridge), "")
    network = networks.get(devices[0], "")
    return Node(
        node_id,
        "network",
        network,
        network_id=network,
        bridge=bridge,
        uplinks=wiring.uplinks.get(bridge, ()),
        external=any(device.startswith(_EXTERNAL) for device in devices),
    )


def _outside(network: Node, edges: Iterable[Edge], found: dict[str, _Namespace]) -> Node | None:
    """Return the outside of an external network: the gateways of default routes into it; None: there is none."""
    gateways: set[str] = set()
    for edge in edges:
        if edge.target == network.id and edge.source_device.startswith(_EXTERNAL):
            gateways |= found[edge.source].gateways.get(edge.source_device, set())
    name = ", ".join(sorted(gateways))
    return Node(f"outside-{network.network_id}", "outside", name, network_id=network.network_id) if gateways else None


# --- floating IPs --------------------------------------------------------------------------------------------------


def _floating_ips(routers: Iterable[RouterParts]) -> Iterator[FloatingIp]:
    """Yield the floating IPs of documents and kernel, by router and address."""
    for router in sorted(routers, key=lambda one: one.router_id):
        fixed: dict[str, dict[str, None]] = {}
        places: dict[str, dict[str, None]] = {}
        for state in router.states:
            for one in inbound(rules_of(state.tables)):
                fixed.setdefault(one.address, {})[one.fixed] = None
                places.setdefault(one.address, {})[state.name] = None
        for fip in router.document.floating_ips if router.document is not None else ():
            fixed[str(fip.address)] = {str(fip.fixed_address): None}
        for address in sorted(fixed):
            yield FloatingIp(router.router_id, address, ", ".join(fixed[address]), tuple(places.get(address, ())))
