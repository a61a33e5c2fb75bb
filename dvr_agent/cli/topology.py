"""Topology of one router or of the host: reads the kernel for :mod:`dvr_agent.topology`, and prints what it makes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, Output
from dvr_agent.desired import names
from dvr_agent.errors import NamespaceGoneError
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.topology import dot, mermaid, svg
from dvr_agent.topology.build import RouterParts, make_graph
from dvr_agent.topology.graph import Graph, as_json
from dvr_agent.topology.labels import heading

DRAWERS: dict[str, Callable[[Graph], str]] = {"dot": dot.draw, "mermaid": mermaid.draw, "svg": svg.draw}
"""Value of ``--output`` → function that draws a graph."""

_SHARED = Ownership(prefixes=(names.AGENT_GATEWAY,), main_only=True)
"""The part of a fip namespace that all routers share."""


def router_graph(host: Host, router_id: str) -> Graph:
    """Return the topology of one router."""
    _, document = host.routers.get(router_id, ("", None))
    name = f"{document.name} " if document is not None and document.name else ""
    parts = RouterParts(router_id, document, list(_states(host, router_id)))
    return make_graph(f"router {name}{router_id} on {host.host_name}", [parts], host.wiring)


def host_graph(host: Host) -> Graph:
    """Return the topology of all routers that have a namespace on this host."""
    routers = [
        RouterParts(router_id, host.routers.get(router_id, ("", None))[1], list(_states(host, router_id)))
        for router_id in host.router_names
    ]
    return make_graph(f"routers on {host.host_name}", routers, host.wiring)


def show(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl show topology``."""
    graph = host_graph(Host(load_config(args)))
    if args.output in DRAWERS:
        out.text(DRAWERS[args.output](graph))
    elif out.json:
        out.document({"topology": as_json(graph)})
    else:
        _print(graph, out)
    return 0


def _print(graph: Graph, out: Output) -> None:
    """Print the graph as text: each node with its devices, and what they are connected to."""
    ends = {(edge.source, edge.source_device): heading(graph.node(edge.target)) for edge in graph.edges}
    ends |= {
        (edge.target, edge.target_device): heading(graph.node(edge.source))
        for edge in graph.edges
        if edge.kind == "veth"
    }
    for node in graph.nodes:
        if node.kind != "namespace":
            continue
        out.line(heading(node) + (f" (router {node.title})" if node.title else ""), BOLD)
        rows = [
            (one.name, " ".join(one.addresses), one.mac, one.mtu, one.state, ends.get((node.id, one.name), ""))
            for one in node.devices
        ]
        out.table(("DEVICE", "ADDRESSES", "MAC", "MTU", "STATE", "CONNECTED TO"), rows, indent="  ")
        for translation in node.translations:
            out.line(f"  floating IP {translation.text}")
        for route in node.routes:
            out.line(f"  route {route}")


def _states(host: Host, router_id: str) -> Iterator[NamespaceState]:
    """Yield what the router's namespaces hold, with their tables and the agent gateway port of a fip namespace."""
    for name, state in host.contents(router_id):
        try:
            yield replace(_with_shared(host, name, state), tables=host.tables(name))
        except NamespaceGoneError:
            continue


def _with_shared(host: Host, name: str, state: NamespaceState) -> NamespaceState:
    """Return the state of a router's slice of a fip namespace with what all routers share there."""
    shared = host.kernel.interfaces.observe(name, _SHARED, ()) if name.startswith(names.FIP) else None
    if shared is None:
        return state
    both: dict[str, Any] = {kind.field: state.of_kind(kind) | shared.of_kind(kind) for kind in KINDS}
    return replace(state, **both)
