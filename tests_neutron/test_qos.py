"""Bandwidth limits of floating IPs and gateways: there when the API says so, changed by the rule alone, and gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud.api import Item
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.limits import limits
from tests.support.cloud.site import Site
from tests.support.waiting import wait_for


@pytest.fixture(
    scope="module", params=[True, pytest.param(False, marks=pytest.mark.full)], ids=["distributed", "legacy"]
)
def shared_site(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(cloud, distributed=request.param, ha=False) as made:
        yield made


@pytest.fixture
def policy(site: Site) -> Iterator[Item]:
    made = site.api.qos_policy("slow", egress=1000, ingress=2000)
    yield made
    site.tidy()
    site.api.delete("qos/policies", made["id"])


def has(host: Host, namespace: str, *kbps: int) -> None:
    """Wait until exactly these limits are in the kernel."""
    wait_for(lambda: limits(host, namespace) == set(kbps), f"limits in {namespace} of {host.name} are {kbps}")


def test_a_floating_ip_is_limited_as_its_policy_says(site: Site, hosts: list[Host], policy: Item) -> None:
    (two,) = site.on(hosts[1])
    place = (hosts[1] if site.central.startswith("snat") else hosts[0], f"qrouter-{site.router}")
    floating = site.floating_ip(two)
    site.reachable(floating)
    site.api.update("floatingips", floating["id"], qos_policy_id=policy["id"])
    has(*place, 1000, 2000)
    rules = f"qos/policies/{policy['id']}/bandwidth_limit_rules"
    site.api.update(rules, policy["rule_ids"]["egress"], max_kbps=3000, max_burst_kbps=3000)
    has(*place, 3000, 2000)
    site.api.delete(rules, policy["rule_ids"]["ingress"])
    has(*place, 3000)
    site.reachable(floating)
    site.api.update("floatingips", floating["id"], qos_policy_id=None)
    has(*place)
    assert site.status(floating) == "ACTIVE"


@pytest.mark.full
def test_forwardings_and_the_gateway_are_limited_where_snat_is(
    site: Site, hosts: list[Host], policy: Item, reference: bool
) -> None:
    (one,) = site.on(hosts[1])
    fast = site.api.qos_policy("fast", egress=8000, ingress=8000)
    floating = site.floating_ip(qos_policy_id=policy["id"])
    site.forward(floating, "tcp", "2222", one, "22")
    site.wait_status(floating, "ACTIVE")
    gateway = {"network_id": site.external}
    try:
        # The reference agent limits no forwarding of distributed routers.
        slow = () if reference and site.central.startswith("snat") else (1000, 2000)
        has(hosts[0], site.central, *slow)
        site.api.update("routers", site.router, external_gateway_info={**gateway, "qos_policy_id": fast["id"]})
        has(hosts[0], site.central, *slow, 8000)
        one.reaches(site.outside)
    finally:
        # The server announces nothing when the policy of a floating IP with forwardings changes; the next message about
        # the router brings it along.
        site.api.update("floatingips", floating["id"], qos_policy_id=None)
        site.api.update("routers", site.router, external_gateway_info={**gateway, "qos_policy_id": None})
        site.api.delete("qos/policies", fast["id"])
    has(hosts[0], site.central)
