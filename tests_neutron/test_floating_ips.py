"""Floating IPs: what the API says of them, and what packets do."""

from __future__ import annotations

import pytest

from tests.support.cloud.api import Item
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site
from tests.support.waiting import wait_for


def leads_to(site: Site, floating: Item, instance: Instance) -> None:
    """Wait until a connection from outside ends at the instance."""
    site.leads_to(instance, floating["floating_ip_address"])


def test_a_floating_ip_is_active_and_carries_packets_both_ways(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[0], hosts[1])
    first, second = site.floating_ip(one), site.floating_ip(two)
    for floating in (first, second):
        site.reachable(floating)
    one.reaches(two.address)
    two.reaches(one.address)
    one.reaches(second["floating_ip_address"])
    two.reaches(site.outside)


def test_snat_reaches_the_outside_from_every_kind_of_host(site: Site, hosts: list[Host]) -> None:
    for instance in site.on(*hosts):
        instance.reaches(site.outside)


def test_a_disassociated_floating_ip_is_down_and_silent(site: Site, hosts: list[Host]) -> None:
    (instance,) = site.on(hosts[1])
    floating = site.floating_ip(instance)
    site.reachable(floating)
    site.associate(floating, None)
    site.wait_status(floating, "DOWN")
    site.unreachable(floating)
    instance.reaches(site.outside)


@pytest.mark.parametrize("alone", [False, True], ids=["router stays on its host", "router leaves its host"])
def test_a_floating_ip_whose_instance_is_deleted_is_down(site: Site, hosts: list[Host], alone: bool) -> None:
    instance = site.on(*[hosts[1]] * (1 if alone else 2))[0]
    floating = site.floating_ip_associated_once(instance)
    site.delete_instance(instance)
    site.wait_status(floating, "DOWN")
    assert hosts[1].has_router(site.router) != alone


def test_a_floating_ip_stays_active_when_the_instance_that_had_it_is_deleted(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[1], hosts[0])
    floating = site.floating_ip(one)
    site.associate(floating, two)
    leads_to(site, floating, two)
    site.wait_status(floating, "ACTIVE")
    site.delete_instance(one)
    wait_for(lambda: not hosts[1].has_router(site.router), "the router has left its host")
    hosts[1].wait_in_sync()
    assert site.api.show("floatingips", floating["id"])["status"] == "ACTIVE"


def test_a_floating_ip_moves_to_an_instance_on_another_host_and_back(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[0], hosts[1])
    floating = site.floating_ip(one)
    leads_to(site, floating, one)
    for instance in (two, one):
        site.associate(floating, instance)
        leads_to(site, floating, instance)
        site.wait_status(floating, "ACTIVE")


@pytest.mark.full
def test_a_floating_ip_moves_between_instances_of_one_host(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[1], hosts[1])
    floating = site.floating_ip(one)
    leads_to(site, floating, one)
    site.associate(floating, two)
    leads_to(site, floating, two)
    site.wait_status(floating, "ACTIVE")


@pytest.mark.full
def test_a_host_without_external_network_has_its_floating_ips_on_the_snat_host(site: Site, hosts: list[Host]) -> None:
    (instance,) = site.on(hosts[2])
    floating = site.floating_ip(instance)
    leads_to(site, floating, instance)
    assert not any(name.startswith("fip-") for name in hosts[2].router_namespaces())
    site.associate(floating, None)
    site.unreachable(floating)


def test_a_floating_ip_follows_an_instance_that_migrates(site: Site, hosts: list[Host]) -> None:
    (instance,) = site.on(hosts[1])
    floating = site.floating_ip(instance)
    leads_to(site, floating, instance)
    for host in (hosts[0], hosts[1]):
        site.migrate(instance, host)
        leads_to(site, floating, instance)
        site.wait_status(floating, "ACTIVE")
