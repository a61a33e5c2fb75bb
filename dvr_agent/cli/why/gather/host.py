"""Reads layer 2 of the host: devices, what bridges have learned, its packet filter, ports of Open vSwitch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why.address_path import AddressPath
from dvr_agent.cli.why.facts import HostFacts, NamespaceFacts, OvsPort
from dvr_agent.cli.why.gather.ip_text import parse_fdb, parse_links
from dvr_agent.cli.why.gather.namespace import read_filters
from dvr_agent.cli.why.gather.tools import ToolError, ip, run
from dvr_agent.kernel import sysctl
from dvr_agent.settings import AttachSettings

_SWITCH = f"{sysctl.ROOT}bridge/bridge-nf-call-iptables"


def read_host(path: AddressPath, attach: AttachSettings, port_ids: Collection[str]) -> HostFacts:
    """Read layer 2 as far as the path passes it.

    :param port_ids: of the instance's port, and of the router's ports
    """
    unread: dict[str, str] = {}
    try:
        links = parse_links(ip("", "-j", "-d", "link", "show"))
    except (ToolError, ValueError) as exc:
        unread["links"], links = str(exc), ()
    here = NamespaceFacts("", links=links, filters=read_filters("", unread), unread=unread)
    taps = {tap_name(leg.port.id) for leg in path.legs}
    bridges = {link.master for link in links if link.name in taps and link.master}
    filtered = sysctl.read_here([_SWITCH])[0] == "1"
    is_ovs = attach.driver == "openvswitch"
    ovs = read_ovs(attach.ovs.ovsdb_connection, port_ids) if is_ovs else None
    return HostFacts(here, {bridge: _learned(bridge) for bridge in sorted(bridges)}, filtered, ovs)


def _learned(bridge: str) -> Mapping[str, tuple[str, ...]]:
    try:
        return parse_fdb(run("bridge", "-j", "fdb", "show", "br", bridge))
    except (ToolError, ValueError):
        return {}


def read_ovs(connection: str, port_ids: Collection[str]) -> tuple[OvsPort, ...]:
    """Read the ports of Open vSwitch with these Neutron port ids; none if it does not answer."""
    command = ("ovs-vsctl", f"--db={connection}", "--timeout=5", "-f", "json")
    try:
        interfaces = run(*command, "--columns=name,external_ids,error", "list", "Interface")
        ports = run(*command, "--columns=name,tag", "list", "Port")
    except ToolError:
        return ()
    return parse_ovs(interfaces, ports, port_ids)


def parse_ovs(interfaces: str, ports: str, port_ids: Collection[str]) -> tuple[OvsPort, ...]:
    """Parse what ``ovs-vsctl -f json list`` prints of the tables Interface and Port."""
    tags = {row[0]: row[1] if isinstance(row[1], int) else None for row in _rows(ports)}
    found = []
    for name, ids, error in _rows(interfaces):
        values = dict(ids[1]) if isinstance(ids, list) else {}
        port_id = values.get("iface-id", "")
        if port_id in port_ids:
            text = error if isinstance(error, str) else ""
            tag = tags.get(name)
            shown = f"Port {name} tag: {tag if tag is not None else '[]'}" + (f" error: {text}" if text else "")
            found.append(OvsPort(name, "", tag, port_id, text, shown))
    return tuple(found)


def _rows(text: str) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(text or '{"data": []}')["data"]
    return rows
