"""Counts the namespaces of routers on this host, and reads the devices of its fip namespaces, for the page."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from dvr_agent.cli.web.counters import device_counters
from dvr_agent.desired import names
from dvr_agent.kernel.netns import NETNS_DIR


def host_summary() -> dict[str, Any]:
    """Return the numbers of namespaces, and each fip namespace with its agent gateway devices and number of pairs."""
    try:
        listed = sorted(os.listdir(NETNS_DIR))
    except FileNotFoundError:  # no namespace was ever made here
        listed = []
    parsed = [(name, *parts) for name in listed if (parts := names.parse_namespace(name)) is not None]
    numbers = Counter(prefix for _name, prefix, _uuid in parsed)
    return {
        "qrouter": numbers[names.QROUTER],
        "snat": numbers[names.SNAT],
        "fip": [_fip(name, uuid) for name, prefix, uuid in parsed if prefix == names.FIP],
    }


def _fip(name: str, network: str) -> dict[str, Any]:
    devices = device_counters([name], "").get(name, {})
    own = [{"name": device, **found} for device, found in devices.items() if device.startswith(names.AGENT_GATEWAY)]
    pairs = sum(device.startswith(names.FIP_TO_ROUTER) for device in devices)
    return {"name": name, "network": network, "pairs": pairs, "devices": own}
