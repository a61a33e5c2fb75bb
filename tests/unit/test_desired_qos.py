"""Which bandwidth limits the recorded documents with QoS policies ask for, on each host, and what degrades a router."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dvr_agent.desired.build import DesiredRouter, desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.extensions import Extension
from dvr_agent.model.router import Router
from dvr_agent.state.limit import MAX_ABOVE_RATE, MAX_RATE, MIN_BURST, Limit, make_limit
from tests.support import desired_state
from tests.support.qos_recordings import RECORDED, limits_of
from tests.support.recorded_documents import MODES, feature_document, load_features, parse

BOTH = frozenset({Extension.FIP_QOS, Extension.GATEWAY_IP_QOS})


def desired(router: Router, host: str, **settings: Any) -> DesiredRouter:
    return desired_state.desired(router, host, **{"extensions": BOTH, **settings})[1]


@pytest.mark.parametrize(("scenario", "host"), sorted(RECORDED))
def test_the_limits_are_those_of_the_recorded_commands(scenario: str, host: str) -> None:
    found = desired(load_features(scenario, host), host)
    assert limits_of(found.qrouter, found.snat) == RECORDED[scenario, host]
    assert found.omitted == ()


@pytest.mark.parametrize(
    ("served", "addresses"),
    [
        ((), set()),
        ((Extension.FIP_QOS,), {"203.0.113.240", "203.0.113.196"}),
        ((Extension.GATEWAY_IP_QOS,), {"203.0.113.34"}),
    ],
)
def test_each_extension_has_its_switch(served: tuple[Extension, ...], addresses: set[str]) -> None:
    found = desired(load_features("q5_qos", "compute1"), "compute1", extensions=frozenset(served))
    assert {limit.address for limit in limits_of(found.qrouter, found.snat)} == addresses
    assert found.omitted == ()
    assert found.qrouter.ownership.limited  # limits that nobody wants any more go


def test_limits_that_are_not_known_stay_as_they_are() -> None:
    document = feature_document("q5_qos", "compute1")
    document["qos_policies"] = None
    found = desired(parse(document), "compute1")
    assert found.snat is not None
    assert limits_of(found.qrouter, found.snat) == set()
    assert (found.qrouter.ownership.limited, found.snat.ownership.limited) == ((), ())
    assert [text.split(":")[0] for text in found.omitted] == ["fip_qos", "gateway_ip_qos"]


def test_unknown_policies_do_not_matter_where_none_is_named() -> None:
    document = feature_document("q7_conntrack_helper", "compute1")
    document["qos_policies"] = None
    found = desired(parse(document), "compute1")
    assert found.qrouter.ownership.limited
    assert found.omitted == ()


def test_a_policy_that_is_gone_limits_nothing_and_degrades_the_router() -> None:
    document = feature_document("q5_qos_removed", "compute1")
    document["router"]["_floatingips"][0]["qos_policy_id"] = "11111111-2222-3333-4444-555555555555"
    found = desired(parse(document), "compute1")
    assert limits_of(found.qrouter, found.snat) == set()
    (text,) = found.omitted
    assert text.startswith("fip_qos: floating IP 203.0.113.240 is not limited")
    assert "11111111-2222-3333-4444-555555555555" in text


def test_a_kernel_without_limits_degrades_only_the_feature() -> None:
    router = load_features("q5_qos", "compute1")
    found = desired(router, "compute1", no_limits="the kernel is old")
    assert limits_of(found.qrouter, found.snat) == set()
    assert found.omitted == (
        "fip_qos: 2 addresses are not limited: the kernel is old",
        "gateway_ip_qos: 1 address is not limited: the kernel is old",
    )
    plain = desired(router, "compute1")
    assert (found.qrouter.tables, found.qrouter.routes) == (plain.qrouter.tables, plain.qrouter.routes)


@pytest.mark.parametrize("is_forwarded", [True, False])
def test_floating_ips_of_port_forwardings_are_limited_where_they_are_built(is_forwarded: bool) -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    policies = feature_document("q5_qos", "compute1")["qos_policies"]
    document["qos_policies"], (first, *_) = policies, document["router"]["_pf_floatingips"]
    policy = next(one for one in policies if len(one["rules"]) == 2)
    first["qos_policy_id"] = policy["id"]
    served = BOTH | {Extension.PORT_FORWARDING} if is_forwarded else BOTH
    found = desired(parse(document), "compute1", extensions=served)
    assert found.snat is not None
    limited = {(limit.device[:3], limit.address, limit.direction) for limit in found.snat.limits}
    address = first["floating_ip_address"]
    assert limited == ({("qg-", address, "leaving"), ("qg-", address, "entering")} if is_forwarded else set())
    assert found.qrouter.limits == frozenset()
    assert found.omitted == ()


@pytest.mark.parametrize("is_active", [True, False])
def test_both_hosts_of_an_ha_router_have_its_limits(is_active: bool) -> None:
    document = feature_document("q3_ha_legacy_pair", "compute1")
    policies = feature_document("q5_qos", "compute1")["qos_policies"]
    policy = next(one for one in policies if len(one["rules"]) == 2)
    document["qos_policies"] = policies
    document["router"]["external_gateway_info"]["qos_policy_id"] = policy["id"]
    view = make_view(parse(document), HostSettings("compute1", MODES["compute1"], extensions=BOTH))
    found = desired_router(view, HostAllocations(is_master=is_active))
    assert len(found.qrouter.limits) == 2


def test_without_a_pair_to_the_fip_namespace_there_is_nothing_to_limit() -> None:
    view = make_view(load_features("q5_qos", "compute2"), HostSettings("compute2", MODES["compute2"], extensions=BOTH))
    found = desired_router(replace(view, agent_gateway=None), HostAllocations())
    assert limits_of(found.qrouter, found.snat) == set()


@pytest.mark.parametrize(
    ("kbps", "burst", "rate", "most"),
    [
        (1000, 800, 125_000, 125_000),  # a second's worth: nf_tables has no smaller burst
        (1000, 8000, 125_000, 1_000_000),
        (100, 80, 12_500, MIN_BURST),  # one whole GSO packet
        (2_147_483_647, 2_147_483_647, MAX_RATE, MAX_RATE + MAX_ABOVE_RATE),
    ],
)
def test_rate_and_burst_in_bytes(kbps: int, burst: int, rate: int, most: int) -> None:
    limit = make_limit("qg-1", "leaving", "203.0.113.5", kbps, burst)
    assert (limit.rate, limit.burst) == (rate, most)


def test_a_limit_is_told_in_the_units_of_operators() -> None:
    leaving, entering = make_limit("rfp-1", "leaving", "203.0.113.5", 1500, 8000), Limit("qg-1", "entering", "a", 1, 2)
    assert leaving.text == "limit from 203.0.113.5 leaving rfp-1 to 1500 kbit/s burst 1000 kB"
    assert entering.text == "limit to a entering qg-1 to 0.008 kbit/s burst 0.002 kB"
