"""The topology graph of routers, and its drawings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvr_agent.topology import dot, mermaid, svg
from dvr_agent.topology.build import RouterParts, make_graph
from dvr_agent.topology.graph import Device, Graph, as_json, plain
from dvr_agent.topology.layout import Box, place
from tests.support.topology_parts import (
    EXTERNAL,
    FG,
    FIP,
    FPR,
    INTERNAL,
    QG,
    QR,
    QROUTER,
    RFP,
    ROUTER_ID,
    SG,
    SNAT,
    WIRING,
    fip,
    parts,
    qrouter,
)

HOSTILE = [
    '"]; end; evil["',
    "</text><script>alert(1)</script>",
    "a & b &lt;img src=x onerror=alert(1)&gt; \\N \\G \\l",
    "%%{init: {'securityLevel': 'loose'}}%%",
    "\x1b[2J\n]]>\u202e\u2028#quot;`**x**`",
    'click n1 "https://example.org"',
]


def graph_of(name: str = "edge") -> Graph:
    return make_graph(f"router {name}", [parts(name)], WIRING)


# --- the graph -----------------------------------------------------------------------------------------------------


def test_devices_are_connected_as_kernel_and_document_say() -> None:
    graph = graph_of()
    network, outer = f"network-{INTERNAL}", f"network-{EXTERNAL}"
    assert {(edge.kind, edge.source, edge.source_device, edge.target, edge.target_device) for edge in graph.edges} == {
        ("veth", FIP, FPR, QROUTER, RFP),
        ("port", FIP, FG, outer, "tap8ff41de9-3e"),
        ("port", QROUTER, QR, network, "tap7fb6853b-e0"),
        ("port", SNAT, SG, network, ""),
        ("port", SNAT, QG, outer, ""),
        ("gateway", outer, "", f"outside-{EXTERNAL}", ""),
    }
    assert graph.node(f"outside-{EXTERNAL}").name == "203.0.113.1"
    external = graph.node(outer)
    assert (external.external, external.bridge, external.uplinks) == (True, "br-ex", ("eth1",))
    assert (graph.node(network).external, graph.node(network).bridge) == (False, "brq8328c29f-72")


def test_devices_have_their_state_also_those_that_are_missing() -> None:
    graph = graph_of()
    states = {device.name: device.state for node in graph.nodes for device in node.devices}
    assert states == {QR: "up", RFP: "up", FG: "up", FPR: "down", SG: "up", QG: "missing"}
    (missing,) = (device for device in graph.node(SNAT).devices if device.name == QG)
    assert missing.addresses == ("203.0.113.193/24",)
    assert graph.node(QROUTER).devices[0].addresses == ("10.1.0.1/24",)


def test_floating_ips_stand_where_the_kernel_translates_them() -> None:
    graph = graph_of()
    assert [one.text for one in graph.node(QROUTER).translations] == ["203.0.113.183 → 10.1.0.112"]
    assert [one.text for one in graph.node(SNAT).translations] == ["203.0.113.50 → 10.1.0.5 (tcp 2222 → 22)"]
    assert [(one.floating_ip, one.fixed_ip, one.translated_in) for one in graph.floating_ips] == [
        ("203.0.113.183", "10.1.0.112", (QROUTER,)),
        ("203.0.113.50", "10.1.0.5", (SNAT,)),
    ]
    assert graph.node(FIP).routes == ("default via 203.0.113.1 dev fg-8ff41de9-3e table 2852021975",)


def test_a_router_without_a_document_is_drawn_from_the_kernel_alone() -> None:
    graph = make_graph("x", [RouterParts(ROUTER_ID, None, [qrouter(), fip()])])
    network = next(edge.target for edge in graph.edges if edge.source_device == QR)
    assert graph.node(network).name == ""
    assert graph.node(f"network-{EXTERNAL}").network_id == EXTERNAL  # the fip namespace has its network in its name
    for draw in (dot.draw, mermaid.draw, svg.draw):
        assert "network not known" in draw(graph)


def test_what_routers_share_is_one_node() -> None:
    other = "b" * 8 + ROUTER_ID[8:]
    state = fip()
    graph = make_graph("host", [parts(), RouterParts(other, None, [state])])
    assert [node.id for node in graph.nodes].count(FIP) == 1


def test_the_json_form_has_all_fields() -> None:
    found = json.loads(json.dumps(as_json(graph_of())))
    assert set(found) == {"title", "nodes", "edges", "floating_ips"}
    (node,) = (node for node in found["nodes"] if node["id"] == QROUTER)
    assert node["devices"][0] == {
        "name": QR,
        "mac": "fa:16:3e:00:00:01",
        "mtu": 1450,
        "state": "up",
        "addresses": ["10.1.0.1/24"],
        "outer": "tap7fb6853b-e0",
    }


@given(st.text())
def test_texts_from_outside_become_one_printable_line(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) <= 81 * 10


# --- drawings ------------------------------------------------------------------------------------------------------


def svg_texts(text: str) -> list[str]:
    root = ElementTree.fromstring(text)
    return [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_text_in_svg(name: str) -> None:
    elements = list(ElementTree.fromstring(svg.draw(graph_of(name))).iter())
    tags = {one.tag.partition("}")[2] for one in elements}
    assert tags == {"svg", "title", "rect", "text", "g", "polyline", "circle"}
    attributes = {key for one in elements for key in one.attrib}
    assert not [key for key in attributes if key.startswith("on") or key in ("style", "href", "class", "id")]
    assert not [one for one in elements for value in one.attrib.values() if "url(" in value]


@pytest.mark.parametrize("name", ["\x1b[31m", "\udcff", "\x01", "\u202e"])
@pytest.mark.parametrize("draw", [svg.draw, dot.draw, mermaid.draw])
def test_device_with_a_name_that_cannot_be_printed_is_drawn(name: str, draw: Callable[[Graph], str]) -> None:
    graph = graph_of()
    node = next(one for one in graph.nodes if one.devices)
    odd = replace(node, devices=(*node.devices, Device(f"qr-{name}", "", 1500, "up", (), name)), uplinks=(name,))
    drawn = draw(replace(graph, nodes=tuple(odd if one is node else one for one in graph.nodes)))
    assert "".join(drawn.split()).isprintable()
    if draw is svg.draw:
        ElementTree.fromstring(drawn)


def test_a_hostile_name_stands_in_svg_as_it_is() -> None:
    title = 'a <b> & "c" ]]>'
    assert title in svg_texts(svg.draw(make_graph(title, [parts()])))


def nothing_overlaps(boxes: list[Box]) -> bool:
    pairs = ((one, other) for number, one in enumerate(boxes) for other in boxes[:number])
    return not any(
        one.x < other.right and other.x < one.right and one.y < other.bottom and other.y < one.bottom
        for one, other in pairs
    )


def test_no_box_covers_another_one() -> None:
    layout = place(graph_of())
    assert nothing_overlaps(list(layout.boxes.values()))
    assert nothing_overlaps(list(layout.chips.values()))
    for (node, _), chip in layout.chips.items():
        box = layout.boxes[node]
        assert box.x < chip.x
        assert chip.right < box.right
        assert box.y < chip.y
        assert chip.bottom < box.bottom


QUOTED = r'"(?:[A-Za-z0-9 .:/_,()+-]|#\d+;|<br/>)*"'
MERMAID = [
    r"flowchart TB",
    rf"  title\[{QUOTED}\]",
    rf"  subgraph n\d+\[{QUOTED}\]",
    r"  end",
    rf"    n\d+(?:notes)?\[{QUOTED}\]",
    r"    style n\d+ stroke:red,stroke-dasharray:4",
    rf"  n\d+(?:\[{QUOTED}\]|\(\[{QUOTED}\]\))",
    r"  n\d+ --- n\d+",
]


def mermaid_text(line: str) -> str:
    """The text that Mermaid shows for a line."""
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), line)


@pytest.mark.parametrize("title", ["edge", *HOSTILE])
def test_each_line_of_a_mermaid_chart_is_one_of_its_statements(title: str) -> None:
    lines = mermaid.draw(make_graph(title, [parts()], WIRING)).splitlines()
    assert [line for line in lines if not any(re.fullmatch(form, line) for form in MERMAID)] == []
    assert lines.count("  end") == sum(line.startswith("  subgraph") for line in lines) == 3
    declared = {found[1] for line in lines if (found := re.match(r"\s+(?:subgraph )?(n\d+)[\[(]", line))}
    used = {one for line in lines if " --- " in line for one in line.split() if one != "---"}
    assert used <= declared
    assert mermaid_text(lines[1]) == f'  title["{plain(title)}"]'


@pytest.mark.parametrize("title", ["edge", *HOSTILE])
def test_graphviz_reads_what_is_drawn_for_it(title: str) -> None:
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    drawn = dot.draw(make_graph(title, [parts()], WIRING))
    done = subprocess.run(["dot", "-Tsvg"], input=drawn, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    texts = svg_texts(done.stdout)
    assert plain(title) in [text.replace("\xa0", " ") for text in texts]
    for device in (QR, RFP, FG, FPR, SG, QG):
        assert device in texts


DRAWERS: list[Callable[[Graph], str]] = [dot.draw, mermaid.draw, svg.draw]


@settings(max_examples=30)
@given(st.text(max_size=100))
def test_any_title_can_be_drawn(title: str) -> None:
    graph = make_graph(title, [parts()], WIRING)
    for draw in DRAWERS:
        draw(graph).encode()
    ElementTree.fromstring(svg.draw(graph))
