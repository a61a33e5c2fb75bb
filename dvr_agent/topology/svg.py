"""Draws a topology graph as SVG, by itself: ``layout`` places, this module writes.

No style sheet, no script and no external resource, so that it can stand in a page with a strict Content Security
Policy.  Texts are escaped by :mod:`xml.etree.ElementTree`.  Namespaces and devices have their names in ``data-…``
attributes, for pages that show more about them.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from dvr_agent.desired import names
from dvr_agent.topology.graph import Device, Edge, Graph, Node, printable
from dvr_agent.topology.labels import device_lines, heading
from dvr_agent.topology.layout import BAR, CHAR, LINE, PAD, TITLE, Box, Layout, place, texts_of

_INK, _PAPER, _LINE = "#1b2733", "#ffffff", "#5b6b7a"
_FILL = {"qrouter": "#e8f1fb", "snat": "#fdf1e0", "fip": "#e9f7ec"}
_BAR = {True: "#d8c9ee", False: "#cfe3d6"}
"""Colour of a network's bar: external, internal."""
_STROKE = {"up": "#2e7d32", "down": "#e07b00", "missing": "#c62828"}


def draw(graph: Graph) -> str:
    """Return the graph as an SVG document."""
    layout = place(graph)
    size = {"width": _px(layout.width), "height": _px(layout.height)}
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "font-family": "monospace", "font-size": "11"})
    svg.set("viewBox", f"0 0 {size['width']} {size['height']}")
    svg.set("role", "img")
    SubElement(svg, "title").text = graph.title
    SubElement(svg, "rect", {"x": "0", "y": "0", **size, "fill": _PAPER})
    _text(svg, graph.title, PAD * 2, TITLE - PAD, {"font-size": "15", "font-weight": "bold"})
    # Behind a fip namespace the line of a gateway port would seem to end there: it is drawn last.
    for edge in graph.edges:
        if not _is_gateway_port(edge):
            _draw_edge(svg, edge, layout)
    for node in graph.nodes:
        _DRAWERS[node.kind](svg, node, layout)
    for edge in filter(_is_gateway_port, graph.edges):
        _draw_edge(svg, edge, layout)
    for edge in graph.edges:
        _draw_joints(svg, edge, layout)
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"


def _draw_namespace(svg: Element, node: Node, layout: Layout) -> None:
    group = SubElement(svg, "g", {"data-namespace": node.name})
    fill = _FILL[node.name.partition("-")[0]]
    _rect(group, layout.boxes[node.id], {"fill": fill, "stroke": _LINE, "rx": "6"})
    y = layout.texts[node.id] + LINE - PAD / 2
    for number, line in enumerate(texts_of(node)):
        style = {"font-weight": "bold"} if number == 0 else {}
        _text(group, line, layout.boxes[node.id].x + PAD, y + number * LINE, style)
    for device in node.devices:
        _draw_device(group, device, layout.chips[node.id, device.name])


def _draw_device(parent: Element, device: Device, box: Box) -> None:
    group = SubElement(parent, "g", {"data-device": printable(device.name)})
    dashed = {"stroke-dasharray": "4 3"} if device.state == "missing" else {}
    _rect(group, box, {"fill": _PAPER, "stroke": _STROKE[device.state], "stroke-width": "1.5", "rx": "3", **dashed})
    for number, line in enumerate(device_lines(device)):
        style = {"font-weight": "bold"} if number == 0 else {}
        _text(group, line, box.x + PAD, box.y + (number + 1) * LINE - PAD / 4, style)


def _draw_network(svg: Element, node: Node, layout: Layout) -> None:
    group = SubElement(svg, "g", {"data-network": node.network_id})
    box = layout.boxes[node.id]
    _rect(group, box, {"fill": _BAR[node.external], "stroke": _LINE, "rx": "3"})
    _text(group, heading(node), box.x + PAD, box.y + BAR - PAD, {})


def _draw_outside(svg: Element, node: Node, layout: Layout) -> None:
    box = layout.boxes[node.id]
    _rect(svg, box, {"fill": _PAPER, "stroke": _LINE, "rx": str(BAR // 2)})
    _text(svg, heading(node), box.centre - len(heading(node)) * CHAR / 2, box.y + BAR - PAD, {})


_DRAWERS = {"namespace": _draw_namespace, "network": _draw_network, "outside": _draw_outside}


def _is_gateway_port(edge: Edge) -> bool:
    return edge.source_device.startswith(names.GATEWAY)


def _draw_edge(svg: Element, edge: Edge, layout: Layout) -> None:
    points = " ".join(f"{_px(x)},{_px(y)}" for x, y in _points(edge, layout))
    SubElement(svg, "polyline", {"points": points, "fill": "none", "stroke": _LINE, "stroke-width": "1.5"})


def _draw_joints(svg: Element, edge: Edge, layout: Layout) -> None:
    """Draw a dot where a port is on its network: the line passes behind the bars of other networks."""
    if edge.kind == "port":
        x, y = _points(edge, layout)[-1]
        SubElement(svg, "circle", {"cx": _px(x), "cy": _px(y), "r": "3.5", "fill": _INK})


def _points(edge: Edge, layout: Layout) -> list[tuple[float, float]]:
    """Return the ends of a line: between the sides of two boxes that face each other."""
    if edge.kind == "gateway":
        bar, outside = layout.boxes[edge.source], layout.boxes[edge.target]
        return [(bar.centre, bar.y), (bar.centre, outside.bottom)]
    source = layout.chips[edge.source, edge.source_device]
    if edge.kind == "veth":
        target = layout.chips[edge.target, edge.target_device]
        return [(source.centre, source.bottom), (target.centre, target.y)]
    bar = layout.boxes[edge.target]
    is_above = bar.y < source.y
    return [
        (source.centre, source.y if is_above else source.bottom),
        (source.centre, bar.bottom if is_above else bar.y),
    ]


def _rect(parent: Element, box: Box, style: dict[str, str]) -> None:
    place_of = {"x": _px(box.x), "y": _px(box.y), "width": _px(box.width), "height": _px(box.height)}
    SubElement(parent, "rect", {**place_of, **style})


def _text(parent: Element, text: str, x: float, y: float, style: dict[str, str]) -> None:
    SubElement(parent, "text", {"x": _px(x), "y": _px(y), "fill": _INK, **style}).text = printable(text)


def _px(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
