"""From dvr-agent to neutron-l3-agent and back, with HA, forwardings and limits in place and packets flowing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.cloud.api import Item
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.ha import active, keepalived
from tests.support.cloud.host import Host
from tests.support.cloud.limits import limits
from tests.support.cloud.site import Instance, Site
from tests.support.cloud.takeover import THEIRS, chains, hand_over, take_over
from tests.support.cloud.traffic import PATIENCE, Traffic
from tests.support.probes import Conversation, Echo

KINDS = {"legacy": (False, False), "HA legacy": (False, True), "HA distributed": (True, True)}
FAST = 50_000
"""kbit/s: pings and a quiet TCP connection never notice it."""


class Tenant:
    """A router with an instance behind a floating IP, one behind a forwarded port, one behind SNAT; all limited."""

    def __init__(self, site: Site, host: Host, policy: Item) -> None:
        self.site = site
        self.inward, self.target, self.outward = site.on(host, host, host)
        self.floating = site.floating_ip(self.inward, qos_policy_id=policy["id"])
        self.forwarded = site.floating_ip(qos_policy_id=policy["id"])
        site.forward(self.forwarded, "tcp", "2222", self.target, "7003")
        gateway = {"network_id": site.external, "qos_policy_id": policy["id"]}
        site.api.update("routers", site.router, external_gateway_info=gateway)

    @property
    def outside_address(self) -> str:
        """Of the forwarded port."""
        address: str = self.forwarded["floating_ip_address"]
        return address

    def works(self) -> None:
        """Wait until everything carries packets."""
        self.site.reachable(self.floating)
        self.outward.reaches(self.site.outside)
        self.leads(self.target)

    def leads(self, instance: Instance) -> None:
        self.site.leads_to(instance, self.outside_address, 2222, 7003)


@pytest.fixture
def nodes(hosts: list[Host], network_node: Host) -> list[Host]:
    return [hosts[0], network_node]


@pytest.fixture
def tenants(cloud: Cloud, hosts: list[Host], nodes: list[Host]) -> Iterator[list[Tenant]]:
    policy = cloud.api.qos_policy("fast", egress=FAST, ingress=FAST)
    with contextlib.ExitStack() as stack:
        sites = [stack.enter_context(Site(cloud, distributed=distributed, ha=ha)) for distributed, ha in KINDS.values()]
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(lambda site: Tenant(site, hosts[1], policy), sites))
        for tenant in made:
            tenant.works()
        yield made
    cloud.api.delete("qos/policies", policy["id"])


def served(tenants: list[Tenant], nodes: list[Host]) -> dict[str, tuple[str, list[int]]]:
    """Which node holds each HA router, and the ids of its keepalived."""
    found = {}
    for tenant in tenants[1:]:
        node = active(tenant.site, nodes)
        found[tenant.site.router] = (node.name, keepalived(node, tenant.site.router))
    return found


@pytest.mark.full
def test_features_survive_going_and_coming_back(
    tenants: list[Tenant], nodes: list[Host], hosts: list[Host], reference: bool
) -> None:
    if reference:
        pytest.skip("begins with dvr-agent")
    three = [*nodes, hosts[1]]
    before = served(tenants, nodes)
    with contextlib.ExitStack() as stack:
        traffics, streams = [], []
        for number, tenant in enumerate(tenants):
            address = tenant.floating["floating_ip_address"]
            ports = (7100 + number, 7200 + number)
            traffics.append(
                stack.enter_context(Traffic(tenant.site, tenant.inward, address, tenant.outward, ports=ports))
            )
            stack.enter_context(Echo(tenant.target.netns, 7003))
            streams.append(
                stack.enter_context(Conversation(tenant.site.outside_netns, tenant.outside_address, 2222, PATIENCE))
            )
        hand_over(three)
        for traffic in traffics:
            traffic.go_on()
        assert served(tenants, nodes) == before
        take_over(three)
        for traffic in traffics:
            traffic.go_on()
    for traffic in traffics:
        traffic.check()
    assert not any(stream.broken for stream in streams)
    assert served(tenants, nodes) == before
    for host in three:
        assert not chains(host, "nft", THEIRS)
        host.dvrctl("plan")
    for tenant in tenants:
        for node in nodes:
            if tenant.site.central in node.namespaces():
                assert FAST in limits(node, tenant.site.central)
