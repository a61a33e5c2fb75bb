"""Objects of L3 agent extensions that are not built: which degrade a router, and which are only warned of."""

from __future__ import annotations

from dvr_agent.desired.features import NOT_CURRENT, NOT_KNOWN, omitted_texts, unserved_warnings
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.extensions import Extension
from tests.support.recorded_documents import feature_document, load_features, parse


def settings(*served: Extension) -> HostSettings:
    return HostSettings("compute1", AgentMode.DVR_SNAT, extensions=frozenset(served))


def test_objects_of_an_extension_that_is_not_served_are_warned_of_and_degrade_nothing() -> None:
    router = load_features("q1i_port_forwarding_icmp", "compute1")
    assert omitted_texts(router, settings()) == []
    (degraded,) = omitted_texts(router, settings(Extension.PORT_FORWARDING))
    assert degraded.startswith("port_forwarding: ")
    router = load_features("q1_port_forwarding", "compute1")
    (warning,) = unserved_warnings(router, settings(Extension.FIP_QOS))
    assert warning == "port forwardings not built, since port_forwarding is not in [agent] extensions: 5"
    assert unserved_warnings(router, settings(Extension.PORT_FORWARDING)) == []


def test_each_feature_has_its_warning() -> None:
    for scenario, extension in (
        ("q5_qos", Extension.GATEWAY_IP_QOS),
        ("q5_qos", Extension.FIP_QOS),
        ("q6_ndp_proxy", Extension.NDP_PROXY),
        ("q7_conntrack_helper", Extension.CONNTRACK_HELPER),
    ):
        others = settings(*(one for one in Extension if one is not extension))
        (warning,) = unserved_warnings(load_features(scenario, "compute1"), others)
        assert f"{extension.value} is not in" in warning


def test_objects_that_may_be_out_of_date_degrade_the_router() -> None:
    document = feature_document("q1_port_forwarding", "compute1")
    document["not_current"] = ["port_forwardings"]
    assert omitted_texts(parse(document), settings(*Extension)) == [f"port_forwarding: {NOT_CURRENT}"]
    assert omitted_texts(parse(document), settings()) == []


def test_unknown_objects_degrade_the_router_where_it_can_have_some() -> None:
    for scenario, key, degraded in (
        ("q1_port_forwarding", "port_forwardings", ["port_forwarding"]),
        ("q5_qos", "qos_policies", ["fip_qos", "gateway_ip_qos"]),
        ("q6_ndp_proxy", "ndp_proxies", ["ndp_proxy"]),
        ("q7_conntrack_helper", "qos_policies", []),
        ("q6_ndp_proxy_off", "ndp_proxies", []),
    ):
        document = feature_document(scenario, "compute1")
        document[key] = None
        texts = omitted_texts(parse(document), settings(*Extension))
        assert texts == [f"{name}: {NOT_KNOWN}" for name in degraded]
        assert omitted_texts(parse(document), settings()) == []
