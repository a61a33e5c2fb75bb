"""Draws a topology graph in Graphviz' DOT language: a cluster per namespace, a box per device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dvr_agent.topology.graph import Edge, Graph, Node, printable
from dvr_agent.topology.labels import device_lines, heading, notes

_SHAPES = {"network": "box", "outside": "ellipse"}


def draw(graph: Graph) -> str:
    """Return the graph in DOT."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield "graph topology {"
    yield f"  graph [label={_quoted([graph.title])}, labelloc=t, rankdir=TB, fontname=monospace, fontsize=11];"
    yield "  node [shape=box, fontname=monospace, fontsize=10];"
    yield "  edge [fontname=monospace, fontsize=9];"
    for node in graph.nodes:
        yield from _cluster(node) if node.kind == "namespace" else _single(node)
    for edge in graph.edges:
        yield _edge(edge)
    yield "}"


def _cluster(node: Node) -> Iterator[str]:
    yield f"  subgraph {_quoted(['cluster-' + node.id])} {{"
    yield f"    label={_quoted([heading(node), *filter(None, [node.title])])};"
    for device in node.devices:
        style = ", style=dashed, color=red" if device.state == "missing" else ""
        yield f"    {_id(node.id, device.name)} [label={_quoted(device_lines(device))}{style}];"
    texts = notes(node)
    if texts:
        yield f"    {_id(node.id, '')} [shape=note, label={_quoted(texts, left=True)}];"
    yield "  }"


def _single(node: Node) -> Iterator[str]:
    yield f"  {_id(node.id, '')} [shape={_SHAPES[node.kind]}, label={_quoted([heading(node)])}];"


def _edge(edge: Edge) -> str:
    """Return the statement of an edge; what is nearer to the outside is its first node, hence further up."""
    ends = [_id(edge.source, edge.source_device), _id(edge.target, "" if edge.kind == "port" else edge.target_device)]
    if edge.kind == "gateway" or edge.source_device.startswith(("fg-", "qg-")):
        ends.reverse()
    return f"  {ends[0]} -- {ends[1]};"


def _id(node: str, device: str) -> str:
    return _quoted([f"{node} {device}" if device else node])


def _quoted(lines: Iterable[str], left: bool = False) -> str:
    r"""Return lines as a quoted string, which Graphviz shows as they are.

    Graphviz reads ``\`` and ``"`` in it, and HTML entities.

    :param left: flush left instead of centred
    """
    shown = map(printable, lines)
    replaced = [line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in shown]
    end = "\\l" if left else "\\n"
    return '"' + end.join(replaced) + (end if left else "") + '"'
