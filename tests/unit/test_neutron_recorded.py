"""Recorded answers of neutron-server become the documents that the oracle tests build, of all kinds of routers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.extensions import Extension
from dvr_agent.model.features import ForwardingIp
from dvr_agent.model.router import FloatingIp, Router
from tests.support.recorded_documents import DATA, feature_document, parse
from tests.support.scripted_neutron import HOST, Server, desk

FEATURES = {
    path.stem: feature_document(*path.stem.rsplit("-", 1)) for path in (DATA / "feature_documents").glob("*.json")
}
STEMS = sorted(stem for stem in FEATURES if stem.endswith(f"-{HOST}"))


@pytest.mark.parametrize("stem", STEMS)
def test_documents_are_the_recorded_ones(stem: str, tmp_path: Path) -> None:
    document = FEATURES[stem]
    server, router = Server(), document["router"]
    server.routers[router["id"]], server.ports = router, document["ports_by_subnet"]
    server.objects["PortForwarding"] = document.get("port_forwardings", [])
    server.objects["QosPolicy"] = document.get("qos_policies", [])
    expected = parse(document)
    if not expected.distributed:
        expected = replace(expected, ports_by_subnet=())  # it asks for them by ARP
    with desk(server, tmp_path, extensions=Extension) as a:
        a.sync()
        found = a.router(expected.id)
    assert comparable(found) == comparable(expected)


def comparable(router: Router) -> Router:
    """The router without policies that it does not use, and without what further answers say of NDP proxies."""
    features = router.features
    fips: list[FloatingIp | ForwardingIp] = [*router.floating_ips, *features.forwarding_ips]
    used = {features.gateway_qos_policy_id, *(fip.qos_policy_id for fip in fips)}
    policies = tuple(one for one in features.qos_policies or () if one.id in used)
    return replace(router, features=replace(features, qos_policies=policies, ndp_proxies=()))
