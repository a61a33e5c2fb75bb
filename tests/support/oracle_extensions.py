"""Recorded scenarios of conntrack helpers and NDP proxies: documents, and what is wanted otherwise than recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tests.support import oracle_reader as reader
from tests.support.oracle_normalise import as_wanted
from tests.support.oracle_recordings import Scenario
from tests.support.recorded_documents import DATA

HOSTS = {"vm-c1": "compute1", "vm-c2": "compute2", "vm-c2b": "compute2", "vm-c3": "compute3"}
"""Name of an NDP proxy → host of its port; a document has it beside what the server sends of the object."""
AGENT_MODES = {"compute1": "dvr_snat", "compute2": "dvr", "compute3": "dvr_no_external"}
PROXIED_FIRST = 32763
"""Priority of our rules for proxied addresses."""


@dataclass(frozen=True)
class ExtensionScenario(Scenario):
    """A scenario of ``tests/data/feature_documents``."""

    @cached_property
    def raw(self) -> bytes:
        document = json.loads((DATA / "feature_documents" / f"{self}.json").read_bytes())
        for one in document.get("ndp_proxies", []):
            one["host"] = HOSTS[one["name"]]
            one["agent_mode"] = AGENT_MODES[one["host"]]
        return json.dumps(document).encode()

    @cached_property
    def recorded(self) -> dict[str, reader.View]:
        text = (DATA / "feature_kernel_state" / f"{self}.json").read_text()
        return {name: reader.from_json(view) for name, view in json.loads(text).items()}

    @property
    def wanted(self) -> dict[str, reader.View]:
        """The recording with what this agent has otherwise by intention."""
        return with_local_helpers(with_local_proxies(as_wanted(self.recorded), self.document, self.host), self.document)


def with_local_helpers(views: Mapping[str, reader.View], document: Mapping[str, Any]) -> dict[str, reader.View]:
    """Add the helpers of floating IPs that are built on this host: neutron-l3-agent has none for them."""
    found = {}
    for name, view in views.items():
        is_local = name.startswith("qrouter-") and any(rule.table == 16 for rule in view.rules)
        helpers = document["router"].get("conntrack_helpers", []) if is_local else []
        facts = {f"helper {one['helper']} reads {one['protocol']} port {one['port']}" for one in helpers}
        found[name] = replace(view, filter=view.filter | facts | {f"IPv6: {fact}" for fact in facts})
    return found


def with_local_proxies(
    views: Mapping[str, reader.View], document: Mapping[str, Any], host: str
) -> dict[str, reader.View]:
    """Add proxied addresses of a host in mode dvr_snat, and the way by which their packets leave, on all hosts.

    neutron-l3-agent forgets those of dvr_snat hosts, and sends answers by the host of the snat namespace.
    """
    addresses = [one["ip_address"] for one in document.get("ndp_proxies", []) if one["host"] == host]
    if AGENT_MODES[host] == "dvr_no_external" or not addresses:
        return dict(views)
    link_locals = {
        one.device.partition("-")[0]: one.cidr.partition("/")[0] for view in views.values() for one in view.link_local
    }
    return {name: _with_ways(name, view, addresses, link_locals["rfp"]) for name, view in views.items()}


def _with_ways(name: str, view: reader.View, addresses: list[str], rfp_link_local: str) -> reader.View:
    if name.startswith("qrouter-"):
        # Of equal rules for both families one is seen, so that the fip namespace's IPv6 rule does not show.
        return replace(view, rules=view.rules | {reader.Rule(PROXIED_FIRST, one, "", 254) for one in addresses})
    if not name.startswith("fip-"):
        return view
    devices = {link.name.partition("-")[0]: link.name for link in view.links}
    hops = (f"via {rfp_link_local} dev {devices['fpr']}",)
    routes = {reader.Route(254, one, hops, "static") for one in addresses}
    proxies = {reader.ProxyNeighbour(one, devices["fg"]) for one in addresses}
    return replace(view, routes=view.routes | routes, proxies=view.proxies | proxies)
