"""Draws a topology graph as a Mermaid flowchart: a subgraph per namespace, a box per device."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from dvr_agent.topology.graph import Edge, Graph, Node, printable
from dvr_agent.topology.labels import device_lines, heading, notes

_SPECIAL = re.compile(r"[^A-Za-z0-9 .:/_,()+-]")
"""Everything that could mean something to Mermaid, Markdown or HTML, or to Mermaid's directives (``%%{…}%%``)."""

Ids = Mapping[tuple[str, str], str]
"""(node, device; empty: the node itself) → its id in the chart."""


def draw(graph: Graph) -> str:
    """Return the graph as a Mermaid flowchart."""
    keys = [(node.id, device) for node in graph.nodes for device in ("", *(one.name for one in node.devices))]
    ids = {key: f"n{number}" for number, key in enumerate(keys)}
    return "\n".join(_lines(graph, ids)) + "\n"


def _lines(graph: Graph, ids: Ids) -> Iterator[str]:
    yield "flowchart TB"
    yield f"  title[{_quoted([graph.title])}]"
    for node in graph.nodes:
        if node.kind == "namespace":
            yield from _subgraph(node, ids)
        else:
            left, right = ("([", "])") if node.kind == "outside" else ("[", "]")
            yield f"  {ids[node.id, '']}{left}{_quoted([heading(node)])}{right}"
    for edge in graph.edges:
        yield _edge(edge, ids)


def _subgraph(node: Node, ids: Ids) -> Iterator[str]:
    own = ids[node.id, ""]
    yield f"  subgraph {own}[{_quoted([heading(node), *filter(None, [node.title])])}]"
    for device in node.devices:
        yield f"    {ids[node.id, device.name]}[{_quoted(device_lines(device))}]"
        if device.state == "missing":
            yield f"    style {ids[node.id, device.name]} stroke:red,stroke-dasharray:4"
    texts = notes(node)
    if texts:
        yield f"    {own}notes[{_quoted(texts)}]"
    yield "  end"


def _edge(edge: Edge, ids: Ids) -> str:
    """Return the line of an edge; what is nearer to the outside comes first, hence further up."""
    target = "" if edge.kind == "port" else edge.target_device
    ends = [ids[edge.source, edge.source_device], ids[edge.target, target]]
    if edge.kind == "gateway" or edge.source_device.startswith(("fg-", "qg-")):
        ends.reverse()
    return f"  {ends[0]} --- {ends[1]}"


def _quoted(lines: Iterable[str]) -> str:
    return (
        '"'
        + "<br/>".join(_SPECIAL.sub(lambda found: f"#{ord(found[0])};", line) for line in map(printable, lines))
        + '"'
    )
