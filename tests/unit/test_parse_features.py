"""Objects that L3 agent extensions act on, in the documents of a real Neutron and with faults of single objects."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.errors import DocumentError
from dvr_agent.model.features import BandwidthLimit, ConntrackHelper, PortRange
from tests.support.recorded_documents import DATA, feature_document, load_features, parse

RECORDINGS = sorted(path.stem.rpartition("-") for path in (DATA / "feature_documents").glob("*.json"))
Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(("scenario", "host"), [(scenario, host) for scenario, _, host in RECORDINGS])
def test_recorded_objects_are_all_accepted(scenario: str, host: str) -> None:
    omitted = [one.text for one in load_features(scenario, host).omitted]
    if "icmp" in scenario:
        (only,) = omitted
        assert only.startswith("port_forwarding: $.port_forwardings[")
        assert only.endswith('.protocol is "icmp": expected one of tcp, udp, sctp, dccp, which have ports')
    else:
        assert not omitted


def test_port_forwardings_are_read_with_their_ranges() -> None:
    features = load_features("q1_port_forwarding", "compute1").features
    assert features.port_forwardings is not None
    found = {(one.protocol, one.external.text, one.internal.text) for one in features.port_forwardings}
    assert {("tcp", "9000:9009", "8000:8009"), ("udp", "5353", "53"), ("tcp", "443", "8443")} <= found
    assert [str(one.address) for one in features.forwarding_ips] == ["203.0.113.160", "203.0.113.251"]
    assert all(one.network_id for one in features.forwarding_ips)


def test_qos_policies_have_the_first_limit_of_each_direction() -> None:
    router = load_features("q5_qos", "compute1")
    limits = {(one.egress, one.ingress) for one in router.features.qos_policies or ()}
    assert limits == {
        (BandwidthLimit(1000, 800), BandwidthLimit(2000, 1600)),
        (None, BandwidthLimit(5000, 4000)),  # no burst: 0.8 of the rate
        (BandwidthLimit(10000, 1000), BandwidthLimit(20000, 2000)),
    }
    named = {fip.qos_policy_id for fip in router.floating_ips} | {router.features.gateway_qos_policy_id}
    assert {one.id for one in router.features.qos_policies or ()} >= named - {None}


def test_ndp_proxies_and_conntrack_helpers_are_read() -> None:
    features = load_features("q6_ndp_proxy", "compute2").features
    assert features.enable_ndp_proxy
    assert features.ndp_proxies
    assert all(one.address in _internal_v6() for one in features.ndp_proxies)
    assert load_features("q7_conntrack_helper", "compute2").features.conntrack_helpers == (
        ConntrackHelper("tcp", 21, "ftp"),
        ConntrackHelper("tcp", 5060, "sip"),
        ConntrackHelper("udp", 69, "tftp"),
    )


def _internal_v6() -> set[Any]:
    ports = feature_document("q6_ndp_proxy", "compute2")["ports_by_subnet"].values()
    return {ip_address(fixed["ip_address"]) for some in ports for port in some for fixed in port["fixed_ips"]}


def test_ha_interface_is_read_on_hosts_that_speak_vrrp() -> None:
    router = load_features("q2_ha_dvr_pair", "compute1")
    found = router.ha_interface
    assert found is not None
    assert (found.is_active, found.vr_id, found.priority, found.state) == (True, 223, 50, "active")
    assert [fixed.cidr for fixed in found.port.fixed_ips] == ["169.254.194.197/18"]
    assert found.port.network_id in router.networks
    assert load_features("q2_ha_dvr_pair", "compute2").ha_interface is None


def _set(name: str, index: int, **values: object) -> Change:
    return lambda document: document[name][index].update(values)


OTHER = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("scenario", "change", "text"),
    [
        ("q1_port_forwarding", _set("port_forwardings", 0, protocol="gre"), '[0].protocol is "gre": expected one of'),
        (
            "q1_port_forwarding",
            _set("port_forwardings", 0, external_port_range="1000:60000", internal_port_range="8000:8003"),
            "[0].internal_port_range is 8000:8003: expected one port, or at least 922, since 1000:60000 has 59001",
        ),
        (
            "q1_port_forwarding",
            _set("port_forwardings", 0, external_port_range="9009:9000"),
            '[0].external_port_range is "9009:9000": expected a port or two ports a:b, from 1 to 65535',
        ),
        (
            "q1_port_forwarding",
            _set("port_forwardings", 0, internal_ip_address="192.0.2.1"),
            '[0].internal_ip_address is "192.0.2.1": expected the address of an instance in a subnet of the router',
        ),
        ("q1_port_forwarding", _set("port_forwardings", 0, router_id=OTHER), "expected the id of the router"),
        (
            "q1_port_forwarding",
            lambda document: document["port_forwardings"].append({**document["port_forwardings"][0], "id": OTHER}),
            "ports of 203.0.113.251 that port forwarding 22f6f031-afc8-4a2c-921a-9f3cfd49e9be does not have",
        ),
        (
            "q1_port_forwarding",
            lambda document: document["router"]["_floatingips"][0].update(floating_ip_address="203.0.113.160"),
            "expected an address without port forwardings, or one that no port is associated with",
        ),
        ("q5_qos", lambda document: document["qos_policies"][0].update(id="x"), 'fip_qos: $.qos_policies[0].id is "x"'),
        (
            "q5_qos",
            lambda document: document["qos_policies"][0]["rules"][0].update(max_kbps=0),
            "[0].rules[0].max_kbps is 0: expected a number from 1 to",
        ),
        (
            "q6_ndp_proxy",
            _set("ndp_proxies", 0, ip_address="fe80::1"),
            "expected an IPv6 address that is not link-local",
        ),
        ("q6_ndp_proxy", _set("ndp_proxies", 0, port_id=None), "ndp_proxy: $.ndp_proxies[0].port_id is null"),
        (
            "q7_conntrack_helper",
            lambda document: document["router"]["conntrack_helpers"][0].update(helper="a b"),
            'conntrack_helper: $.router.conntrack_helpers[0].helper is "a b"',
        ),
        (
            "q7_conntrack_helper",
            lambda document: document.update(conntrack_helpers=[{"protocol": "tcp", "port": 21, "helper": "sip"}]),
            '$.conntrack_helpers[0].helper is "sip": expected one helper for tcp port 21',
        ),
    ],
)
def test_bad_object_is_omitted_and_named_and_the_others_stay(scenario: str, change: Change, text: str) -> None:
    document = feature_document(scenario, "compute1")
    change(document)
    router = parse(document)
    assert [text in one.text for one in router.omitted if one.feature] == [True], [one.text for one in router.omitted]
    before = load_features(scenario, "compute1")
    assert router.interfaces == before.interfaces
    assert len(router.features.port_forwardings or ()) + len(router.features.qos_policies or ()) >= (
        len(before.features.port_forwardings or ()) + len(before.features.qos_policies or ()) - 2
    )


def test_bad_list_makes_the_document_bad() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    document["port_forwardings"] = {}
    with pytest.raises(DocumentError, match=r"\$\.port_forwardings is"):
        parse(document)


def test_objects_that_are_not_known_are_not_none_at_all() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    document.update(port_forwardings=None, qos_policies=None, ndp_proxies=None)
    features = parse(document).features
    assert (features.port_forwardings, features.qos_policies, features.ndp_proxies) == (None, None, None)
    assert [str(one.address) for one in features.forwarding_ips] == ["203.0.113.160", "203.0.113.251"]


def test_forwardings_name_their_floating_ip_where_the_document_does_not_list_it_yet() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    document["router"]["_pf_floatingips"] = []
    features = parse(document).features
    assert [str(one.address) for one in features.forwarding_ips] == ["203.0.113.160", "203.0.113.251"]


def test_a_listed_floating_ip_without_forwardings_is_not_in_use() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    document["port_forwardings"] = [
        one for one in document["port_forwardings"] if one["floating_ip_address"] != "203.0.113.251"
    ]
    assert [str(one.address) for one in parse(document).features.forwarding_ips] == ["203.0.113.160"]


def test_single_ports_may_stand_without_a_range() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    for one in document["port_forwardings"]:
        if "external_port" in one:
            del one["external_port_range"], one["internal_port_range"]
    # A range that leads to one port has no external_port.
    found = {one.external for one in parse(document).features.port_forwardings or ()}
    assert {PortRange(2222, 2222), PortRange(9000, 9009)} <= found


def test_examples_of_the_recordings_are_there() -> None:
    assert len(RECORDINGS) >= 50
    assert Path(DATA / "feature_documents").is_dir()
