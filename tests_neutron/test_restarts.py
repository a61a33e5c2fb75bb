"""dvr-agent is restarted and killed on both hosts while packets flow: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cloud.host import Host
from tests.support.cloud.process import Process
from tests.support.cloud.site import Site
from tests.support.cloud.traffic import Traffic


@pytest.mark.parametrize("end", [Process.stop, Process.kill], ids=["stopped", "killed"])
def test_a_restart_loses_no_packet(site: Site, hosts: list[Host], end: Callable[[Process], int]) -> None:
    one, two = site.on(hosts[0], hosts[1])
    floating = site.floating_ip(two)
    site.reachable(floating)
    one.reaches(site.outside)
    with Traffic(site, two, floating["floating_ip_address"], one) as traffic:
        for host in hosts[:2]:
            assert host.l3 is not None
            end(host.l3)
            traffic.go_on()
            host.l3.restart()
        for host in hosts[:2]:
            host.wait_in_sync()
    traffic.check()
    if end == Process.stop:  # the server's documents are the same as before, so nothing has to be read
        for host in hosts[:2]:
            assert host.l3 is not None
            host.l3.wait_log("not read: nothing has changed there since the last stop", since=host.l3.begins)
    assert site.status(floating) == "ACTIVE"


def test_what_happened_while_the_agent_was_down_is_made_up_for(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[1], hosts[1])
    gone = site.floating_ip(one)
    site.reachable(gone)
    agent = hosts[1].l3
    assert agent is not None
    made = site.floating_ip()  # before the other one is deleted, or Neutron may give it the same address
    agent.stop()
    site.delete_floating_ip(gone)
    site.associate(made, two)
    agent.restart()
    site.wait_status(made, "ACTIVE")
    site.reachable(made)
    site.silent(gone)


@pytest.mark.full
def test_a_killed_agent_in_the_middle_of_work_finishes_it_later(site: Site, hosts: list[Host]) -> None:
    agent = hosts[1].l3
    assert agent is not None
    instances = site.on(hosts[1], hosts[1], hosts[1])
    made = [site.floating_ip(instance, wait=False) for instance in instances]
    agent.kill()
    agent.restart()
    for floating in made:
        site.wait_status(floating, "ACTIVE")
        site.reachable(floating)
