"""Places the boxes and lines of a topology picture: the way from the outside to the networks of instances, downwards.

Five rows: outside, external networks (bars), fip namespaces, the routers' namespaces, internal networks (bars).  The
routers of one external network stand side by side, those that a fip namespace leads to first; the fip namespace is as
wide as these, and each veth pair a straight line.  Used by ``svg``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dvr_agent.desired import names
from dvr_agent.topology.graph import Device, Graph, Node
from dvr_agent.topology.labels import device_lines, heading, notes

CHAR, LINE, PAD, GAP = 7, 16, 8, 28
"""Width of a character, height of a line, space inside a box, space between boxes, in pixels."""
TITLE, BAR, ROW_GAP = 34, 26, 46
"""Height of the title and of a network's bar, space between rows."""

_UPWARDS = (names.AGENT_GATEWAY, names.GATEWAY, names.ROUTER_TO_FIP)
"""Devices on the upper side of a box: the way to the outside."""


@dataclass
class Box:
    """A rectangle, in pixels.

    :ivar x: left side; ``y``: upper side
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> float:
        """Middle of its width."""
        return self.x + self.width / 2

    @property
    def right(self) -> float:
        """Right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Lower side."""
        return self.y + self.height


@dataclass
class Layout:
    """Where everything is.

    :ivar boxes: node id → its box
    :ivar chips: (node id, device) → the device's box in that of its namespace
    :ivar texts: node id → upper side of the text of a namespace, which stands between the devices above and below
    """

    width: float = 0
    height: float = 0
    boxes: dict[str, Box] = field(default_factory=dict)
    chips: dict[tuple[str, str], Box] = field(default_factory=dict)
    texts: dict[str, float] = field(default_factory=dict)


def texts_of(node: Node) -> list[str]:
    """Return the lines of a namespace's box beside its devices."""
    return [heading(node), *([f"router {node.title}"] if node.title else []), *notes(node)]


def place(graph: Graph) -> Layout:
    """Return the layout of a graph."""
    layout = Layout()
    bars = [len(heading(node)) * CHAR + 4 * PAD for node in graph.nodes if node.kind == "network" and node.external]
    x = float(GAP)
    for routers, fips in _groups(graph):
        right = _place_group(layout, graph, x, routers, fips)
        x = max(right, x + max(bars, default=0)) + GAP  # the bars of two external networks stand side by side
    _place_bars(layout, graph)
    layout.width = max([box.right for box in layout.boxes.values()] + [len(graph.title) * CHAR * 1.3 + GAP]) + GAP
    layout.height = max([box.bottom for box in layout.boxes.values()] + [TITLE]) + GAP
    return layout


def _groups(graph: Graph) -> list[tuple[list[Node], list[Node]]]:
    """Return (namespaces of routers, fip namespaces) by external network; routers without one come last."""
    network_of = _external_of(graph)
    found: dict[str, tuple[list[Node], list[Node]]] = {}
    for node in graph.nodes:
        if node.kind == "namespace":
            is_fip = not node.router_id
            key = node.network_id if is_fip else network_of.get(node.router_id, "~")
            found.setdefault(key, ([], []))[1 if is_fip else 0].append(node)
    with_pair = {node.router_id for node in graph.nodes if _has(node, names.ROUTER_TO_FIP)}
    for routers, _ in found.values():
        routers.sort(key=lambda node: (node.router_id not in with_pair, node.router_id, node.name))
    return [found[key] for key in sorted(found)]


def _external_of(graph: Graph) -> dict[str, str]:
    """Return router id → the external network that it is connected to, by a fip namespace or by a gateway port."""
    nodes = {node.id: node for node in graph.nodes}
    found: dict[str, str] = {}
    for edge in graph.edges:
        if edge.kind == "veth":
            found.setdefault(nodes[edge.target].router_id, nodes[edge.source].network_id)
    for edge in graph.edges:
        if edge.source_device.startswith(names.GATEWAY):
            found.setdefault(nodes[edge.source].router_id, nodes[edge.target].network_id)
    return found


def _has(node: Node, prefix: str) -> bool:
    return any(device.name.startswith(prefix) for device in node.devices)


# --- namespaces ----------------------------------------------------------------------------------------------------


def _place_group(layout: Layout, graph: Graph, x: float, routers: Sequence[Node], fips: Sequence[Node]) -> float:
    """Place the namespaces of one external network from ``x`` on; return the right side.

    Until :func:`_place_bars` moves everything the fip row ends at 0, and the routers' row begins below it.
    """
    left = right = x
    for node in routers:
        right = _place_namespace(layout, node, right, ROW_GAP, {}) + GAP
    for node in fips:
        above = {
            edge.source_device: layout.chips[edge.target, edge.target_device].centre
            for edge in graph.edges
            if edge.kind == "veth" and edge.source == node.id and edge.target in layout.boxes
        }
        end = _place_namespace(layout, node, left, 0, above) + GAP
        _move_up(layout, node)
        right = max(right, end)
        left = end if not above else left
    return right


def _place_namespace(layout: Layout, node: Node, x: float, y: float, centres: Mapping[str, float]) -> float:
    """Place a namespace with its devices; return its right side.

    :param centres: devices on the lower side whose place is given, by their middle
    """
    up = [device for device in node.devices if device.name.startswith(_UPWARDS)]
    down = [device for device in node.devices if not device.name.startswith(_UPWARDS)]
    texts = texts_of(node)
    upper = _place_row(layout, node, up, x + PAD, y, {})
    text_y = y + _row_height(up)
    lower_y = text_y + len(texts) * LINE + PAD
    lower = _place_row(layout, node, down, x + PAD, lower_y, centres)
    width = max(upper, lower, x + max(map(len, texts)) * CHAR + PAD) + PAD - x
    layout.texts[node.id] = text_y
    layout.boxes[node.id] = Box(x, y, width, lower_y + _row_height(down) - y)
    return x + width


def _place_row(
    layout: Layout, node: Node, devices: Iterable[Device], x: float, y: float, centres: Mapping[str, float]
) -> float:
    """Place devices side by side; return the right side of the last."""
    right = x
    for device in sorted(devices, key=lambda one: (centres.get(one.name, float("inf")), one.name)):
        lines = device_lines(device)
        width = max(map(len, lines)) * CHAR + 2 * PAD
        left = max(right, centres.get(device.name, 0) - width / 2)
        layout.chips[node.id, device.name] = Box(left, y + PAD, width, len(lines) * LINE + PAD)
        right = left + width + PAD
    return right


def _row_height(devices: Sequence[Device]) -> float:
    return max((len(device_lines(device)) * LINE + PAD for device in devices), default=0) + (
        2 * PAD if devices else PAD
    )


def _move_up(layout: Layout, node: Node) -> None:
    """Move a namespace above the line 0."""
    _shift(layout, node.id, -layout.boxes[node.id].height)


def _shift(layout: Layout, node_id: str, by: float) -> None:
    layout.boxes[node_id].y += by
    if node_id in layout.texts:
        layout.texts[node_id] += by
    for (owner, _), chip in layout.chips.items():
        if owner == node_id:
            chip.y += by


# --- networks ------------------------------------------------------------------------------------------------------


def _place_bars(layout: Layout, graph: Graph) -> None:
    """Place networks and outsides, and move everything down below the title."""
    upper = min((box.y for box in layout.boxes.values()), default=0)
    lower = max((box.bottom for box in layout.boxes.values()), default=0)
    external = [node for node in graph.nodes if node.kind == "network" and node.external]
    internal = [node for node in graph.nodes if node.kind == "network" and not node.external]
    _stack(layout, graph, internal, lower + ROW_GAP, 1)
    _stack(layout, graph, external, upper - ROW_GAP - BAR, -1)
    top = min([layout.boxes[node.id].y for node in external], default=upper)
    for node in graph.nodes:
        if node.kind == "outside":
            bar = layout.boxes[f"network-{node.network_id}"]
            width = len(heading(node)) * CHAR + 4 * PAD
            layout.boxes[node.id] = Box(bar.centre - width / 2, top - ROW_GAP - BAR, width, BAR)
    shift = TITLE + GAP - min((box.y for box in layout.boxes.values()), default=0)
    for box in (*layout.boxes.values(), *layout.chips.values()):
        box.y += shift
    layout.texts = {node_id: y + shift for node_id, y in layout.texts.items()}


def _stack(layout: Layout, graph: Graph, bars: Iterable[Node], y: float, direction: int) -> None:
    """Place bars over the width of what is connected to them; those that would overlap in another line."""
    ends: list[float] = []
    for node, (left, right) in sorted(_spans(layout, graph, bars), key=lambda one: one[1]):
        line = next((number for number, end in enumerate(ends) if end + GAP <= left), len(ends))
        ends[line:] = [right, *ends[line + 1 :]]
        layout.boxes[node.id] = Box(left, y + direction * line * (BAR + PAD * 2), right - left, BAR)


def _spans(layout: Layout, graph: Graph, bars: Iterable[Node]) -> list[tuple[Node, tuple[float, float]]]:
    connected: dict[str, list[Box]] = {}
    for edge in graph.edges:
        if edge.kind == "port":
            connected.setdefault(edge.target, []).append(layout.chips[edge.source, edge.source_device])
    found = []
    for node in bars:
        chips = connected[node.id]
        left, right = min(chip.x for chip in chips), max(chip.right for chip in chips)
        found.append((node, (left, max(right, left + len(heading(node)) * CHAR + 2 * PAD))))
    return found
