"""Hosts and agent modes of NDP proxies, by two questions for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dvr_agent.sources.neutron.fetch.ndp_hosts import with_hosts

PROXIES = [{"id": f"n{number}", "port_id": f"p{number}"} for number in range(5)]
PORTS: list[dict[str, Any]] = [
    {"id": "p0", "bindings": [{"host": "compute1", "status": "ACTIVE"}]},
    {"id": "p1", "bindings": [{"host": "compute1", "status": "INACTIVE"}, {"host": "compute3", "status": "ACTIVE"}]},
    {"id": "p2", "bindings": [{"host": "", "status": "ACTIVE"}]},
    {"id": "p3", "bindings": None},
]
AGENTS: list[dict[str, Any]] = [
    {"host": "compute1", "configurations": json.dumps({"agent_mode": "dvr_snat"})},
    {"host": "compute3", "configurations": {"agent_mode": "dvr_no_external"}},
    {"host": "compute4", "configurations": "{"},
    {"host": "compute5", "configurations": None},
]


class Server:
    """Answers, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Mapping[str, object]]] = []

    def __call__(self, kind: str, version: str, filters: Mapping[str, object]) -> Sequence[dict[str, Any]]:
        self.asked.append((kind, version, filters))
        return PORTS if kind == "Port" else AGENTS


def test_each_has_the_host_of_its_active_binding_and_the_mode_of_the_agent_there() -> None:
    server = Server()
    found = [(one["id"], one["host"], one["agent_mode"]) for one in with_hosts(PROXIES, server)]
    assert found == [
        ("n0", "compute1", "dvr_snat"),
        ("n1", "compute3", "dvr_no_external"),
        ("n2", "", ""),
        ("n3", "", ""),
        ("n4", "", ""),
    ]
    assert server.asked == [
        ("Port", "1.7", {"id": ["p0", "p1", "p2", "p3", "p4"]}),
        ("Agent", "1.1", {"agent_type": "L3 agent", "host": ["compute1", "compute3"]}),
    ]


def test_without_proxies_nothing_is_asked() -> None:
    server = Server()
    assert with_hosts([], server) == []
    assert server.asked == []
