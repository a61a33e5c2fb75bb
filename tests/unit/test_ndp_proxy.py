"""Which namespace answers for a proxied address, and what becomes of addresses that nobody can answer for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.desired.build import DesiredRouter, desired_router
from dvr_agent.desired.host_allocations import HostAllocations, new_fip_pair
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.extensions import Extension
from dvr_agent.state.ownership import V6_PROXIED_PRIORITY
from tests.support.recorded_documents import feature_document, parse

ADDRESSES = {"vm-c1": "2001:db8:a:1::337", "vm-c2": "2001:db8:a:1::306", "vm-c2b": "2001:db8:a:1::2b6"}
ADDRESSES["vm-c3"] = "2001:db8:a:1::3cc"
SNAT_HOST = HostSettings("compute1", AgentMode.DVR_SNAT, extensions=frozenset(Extension))


def document(**hosts: str | None) -> dict[str, Any]:
    """Scenario q6 with the hosts of the VMs' ports; ``vm_c1="compute1"``; others have none."""
    found = feature_document("q6_ndp_proxy", "compute1")
    for one in found["ndp_proxies"]:
        if one["name"].replace("-", "_") in hosts:
            one["host"] = hosts[one["name"].replace("-", "_")]
    return found


def desired(value: Any, settings: HostSettings = SNAT_HOST, **more: Any) -> DesiredRouter:
    router = parse(value)
    pair = new_fip_pair(router.id, LinkLocalPair(0xA9FE400A))
    return desired_router(make_view(router, settings), HostAllocations(pair, **more))


def local(state: DesiredRouter) -> set[str]:
    """Addresses of the fip namespace; each has its way in and out."""
    assert state.slice is not None
    found = {one.dst for one in state.slice.proxy_neighbours}
    assert {route.dst for route in state.slice.routes if route.dst.endswith("/128")} == {f"{one}/128" for one in found}
    sources = {rule.src for rule in state.qrouter.rules if rule.priority == V6_PROXIED_PRIORITY}
    assert sources == {f"{one}/128" for one in found}
    return found


def central(state: DesiredRouter) -> set[str]:
    assert state.snat is not None
    found = {one.dst for one in state.snat.proxy_neighbours}
    (table,) = [one for one in state.snat.tables if one.key == (6, "filter")]
    rules = [rule for chain in table.chains for rule in chain.rules if rule.iif is not None]
    assert [rule.target.text for rule in rules] == ["-j ACCEPT"] * len(found) + ["-j DROP"]
    assert {rule.dst for rule in rules[:-1]} == {f"{one}/128" for one in found}
    return found


def test_each_address_is_answered_for_once() -> None:
    state = desired(document(vm_c1="compute1", vm_c2="compute2", vm_c2b=""))
    assert local(state) == {ADDRESSES["vm-c1"]}
    # An unknown host is served centrally; an unbound port and one of another host with a fip namespace are not.
    assert central(state) == {ADDRESSES["vm-c3"]}
    assert state.omitted == ()


def test_a_host_without_external_network_is_known_by_its_agents_mode_or_its_floating_ips() -> None:
    value = document(vm_c1="x", vm_c2="x", vm_c2b="y", vm_c3="z")
    value["ndp_proxies"][0]["agent_mode"] = "dvr_no_external"
    state = desired(value)
    assert len(central(state)) == 1
    fip = feature_document("q7_conntrack_helper", "compute2")["router"]["_floatingips"][0]
    network = value["router"]["gw_port"]["network_id"]
    value["router"]["_floatingips"] = [
        fip
        | {"floating_network_id": network, "fixed_ip_address": "10.1.0.9", "floating_ip_address": "203.0.113.99"}
        | {"host": "x", "dvr_snat_bound": True}
    ]
    names = {one["ip_address"] for one in value["ndp_proxies"] if one["host"] == "x" or "agent_mode" in one}
    assert central(desired(value)) == names


def test_a_host_without_fip_namespaces_leaves_its_addresses_to_the_snat_host() -> None:
    value = document(vm_c1="x", vm_c2="x", vm_c2b="x", vm_c3="")
    for one, mode in zip(value["ndp_proxies"], ("legacy", "", "dvr_snat", ""), strict=True):
        one["agent_mode"] = mode
    wanted = {one["ip_address"] for one in value["ndp_proxies"] if one["host"] and one["agent_mode"] != "dvr_snat"}
    assert central(desired(value)) == wanted


def test_a_compute_node_has_its_own_only() -> None:
    value = document(vm_c1="compute1", vm_c2="compute2", vm_c2b="compute2", vm_c3="compute3")
    value["router"]["_floatingip_agent_interfaces"][0]["binding:host_id"] = ""
    state = desired(value, replace(SNAT_HOST, host="compute2", mode=AgentMode.DVR))
    assert local(state) == {ADDRESSES["vm-c2"], ADDRESSES["vm-c2b"]}
    assert state.snat is None
    no_external = desired_router(
        make_view(parse(value), replace(SNAT_HOST, host="compute3", mode=AgentMode.DVR_NO_EXTERNAL)), HostAllocations()
    )
    assert no_external.slice is None
    assert not [rule for rule in no_external.qrouter.rules if rule.priority == V6_PROXIED_PRIORITY]


def test_without_an_agent_gateway_port_a_compute_node_warns() -> None:
    value = document(vm_c1="compute1")
    value["router"]["_floatingip_agent_interfaces"] = []
    view = make_view(parse(value), replace(SNAT_HOST, mode=AgentMode.DVR))
    (warning,) = [text for text in desired_router(view, HostAllocations()).warnings if "NDP" in text]
    assert ADDRESSES["vm-c1"] in warning
    assert ADDRESSES["vm-c2"] not in warning
    # The host of the snat namespace answers for its own VM there.
    state = desired_router(make_view(parse(value), SNAT_HOST), HostAllocations())
    assert ADDRESSES["vm-c1"] in central(state)


@pytest.mark.parametrize("scope", [None, "6e7724c4-133b-4d76-9ab1-635455f31fe8"])
def test_an_address_outside_the_external_address_scope_is_named_and_left_out(scope: str | None) -> None:
    value = document(vm_c1="compute1")
    for port in value["router"]["_interfaces"]:
        port["address_scopes"]["6"] = scope
    state = desired(value)
    assert local(state) == set()
    assert len(state.omitted) == 4
    assert all(text.startswith("ndp_proxy: address 2001:db8:a:1::") for text in state.omitted)


def test_the_routers_flag_and_the_extension_switch_everything() -> None:
    value = document(vm_c1="compute1")
    value["router"]["enable_ndp_proxy"] = False
    off = desired(value)
    assert off.slice is not None
    assert off.snat is not None
    assert not off.slice.proxy_neighbours | off.snat.proxy_neighbours
    assert off.slice.ownership.proxied != ()
    assert [one.value for one in off.snat.sysctls if one.key.endswith("proxy_ndp")] == ["0"]
    unserved = desired(document(vm_c1="compute1"), replace(SNAT_HOST, extensions=frozenset()))
    for state in (unserved.base, unserved.slice, unserved.snat):
        assert state is not None
        assert state.ownership.proxied == ()
        assert not [one for one in state.sysctls if "proxy_ndp" in one.key]


def test_a_router_that_is_not_distributed_answers_for_all() -> None:
    value = document(vm_c1="compute1", vm_c2="compute2", vm_c2b="")
    value["router"] |= {
        "distributed": False,
        "_floatingip_agent_interfaces": [],
        "_snat_router_interfaces": [],
        "conntrack_helpers": [{"helper": "ftp", "protocol": "tcp", "port": 21}],
    }
    state = desired_router(make_view(parse(value), SNAT_HOST), HostAllocations())
    assert central(replace(state, snat=state.qrouter)) == set(ADDRESSES.values())
    assert [len(table.chains) for table in state.qrouter.tables if table.name == "raw"] == [1, 1]
    value["ndp_proxies"] = None
    found = ((state.qrouter.name, ADDRESSES["vm-c2"]),)
    state = desired_router(make_view(parse(value), SNAT_HOST), HostAllocations(found_proxies=found))
    assert central(replace(state, snat=state.qrouter)) == {ADDRESSES["vm-c2"]}


def test_unknown_objects_are_those_that_the_kernel_has() -> None:
    value = document() | {"ndp_proxies": None}
    network = value["router"]["gw_port"]["network_id"]
    found = ((f"fip-{network}", ADDRESSES["vm-c1"]), (f"snat-{value['router']['id']}", ADDRESSES["vm-c3"]))
    state = desired(value, found_proxies=found)
    assert (local(state), central(state)) == ({ADDRESSES["vm-c1"]}, {ADDRESSES["vm-c3"]})
    assert [text.partition(":")[0] for text in state.omitted] == ["ndp_proxy"]
