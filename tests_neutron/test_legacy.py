"""Routers that are not distributed, on the network node: floating IPs and SNAT, and what changes of the router do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def shared_site(cloud: Cloud) -> Iterator[Site]:
    with Site(cloud, distributed=False, ha=False) as made:
        yield made


def test_floating_ips_and_snat_carry_packets_for_instances_of_every_host(site: Site, hosts: list[Host]) -> None:
    one, two, three = site.on(*hosts)
    for instance in (one, two, three):
        instance.reaches(site.outside)
    first, second = site.floating_ip(one), site.floating_ip(two)
    for floating in (first, second):
        site.reachable(floating)
    three.reaches(second["floating_ip_address"])
    one.reaches(second["floating_ip_address"])
    assert f"qrouter-{site.router}" in hosts[0].namespaces()
    assert not any(host.has_router(site.router) for host in hosts[1:])


@pytest.mark.full
def test_a_floating_ip_moves_and_goes(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[0], hosts[1])
    floating = site.floating_ip(one)
    site.reachable(floating)
    site.associate(floating, two)
    site.leads_to(two, floating["floating_ip_address"])
    site.wait_status(floating, "ACTIVE")
    site.associate(floating, None)
    site.wait_status(floating, "DOWN")
    site.unreachable(floating)


def test_a_floating_ip_whose_instance_is_deleted_is_down(site: Site, hosts: list[Host]) -> None:
    instance = site.boot(hosts[1])
    floating = site.floating_ip_associated_once(instance)
    site.delete_instance(instance)
    site.wait_status(floating, "DOWN")


def test_routes_and_gateway_come_and_go(site: Site, hosts: list[Host]) -> None:
    (two,) = site.on(hosts[1])
    route = {"destination": "172.30.0.0/16", "nexthop": f"10.{site.number}.0.77"}
    site.api.update("routers", site.router, routes=[route])
    wait_for(lambda: "172.30.0.0/16" in hosts[0].routes(site.router), "the route is there")
    site.api.update("routers", site.router, routes=[], external_gateway_info={})
    wait_for(lambda: not hosts[0].router_links(site.router, "qg-"), "the gateway is gone")
    assert not two.pings(site.outside)
    wait_for(lambda: "172.30.0.0/16" not in hosts[0].routes(site.router), "the route is gone")
    site.api.update("routers", site.router, external_gateway_info={"network_id": site.external})
    two.reaches(site.outside)


@pytest.mark.full
def test_a_router_becomes_distributed_and_comes_back(cloud: Cloud, hosts: list[Host]) -> None:
    with Site(cloud, distributed=False, ha=False) as site:
        (two,) = site.on(hosts[1])
        floating = site.floating_ip(two)
        site.reachable(floating)
        for distributed in (True, False):
            site.api.update("routers", site.router, admin_state_up=False)
            site.api.update("routers", site.router, distributed=distributed)
            site.api.update("routers", site.router, admin_state_up=True)
            wait_for(lambda: hosts[1].has_router(site.router) == distributed, "the kind has changed")  # noqa: B023
            site.reachable(floating)
            two.reaches(site.outside)
            wait_for(
                lambda: (f"snat-{site.router}" in hosts[0].namespaces()) == distributed,  # noqa: B023
                "the SNAT namespace is there if it is distributed",
            )
    wait_for(lambda: not hosts[0].has_router(site.router), "nothing is left")
