"""Floating IPs: what the API says of them, and what packets do."""

from __future__ import annotations

from tests_neutron.host import Host
from tests_neutron.process import wait_for
from tests_neutron.site import Site


def test_a_floating_ip_is_active_and_carries_packets_both_ways(site: Site, hosts: list[Host]) -> None:
    one, two = site.boot(hosts[0]), site.boot(hosts[1])
    first, second = site.floating_ip(one), site.floating_ip(two)
    for floating in (first, second):
        site.reachable(floating)
    one.reaches(two.address)
    two.reaches(one.address)
    one.reaches(second["floating_ip_address"])


def test_snat_reaches_the_outside_from_hosts_with_and_without_snat(site: Site, hosts: list[Host]) -> None:
    for host in hosts:
        site.boot(host).reaches(site.outside)


def test_a_disassociated_floating_ip_is_down_and_silent(site: Site, hosts: list[Host]) -> None:
    instance = site.boot(hosts[1])
    floating = site.floating_ip(instance)
    site.reachable(floating)
    site.associate(floating, None)
    site.wait_status(floating, "DOWN")
    site.unreachable(floating)
    instance.reaches(site.outside)


def test_a_floating_ip_moves_to_an_instance_on_another_host(site: Site, hosts: list[Host]) -> None:
    one, two = site.boot(hosts[0]), site.boot(hosts[1])
    floating = site.floating_ip(one)
    site.reachable(floating)
    site.associate(floating, two)
    wait_for("the second host answers", lambda: answered_by(site, floating, two))
    site.wait_status(floating, "ACTIVE")
