"""Port forwardings in desired state: the rules of each recorded host, and what of a document is built where."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dvr_agent.desired.allocation import PAIRS
from dvr_agent.desired.build import DesiredRouter, desired_router
from dvr_agent.desired.host_allocations import HostAllocations, new_fip_pair
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.extensions import Extension
from dvr_agent.kernel.iptables.save import save_text
from dvr_agent.model.router import Router
from tests.support.oracle_reader import filter_facts
from tests.support.recorded_documents import DATA, feature_document, load_features, parse

SCENARIOS = [
    *(("q1_port_forwarding", host) for host in ("compute1", "compute2")),
    ("q1_port_forwarding_changed", "compute1"),
    ("q1g_gateway_update", "compute1"),
    *(("q2_ha_dvr_pair", host) for host in ("compute1", "network2", "compute2")),
    *(("q3_ha_legacy_pair", host) for host in ("compute1", "network2")),
]
MODES = {"compute1": AgentMode.DVR_SNAT, "network2": AgentMode.DVR_SNAT, "compute2": AgentMode.DVR}


def desired(router: Router, host: str, *extensions: Extension) -> DesiredRouter:
    view = make_view(router, HostSettings(host, MODES[host], extensions=frozenset(extensions)))
    pair = new_fip_pair(router.id, PAIRS[0]) if view.agent_gateway else None
    return desired_router(view, HostAllocations(pair))


def forwardings(state: DesiredRouter) -> set[str]:
    """What the rules of all namespaces do with ports."""
    spaces = [one for one in (state.qrouter, state.snat) if one is not None]
    lines = [line for one in spaces for line in save_text(one.tables).splitlines()]
    return {fact for fact in filter_facts(lines) if "--dport" in fact and fact.startswith("destination")}


@pytest.mark.parametrize(("scenario", "host"), SCENARIOS)
def test_rules_are_those_of_the_reference_agent_on_each_host(scenario: str, host: str) -> None:
    text = (DATA / "feature_kernel_state" / f"{scenario}-{host}.json").read_text()
    recorded = {fact for view in json.loads(text).values() for fact in view["filter"] if "--dport" in fact}
    wanted = {fact for fact in recorded if fact.startswith("destination")}
    assert bool(wanted) == (host != "compute2")
    assert forwardings(desired(load_features(scenario, host), host, Extension.PORT_FORWARDING)) == wanted


def test_nothing_is_built_where_the_extension_is_not_served() -> None:
    state = desired(load_features("q1_port_forwarding", "compute1"), "compute1")
    assert forwardings(state) == set()
    assert state.snat is not None
    assert not any(one.cidr.startswith("203.0.113.251") for one in state.snat.addresses)


def test_order_of_the_objects_does_not_matter() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    first = desired(parse(document), "compute1", Extension.PORT_FORWARDING)
    document["port_forwardings"].reverse()
    document["router"]["_pf_floatingips"].reverse()
    assert desired(parse(document), "compute1", Extension.PORT_FORWARDING) == first


def test_a_protocol_without_ports_is_left_out_and_named_and_the_others_are_built() -> None:
    state = desired(load_features("q1i_port_forwarding_icmp", "compute1"), "compute1", Extension.PORT_FORWARDING)
    (text,) = state.omitted
    assert text.startswith("port_forwarding: ")
    assert "icmp" in text


def test_addresses_are_there_while_the_forwardings_are_not_known() -> None:
    router = load_features("q1_port_forwarding", "compute1")
    known = desired(router, "compute1", Extension.PORT_FORWARDING)
    document = feature_document("q1_port_forwarding", "compute1") | {"port_forwardings": None}
    state = desired(parse(document), "compute1", Extension.PORT_FORWARDING)
    assert state.snat is not None
    assert known.snat is not None
    assert state.snat.addresses == known.snat.addresses
    assert forwardings(state) == set()


def test_a_router_without_gateway_has_none() -> None:
    router = replace(load_features("q1_port_forwarding", "compute1"), gateway=None, gateway_host=None)
    assert forwardings(desired(router, "compute1", Extension.PORT_FORWARDING)) == set()
