"""Server or broker go away and come back: the data plane does not notice, and what was missed is made up for."""

from __future__ import annotations

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.cloud.traffic import Traffic


def test_neutron_server_restarts(site: Site, cloud: Cloud, hosts: list[Host]) -> None:
    one, two, three = site.on(hosts[0], hosts[1], hosts[1])
    floating = site.floating_ip(one)
    site.reachable(floating)
    two.reaches(site.outside)
    with Traffic(site, one, floating["floating_ip_address"], two) as traffic:
        cloud.server.restart_neutron()
        later = site.floating_ip(three)
        site.reachable(later)
    traffic.check()


@pytest.mark.full
def test_rabbitmq_restarts(site: Site, cloud: Cloud, hosts: list[Host]) -> None:
    one, two, three = site.on(hosts[0], hosts[1], hosts[1])
    floating = site.floating_ip(one)
    site.reachable(floating)
    two.reaches(site.outside)
    with Traffic(site, one, floating["floating_ip_address"], two) as traffic:
        cloud.server.stop_rabbitmq()
        traffic.go_on()
        cloud.server.start_rabbitmq()
        later = site.floating_ip(three)
        site.reachable(later)
    traffic.check()
    cloud.wait_l3_agents()


def test_what_happened_while_a_host_was_cut_off_is_made_up_for(site: Site, cloud: Cloud, hosts: list[Host]) -> None:
    two, three = site.on(hosts[1], hosts[1])
    gone = site.floating_ip(two)
    site.reachable(gone)
    made = site.floating_ip()  # before the other one is deleted, or Neutron may give it the same address
    with cloud.cut_off(hosts[1]):
        site.delete_floating_ip(gone)
        site.associate(made, three)
        assert site.status(made) == "DOWN"
    site.wait_status(made, "ACTIVE")
    site.reachable(made)
    site.silent(gone)
