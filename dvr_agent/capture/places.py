"""Where the packets of a router or a floating IP can be seen on this host, from the outside to the instance.

Pure: made from the router's topology.  A floating IP's packets are selected by both of its addresses at every place, so
that packets that should have been translated and were not are seen, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from dvr_agent.desired import names
from dvr_agent.state.wiring import Wiring
from dvr_agent.topology.graph import Device, Graph, Node

MAX_ADDRESSES = 200
"""Addresses in a filter: the kernel takes programs of at most 4096 instructions (BPF_MAXINSNS)."""

_TITLES = {
    names.AGENT_GATEWAY: "fip namespace, external network",
    names.FIP_TO_ROUTER: "fip namespace, pair to the router",
    names.ROUTER_TO_FIP: "router, pair to the fip namespace",
    names.GATEWAY: "gateway port, external network",
    names.CSNAT: "snat namespace, internal network",
    names.INTERNAL: "router, internal network",
}
"""Beginning of a device's name → what it is, in the order in which packets from the outside pass."""
_EXTERNAL = (names.AGENT_GATEWAY, names.GATEWAY)


@dataclass(frozen=True, slots=True)
class Place:
    """A device at which packets are captured.

    :ivar namespace: empty for the host's own
    :ivar title: what the place is, for people
    :ivar filter: in the syntax of pcap-filter(7); empty: all packets
    """

    namespace: str
    device: str
    title: str
    filter: str

    @property
    def name(self) -> str:
        """Name of the interface in a capture file: ``<namespace>:<device>``."""
        return f"{self.namespace or 'host'}:{self.device}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The packets that are wanted.

    :ivar addresses: of the packets; empty: all packets that pass a device of the router
    :ivar shared: addresses or networks of the packets at devices that other routers use, too
    :ivar fixed: only internal devices in the subnets of these addresses; empty: all internal devices
    :ivar instance_ports: ids of the ports of instances, whose devices may be on this host
    """

    addresses: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    instance_ports: tuple[str, ...] = ()


def find_places(graph: Graph, wiring: Wiring, wanted: Wanted) -> list[Place]:
    """Return the places, from the outside inwards, each once.

    :param graph: topology of one router
    """
    own, shared = make_filter(wanted.addresses), make_filter(wanted.addresses or wanted.shared)
    found = list(_uplinks(graph, shared))
    for prefix in _TITLES:
        for node, device in _devices(graph, prefix, wanted):
            chosen = shared if prefix == names.AGENT_GATEWAY else own
            ends = [Place(node.name, device.name, _TITLES[prefix], chosen), *_outer(device, wiring, chosen)]
            found += reversed(ends) if prefix in _EXTERNAL else ends
    found += _instances(wiring, wanted, own)
    return list(dict.fromkeys(found))


def make_filter(addresses: Iterable[str]) -> str:
    """Return the filter for packets from or to addresses or networks; empty (all packets) for none or too many."""
    found = list(dict.fromkeys(addresses))
    if len(found) > MAX_ADDRESSES:
        return ""
    return " or ".join(f"net {one}" if "/" in one else f"host {one}" for one in found)


def command(place: Place, *options: str) -> list[str]:
    """Return the command that captures at a place, as arguments."""
    entered = ["ip", "netns", "exec", place.namespace] if place.namespace else []
    return [*entered, "tcpdump", *options, "-i", place.device, *([place.filter] if place.filter else [])]


def _devices(graph: Graph, prefix: str, wanted: Wanted) -> Iterator[tuple[Node, Device]]:
    for node in graph.nodes:
        for device in node.devices:
            if device.name.startswith(prefix) and device.state != "missing" and _is_wanted(device, prefix, wanted):
                yield node, device


def _is_wanted(device: Device, prefix: str, wanted: Wanted) -> bool:
    """True for a device outside, and for one in the subnet of a wanted fixed IP."""
    if prefix not in (names.INTERNAL, names.CSNAT) or not wanted.fixed:
        return True
    networks = [ip_interface(cidr).network for cidr in device.addresses]
    return any(ip_address(address) in network for address in wanted.fixed for network in networks)


def _uplinks(graph: Graph, chosen: str) -> Iterator[Place]:
    for node in graph.nodes:
        for device in node.uplinks if node.kind == "network" and node.external else ():
            yield Place("", device, f"uplink of {node.bridge}", chosen)


def _outer(device: Device, wiring: Wiring, chosen: str) -> Iterator[Place]:
    """Yield the other end of a port, if it is a device of the host."""
    wire = wiring.of_device(device.name)
    if wire is not None and wire.capturable:
        yield Place("", wire.outer, f"port of {wire.bridge or 'no bridge'} to {device.name}", chosen)


def _instances(wiring: Wiring, wanted: Wanted, chosen: str) -> Iterator[Place]:
    for port in wanted.instance_ports:
        wire = wiring.wires.get(port[: names.STEM])
        if wire is not None and wire.capturable:
            yield Place("", wire.outer, "instance", chosen)
