"""The values of a topology graph, and its JSON form (``docs/dvrctl.md``, "topology").

Texts from outside (names of routers) are without control characters here; a drawer escapes them for its format.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

NodeKind = Literal["namespace", "network", "outside"]
EdgeKind = Literal["veth", "port", "gateway"]
DeviceState = Literal["up", "down", "missing"]

_LONGEST = 80
"""Characters of a text from outside that a picture shows."""


@dataclass(frozen=True, slots=True)
class Device:
    """A network device in a namespace.

    :ivar state: administrative state; ``missing``: the document wants it here, and the kernel lacks it
    :ivar addresses: with prefix lengths; first IPv4, then IPv6
    :ivar outer: its other end on the host (``tap…``), or its port of Open vSwitch; empty: not known, or a pair
    """

    name: str
    mac: str
    mtu: int
    state: DeviceState
    addresses: tuple[str, ...] = ()
    outer: str = ""


@dataclass(frozen=True, slots=True)
class Translation:
    """A floating IP, or ports of it, that a namespace translates to a fixed IP.

    :ivar ports: e.g. ``tcp 2222 → 22``; empty: all of the floating IP
    """

    floating_ip: str
    fixed_ip: str
    ports: str = ""

    @property
    def text(self) -> str:
        """The translation in one line."""
        ports = f" ({self.ports})" if self.ports else ""
        return f"{self.floating_ip} → {self.fixed_ip}{ports}"


@dataclass(frozen=True, slots=True)
class Node:
    """A namespace, a layer 2 network, or the outside of an external network.

    :ivar id: unique in the graph: name of the namespace, ``network-<id>`` or ``outside-<network id>``
    :ivar name: name of the namespace, id of the network (empty: not known), or addresses of the gateways outside
    :ivar title: name of the router
    :ivar router_id: of a qrouter or snat namespace
    :ivar network_id: of a network, of a fip namespace, and of the outside
    :ivar bridge: of a network: the bridge on this host, empty if it is not known
    :ivar uplinks: of a network: devices by which its bridge leaves the host, as far as they are known
    :ivar external: of a network: routers have gateways in it
    :ivar translations: of a namespace: its floating IPs
    :ivar routes: of a namespace: its default routes, all tables, in iproute2's terms
    """

    id: str
    kind: NodeKind
    name: str
    title: str = ""
    router_id: str = ""
    network_id: str = ""
    bridge: str = ""
    uplinks: tuple[str, ...] = ()
    external: bool = False
    devices: tuple[Device, ...] = ()
    translations: tuple[Translation, ...] = ()
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """A connection: a veth pair, a port of a bridge, or the way from an external network to its gateways.

    :ivar source: id of a node, with the name of the device there (empty for a gateway edge); likewise target
    """

    kind: EdgeKind
    source: str
    target: str
    source_device: str = ""
    target_device: str = ""


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """A floating IP of a document, or one that only the kernel has.

    :ivar fixed_ip: several, with commas, where port forwardings use the floating IP
    :ivar translated_in: namespaces of this host that translate it; empty: another host does, or none
    """

    router_id: str
    floating_ip: str
    fixed_ip: str
    translated_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """The topology of one router, or of all routers of a host, as it is in the kernel.

    :ivar title: for people
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    floating_ips: tuple[FloatingIp, ...] = ()

    def node(self, node_id: str) -> Node:
        """Return a node by its id."""
        return next(node for node in self.nodes if node.id == node_id)


def as_json(graph: Graph) -> dict[str, Any]:
    """Return the graph as JSON values: the fields above under their names."""
    return asdict(graph)


def plain(text: str) -> str:
    """Return a text from outside in one line of printable characters, cut to 80."""
    return printable(text[:_LONGEST]) + ("…" if len(text) > _LONGEST else "")


def printable(text: str) -> str:
    """Return a text with numbers in place of characters that cannot be printed: names of devices may have any."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    """Return a character, or its number: control characters, line ends, and what turns the direction of a text."""
    return char if char.isprintable() else f"\\u{ord(char):04x}"
