"""Routers as a whole: gateways, interfaces, deletion, and who hosts them; what the API says of the agents."""

from __future__ import annotations

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.waiting import wait_for


def test_the_agents_are_what_the_server_expects_of_l3_agents(cloud: Cloud) -> None:
    agents = {agent["host"]: agent for agent in cloud.api.list("agents", agent_type="L3%20agent")}
    assert set(agents) == {host.name for host in cloud.hosts}
    for host in cloud.hosts:
        agent = agents[host.name]
        assert (agent["alive"], agent["binary"], agent["topic"]) == (True, "neutron-l3-agent", "l3_agent")
        assert agent["availability_zone"] == "nova"
        assert agent["configurations"]["agent_mode"] == host.plan.mode


@pytest.mark.full
def test_the_gateway_is_cleared_and_set_again(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[0], hosts[1])
    for instance in (one, two):
        instance.reaches(site.outside)
    site.api.update("routers", site.router, external_gateway_info={})
    wait_for(lambda: f"snat-{site.router}" not in hosts[0].namespaces(), "the SNAT namespace is gone")
    assert not two.pings(site.outside)
    one.reaches(two.address)
    site.api.update("routers", site.router, external_gateway_info={"network_id": site.external})
    for instance in (one, two):
        instance.reaches(site.outside)
    floating = site.floating_ip(two)
    site.reachable(floating)


def test_the_gateway_moves_to_another_external_network(site: Site, cloud: Cloud, hosts: list[Host]) -> None:
    (instance,) = site.on(hosts[1])
    site.reachable(site.floating_ip(instance))
    site.delete_floating_ip(site.floating_ips[0])
    site.use_external("physnet2")
    instance.reaches(site.outside)
    site.reachable(site.floating_ip(instance))
    wait_for(
        lambda: f"fip-{cloud.external['physnet1']}" not in hosts[1].namespaces(),
        "the first external network is not used any more",
    )


def test_a_second_network_is_routed_until_it_is_taken_away(site: Site, hosts: list[Host]) -> None:
    (one,) = site.on(hosts[0])
    other = site.api.network("other", "10.250.0.0/24")
    try:
        site.api.add_interface(site.router, other["subnet_id"])
        two = site.boot(hosts[1], network=other["id"], gateway="10.250.0.1")
        one.reaches(two.address)
        two.reaches(one.address)
        site.delete_instance(two)
        site.api.remove_interface(site.router, other["subnet_id"])
        wait_for(lambda: len(hosts[0].router_links(site.router, "qr-")) == 1, "the second interface is gone")
        one.reaches(site.outside)
    finally:
        site.api.delete("networks", other["id"])


@pytest.mark.full
def test_extra_routes_come_and_go(site: Site, hosts: list[Host]) -> None:
    site.on(hosts[1])
    route = {"destination": "172.30.0.0/16", "nexthop": f"10.{site.number}.0.77"}
    site.api.update("routers", site.router, routes=[route])
    wait_for(lambda: "172.30.0.0/16" in hosts[1].routes(site.router), "the route is there")
    site.api.update("routers", site.router, routes=[])
    wait_for(lambda: "172.30.0.0/16" not in hosts[1].routes(site.router), "the route is gone")


@pytest.mark.full
def test_the_scheduler_takes_a_router_from_the_snat_agent_and_gives_it_back(
    site: Site, cloud: Cloud, hosts: list[Host]
) -> None:
    (two,) = site.on(hosts[1])
    two.reaches(site.outside)
    agent = cloud.l3_agent(hosts[0])
    site.api.call("DELETE", f"agents/{agent}/l3-routers/{site.router}")
    wait_for(lambda: f"snat-{site.router}" not in hosts[0].namespaces(), "the SNAT namespace is gone")
    site.api.call("POST", f"agents/{agent}/l3-routers", {"router_id": site.router})
    two.reaches(site.outside)


@pytest.mark.full
def test_an_agent_is_taken_out_of_service_and_put_back(site: Site, cloud: Cloud, hosts: list[Host]) -> None:
    one, two, three = site.on(hosts[0], hosts[1], hosts[1])
    floating = site.floating_ip(two)
    site.reachable(floating)
    agent = cloud.l3_agent(hosts[1])
    try:
        site.api.update("agents", agent, admin_state_up=False)
        one.reaches(site.outside)
    finally:
        site.api.update("agents", agent, admin_state_up=True)
    site.reachable(floating)
    later = site.floating_ip(three)
    site.reachable(later)


def test_a_router_that_is_down_carries_nothing_and_comes_back(site: Site, hosts: list[Host]) -> None:
    (two,) = site.on(hosts[1])
    floating = site.floating_ip(two)
    site.reachable(floating)
    site.api.update("routers", site.router, admin_state_up=False)
    site.unreachable(floating)
    site.api.update("routers", site.router, admin_state_up=True)
    site.reachable(floating)
