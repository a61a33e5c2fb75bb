"""From neutron-l3-agent to dvr-agent and back on both hosts, with packets flowing all the time: nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.cloud.takeover import THEIRS, chains, hand_over, take_over
from tests.support.cloud.traffic import Asker, Traffic
from tests.support.waiting import wait_for


@pytest.fixture
def pair(hosts: list[Host]) -> Iterator[list[Host]]:
    """The two hosts with external networks; with dvr-agent again afterwards."""
    two = hosts[:2]
    yield two
    for host in two:
        if host.l3 is None or "dvr-agent" not in host.l3.name or not host.l3.running:
            if host.l3 is not None:
                host.l3.stop()
            host.start_dvr_agent()


def test_going_to_the_reference_agent_and_coming_back_loses_no_packet(
    site: Site, cloud: Cloud, pair: list[Host]
) -> None:
    one, two, three = site.on(pair[0], pair[1], pair[1])
    floating = site.floating_ip(two)
    site.reachable(floating)
    one.reaches(site.outside)
    with Traffic(site, two, floating["floating_ip_address"], one) as traffic, Asker(one) as there:
        hand_over(pair)
        wait_for(lambda: pair[0].processes("haproxy"), "haproxy runs")
        pair[0].metadata_proxy.stop()
        there.go_on()
        traffic.go_on()
        for host in pair:
            assert chains(host, "nft", THEIRS)
            assert not chains(host, "legacy", "dvr-")
        made_by_them = site.floating_ip(three)
        site.reachable(made_by_them)
        assert set(there.answers) == {one.port["device_id"]}
        pair[0].metadata_proxy.restart()
        with Asker(one) as asker:
            take_over(pair)
            wait_for(lambda: not pair[0].processes("haproxy"), "haproxy has ended")
            asker.go_on()
        traffic.go_on()
        for host in pair:
            assert not chains(host, "nft", THEIRS)
            assert not chains(host, "legacy", THEIRS)
            assert chains(host, "legacy", "dvr-")
    traffic.check()
    assert set(asker.answers) == {one.port["device_id"]}
    site.reachable(made_by_them)
    # A second look finds nothing to do: what was taken over is what we would have made.
    for host in pair:
        assert host.dvrctl("plan")


def test_an_agent_refuses_to_start_beside_the_other_one(hosts: list[Host]) -> None:
    host = hosts[2]
    assert host.l3 is not None
    host.l3.stop()
    theirs = host.start_neutron_l3()
    wait_for(lambda: host.processes("neutron-l3-agent"), "it runs")
    ours = host.start_dvr_agent()
    try:
        assert ours.wait() == 1
        assert "neutron-l3-agent" in ours.log.read_text()
    finally:
        theirs.stop()
        host.start_dvr_agent()
        host.wait_in_sync()
