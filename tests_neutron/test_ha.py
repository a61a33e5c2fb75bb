"""HA routers on two network nodes: one is active, the server knows which, and the other takes over."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.cloud.api import Item
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.ha import active, keepalived, other, send
from tests.support.cloud.host import Host
from tests.support.cloud.limits import limits
from tests.support.cloud.process import Process
from tests.support.cloud.sandbox import run
from tests.support.cloud.site import Instance, Site
from tests.support.cloud.traffic import Traffic
from tests.support.waiting import wait_for

FULL = pytest.mark.full


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=FULL)], ids=["legacy", "distributed"])
def shared_site(cloud: Cloud, network_node: Host, request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(cloud, distributed=request.param, ha=True) as made:
        yield made


@pytest.fixture
def nodes(hosts: list[Host], network_node: Host) -> list[Host]:
    """The two network nodes."""
    return [hosts[0], network_node]


@pytest.fixture
def forwarded(site: Site, hosts: list[Host]) -> tuple[Item, Instance]:
    """A forwarded port: it is where SNAT is, so it shows which node serves."""
    instance = site.on(hosts[1])[0]
    floating = site.floating_ip()
    site.forward(floating, "tcp", "2222", instance, "22")
    return floating, instance


def leads(site: Site, forwarded: tuple[Item, Instance]) -> None:
    """Wait until the forwarded port is open outside."""
    floating, instance = forwarded
    site.leads_to(instance, floating["floating_ip_address"], 2222, 22)


def test_one_node_is_active_and_serves(
    site: Site, nodes: list[Host], hosts: list[Host], forwarded: tuple[Item, Instance]
) -> None:
    serving = active(site, nodes)
    waiting = other(serving, nodes)
    one, two = site.on(hosts[0], hosts[2])
    for instance in (one, two):
        instance.reaches(site.outside)
    site.reachable(site.floating_ip(one))
    leads(site, forwarded)
    for node in nodes:
        assert keepalived(node, site.router)
    # The other one is ready, and mute.
    for device in waiting.json("-n", site.central, "addr", "show"):
        if device["ifname"].startswith(("qg-", "sg-")):
            assert device["addr_info"] == []


def test_the_other_node_takes_over_when_keepalived_is_ended(
    site: Site, nodes: list[Host], hosts: list[Host], forwarded: tuple[Item, Instance]
) -> None:
    serving = active(site, nodes)
    leads(site, forwarded)
    send(serving, site.router, signal.SIGTERM)
    wait_for(lambda: other(serving, nodes).holds(site.router), "the other node is active")
    assert active(site, nodes) is other(serving, nodes)
    leads(site, forwarded)
    site.on(hosts[1])[0].reaches(site.outside)
    wait_for(lambda: keepalived(serving, site.router), "it runs again")
    assert active(site, nodes) is other(serving, nodes)


@pytest.mark.parametrize("end", [Process.stop, pytest.param(Process.kill, marks=FULL)], ids=["stopped", "killed"])
def test_a_restart_of_the_agent_is_no_fail_over(
    site: Site, nodes: list[Host], hosts: list[Host], end: Callable[[Process], int]
) -> None:
    one, two = site.on(hosts[1], hosts[2])
    floating = site.floating_ip(one)
    site.reachable(floating)
    two.reaches(site.outside)
    serving = active(site, nodes)
    before = keepalived(serving, site.router)
    with Traffic(site, one, floating["floating_ip_address"], two) as traffic:
        for node in nodes:
            assert node.l3 is not None
            end(node.l3)
            traffic.go_on()
            node.l3.restart()
        for node in nodes:
            node.wait_in_sync()
        traffic.go_on()
    traffic.check()
    assert active(site, nodes) is serving
    assert keepalived(serving, site.router) == before


@FULL
def test_two_masters_do_not_last_when_keepalived_is_killed(site: Site, nodes: list[Host], hosts: list[Host]) -> None:
    (two,) = site.on(hosts[1])
    serving = active(site, nodes)
    send(serving, site.router, signal.SIGKILL)
    wait_for(lambda: keepalived(serving, site.router), "it runs again")
    active(site, nodes)
    two.reaches(site.outside)


@FULL
def test_the_other_node_takes_over_when_the_switch_is_cut(site: Site, nodes: list[Host], hosts: list[Host]) -> None:
    (two,) = site.on(hosts[1])
    serving = active(site, nodes)
    cables = [serving.cable(device) for device in serving.plan.uplinks]
    try:
        for cable in cables:
            run("ip", "link", "set", cable, "down")
        wait_for(lambda: other(serving, nodes).holds(site.router), "the other node is active")
        two.reaches(site.outside)
    finally:
        for cable in cables:
            run("ip", "link", "set", cable, "up")
    active(site, nodes)
    two.reaches(site.outside)


@FULL
def test_the_other_node_takes_over_when_keepalived_hangs(site: Site, nodes: list[Host], hosts: list[Host]) -> None:
    (two,) = site.on(hosts[1])
    serving = active(site, nodes)
    send(serving, site.router, signal.SIGSTOP)
    wait_for(lambda: other(serving, nodes).holds(site.router), "the other node is active")
    send(serving, site.router, signal.SIGCONT)
    active(site, nodes)
    two.reaches(site.outside)


@pytest.mark.full
def test_a_limit_holds_on_both_nodes(site: Site, nodes: list[Host], forwarded: tuple[Item, Instance]) -> None:
    policy = site.api.qos_policy("slow", egress=1000, ingress=2000)
    gateway = {"network_id": site.external}
    try:
        site.api.update("routers", site.router, external_gateway_info={**gateway, "qos_policy_id": policy["id"]})
        for node in nodes:
            wait_for(lambda node=node: limits(node, site.central) == {1000, 2000}, f"{node.name} limits the gateway")
    finally:
        site.api.update("routers", site.router, external_gateway_info={**gateway, "qos_policy_id": None})
        site.api.delete("qos/policies", policy["id"])
    for node in nodes:
        wait_for(lambda node=node: not limits(node, site.central), f"{node.name} limits nothing")


def test_a_deleted_router_leaves_nothing(cloud: Cloud, nodes: list[Host]) -> None:
    with Site(cloud, distributed=False, ha=True) as site:
        active(site, nodes)
    for node in nodes:
        wait_for(lambda node=node: not node.has_router(site.router), f"{node.name} has left the router")
        wait_for(lambda node=node: not keepalived(node, site.router), f"keepalived of {node.name} has ended")


@FULL
def test_instances_of_two_subnets_reach_each_other_across_hosts(
    cloud: Cloud, nodes: list[Host], hosts: list[Host]
) -> None:
    """Each host routes by itself, and knows the instances of other hosts by permanent neighbours."""
    with Site(cloud, distributed=True, ha=True) as site:
        active(site, nodes)
        network = site.api.network(f"other{site.number}", "10.250.0.0/24")
        site.api.add_interface(site.router, network["subnet_id"])
        try:
            (one,) = site.on(hosts[1])
            two = site.boot(hosts[0], network["id"], "10.250.0.1")
            one.reaches(two.address)
            two.reaches(one.address)
            site.delete_instance(two)
            site.api.remove_interface(site.router, network["subnet_id"])
        finally:
            site.api.delete("networks", network["id"])


@FULL
def test_a_router_that_is_removed_from_an_agent_leaves_its_vrrp_and_comes_back(cloud: Cloud, nodes: list[Host]) -> None:
    with Site(cloud, distributed=True, ha=True) as site:
        serving = active(site, nodes)
        staying = other(serving, nodes)
        (instance,) = site.on(serving)
        instance.reaches(site.outside)
        agent = cloud.l3_agent(serving)
        site.api.call("DELETE", f"agents/{agent}/l3-routers/{site.router}")
        wait_for(lambda: not keepalived(serving, site.router), "its keepalived has ended")
        wait_for(lambda: staying.holds(site.router), "the other node is active")
        assert serving.has_router(site.router), "its instance still needs the distributed part"
        instance.reaches(site.outside)
        site.api.call("POST", f"agents/{agent}/l3-routers", {"router_id": site.router})
        wait_for(lambda: keepalived(serving, site.router), "its keepalived runs again")
        assert active(site, nodes) is staying
        instance.reaches(site.outside)
