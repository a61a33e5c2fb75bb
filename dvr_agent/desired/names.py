"""Names of namespaces and devices: prefix + id, devices cut to 14 characters (``docs/dataplane.md``, "Names").

The prefixes and the length are Neutron's (neutron.agent.l3 and neutron_lib.constants); the Open vSwitch agent,
operators and debugging guides rely on them.
"""

from __future__ import annotations

import re
from functools import lru_cache

DEVICE_LENGTH = 14

QROUTER, FIP, SNAT = "qrouter-", "fip-", "snat-"
INTERNAL, ROUTER_TO_FIP, FIP_TO_ROUTER = "qr-", "rfp-", "fpr-"
AGENT_GATEWAY, GATEWAY, CSNAT, HA = "fg-", "qg-", "sg-", "ha-"
PORT_PREFIXES = (INTERNAL, CSNAT, GATEWAY, AGENT_GATEWAY, HA)
"""Devices of ports; their other ends are on a bridge."""
LIMITED = (ROUTER_TO_FIP, GATEWAY)
"""Devices by the beginning of their name on which all bandwidth limits are ours."""
STEM = DEVICE_LENGTH - len(INTERNAL)
"""Characters of a port id in the names of its devices (``qr-``, ``tap``), and of a network id in its bridge's."""

_NAMESPACE = re.compile(r"(qrouter|fip|snat)-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.ASCII)


@lru_cache(maxsize=128)
def device(prefix: str, object_id: str) -> str:
    """Return the name of the device of a port or a router."""
    return (prefix + object_id)[:DEVICE_LENGTH]


def router_stem(router_id: str) -> str:
    """Return the part of a router id that fits into ``rfp-`` and ``fpr-`` names."""
    return device(FIP_TO_ROUTER, router_id)[len(FIP_TO_ROUTER) :]


def parse_namespace(name: str) -> tuple[str, str] | None:
    """Return (prefix with its dash, UUID) of a namespace that can be ours, None for all others."""
    match = _NAMESPACE.fullmatch(name)
    return (match[1] + "-", match[2]) if match else None


def is_shared(namespace: str) -> bool:
    """Return True for a fip namespace, in which all routers of an external network have their slices."""
    return namespace.startswith(FIP)
