"""Reads layer 2 of the host: devices, what bridges have learned, its packet filter, ports of Open vSwitch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from dvr_agent.cli.why.address_path import AddressPath
from dvr_agent.cli.why.facts import HostFacts, NamespaceFacts, OvsPort
from dvr_agent.cli.why.gather.ip_text import parse_fdb, parse_links
from dvr_agent.cli.why.gather.namespace import read_filters
from dvr_agent.cli.why.gather.tools import ToolError, ip, run
from dvr_agent.errors import KernelError
from dvr_agent.kernel import sysctl
from dvr_agent.kernel.survey.host import survey_host
from dvr_agent.settings import AttachSettings
from dvr_agent.trace.segment import Segment, segment_of
from dvr_agent.trace.world import Device, Place

_SWITCH = f"{sysctl.ROOT}bridge/bridge-nf-call-iptables"


def read_host(path: AddressPath, attach: AttachSettings, port_ids: Collection[str]) -> HostFacts:
    """Read layer 2: of the host, and the segments that the path passes.

    :param port_ids: of the instance's port, and of the router's ports
    """
    unread: dict[str, str] = {}
    try:
        links = parse_links(ip("", "-j", "-d", "link", "show"))
    except (ToolError, ValueError) as exc:
        unread["links"], links = str(exc), ()
    here = NamespaceFacts("", links=links, filters=read_filters("", unread), unread=unread)
    filtered = sysctl.read_here([_SWITCH])[0] == "1"
    is_ovs = attach.driver == "openvswitch"
    ovs = read_ovs(attach.ovs.ovsdb_connection, port_ids) if is_ovs else None
    segments, peers = _neighbourhood(path, unread)
    return HostFacts(here, read_learned(), filtered, ovs, segments, peers)


def read_learned() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Read what the host's bridges have learned, none of it where that fails."""
    try:
        return parse_fdb(run("bridge", "-j", "fdb", "show"))
    except (ToolError, ValueError):
        return {}


def _neighbourhood(path: AddressPath, unread: dict[str, str]) -> tuple[dict[str, Segment], dict[str, Device]]:
    """Return the segments of the path's devices, and the other ends of the host's veth pairs."""
    try:
        world = survey_host()
    except KernelError as exc:
        unread["segments"] = str(exc)
        return {}, {}
    devices = {leg.device: world.device(Place(leg.namespace, leg.device)) for leg in path.legs}
    segments = {name: segment_of(world, device) for name, device in devices.items() if device is not None}
    pairs = [(name, device.peer) for name, device in world.devices[""].items() if device.peer and device.peer.namespace]
    ends = {name: world.device(peer) for name, peer in pairs}
    return segments, {name: device for name, device in ends.items() if device is not None}


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
            found.append(OvsPort(name, "", tag, port_id, text, shown, values.get("attached-mac", "")))
    return tuple(found)


def _rows(text: str) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(text or '{"data": []}')["data"]
    return rows
