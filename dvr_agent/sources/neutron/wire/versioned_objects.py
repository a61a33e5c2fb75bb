"""Reads versioned objects as oslo.versionedobjects writes them: data wrapped in name, version and namespace.

Facts: neutron/api/rpc/callbacks and neutron/api/rpc/handlers/resources_rpc.py.  Classes of Neutron are not needed.
"""

from __future__ import annotations

from typing import Any

DATA, NAME = "versioned_object.data", "versioned_object.name"


def plain(value: Any) -> Any:
    """Return a value without the wrapping of versioned objects, at any depth."""
    if isinstance(value, dict):
        data = value[DATA] if isinstance(value.get(DATA), dict) else value
        return {key: plain(one) for key, one in data.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def push_topic(resource_type: str, version: str) -> str:
    """Return the topic of changes (resources_rpc.resource_type_versioned_topic)."""
    return f"neutron-vo-{resource_type}-{version}"
