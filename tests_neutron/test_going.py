"""Routers that leave a host, or go altogether: nothing of them stays."""

from __future__ import annotations

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.waiting import wait_for


def nothing_left(hosts: list[Host]) -> None:
    """Wait until no L3 agent has anything anywhere."""
    for host in hosts:
        wait_for(
            lambda host=host: not host.router_namespaces() | host.router_ports(),
            f"{host.name} has neither router namespaces nor router ports",
        )


def test_a_deleted_router_leaves_nothing(cloud: Cloud, hosts: list[Host]) -> None:
    with Site(cloud) as site:
        for host in hosts:
            instance = site.boot(host)
            site.reachable(site.floating_ip(instance))
    nothing_left(hosts)


@pytest.mark.full
def test_deleting_and_making_a_router_at_once_leaves_no_stray_gateway(cloud: Cloud, hosts: list[Host]) -> None:
    with Site(cloud) as first:
        first.reachable(first.floating_ip(first.boot(hosts[1])))
    with Site(cloud) as second:
        second.reachable(second.floating_ip(second.boot(hosts[1])))
        assert {name for name in hosts[1].router_namespaces() if name.startswith("fip-")} == {f"fip-{second.external}"}
        assert len([name for name in hosts[1].router_ports() if name.startswith("fg-")]) == 1
    nothing_left(hosts)


def test_a_host_without_instances_of_a_router_leaves_it(cloud: Cloud, hosts: list[Host]) -> None:
    with Site(cloud) as site:
        site.boot(hosts[1]).reaches(site.outside)
        site.migrate(site.instances[0], hosts[0])
        wait_for(lambda: not hosts[1].has_router(site.router), "the old host has left the router")
        site.instances[0].reaches(site.outside)


@pytest.mark.full
def test_a_dual_stack_router_comes_and_goes(cloud: Cloud, hosts: list[Host]) -> None:
    with Site(cloud) as site:
        site.add_ipv6()
        one, two = site.on(hosts[0], hosts[1])
        one.reaches(two.address6)
        two.reaches(one.address6)
        one.reaches(two.address)
    nothing_left(hosts)
