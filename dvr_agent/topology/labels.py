"""The texts of a topology picture, which all drawers share."""

from __future__ import annotations

from collections.abc import Sequence

from dvr_agent.topology.graph import Device, Node

_SHOWN = 12
"""Floating IPs of a namespace, and default routes, that a picture lists."""


def device_lines(device: Device) -> list[str]:
    """Return a device in lines: name, addresses, MAC address, MTU with state, other end."""
    state = "" if device.state == "up" else f", {device.state.upper()}"
    outer = [device.outer] if device.outer and device.outer != device.name else []
    return [device.name, *device.addresses, device.mac, f"mtu {device.mtu}{state}", *outer]


def heading(node: Node) -> str:
    """Return the name of a node, with the name of its router, its bridge and its uplinks."""
    if node.kind == "namespace":
        return node.name
    if node.kind == "outside":
        return f"outside, by {node.name}"
    what = "external network" if node.external else "network"
    uplinks = f", uplink {' '.join(node.uplinks)}" if node.uplinks else ""
    bridge = f" (bridge {node.bridge}{uplinks})" if node.bridge else ""
    return f"{what} {node.name or 'not known'}{bridge}"


def notes(node: Node) -> list[str]:
    """Return what stands in a namespace beside its devices: floating IPs and default routes."""
    return [*_listed([one.text for one in node.translations], "floating IPs"), *_listed(node.routes, "default routes")]


def _listed(texts: Sequence[str], what: str) -> Sequence[str]:
    if len(texts) <= _SHOWN:
        return texts
    return [*texts[: _SHOWN - 1], f"and {len(texts) - _SHOWN + 1} more {what}"]
