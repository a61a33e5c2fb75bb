"""Port forwardings made, changed and deleted: what packets do, and what the API says of the floating IP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud.api import Item
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site, wait_for_packets
from tests.support.probes import Echo, Mirror, Stream, who_answers
from tests.support.waiting import wait_for


@pytest.fixture(
    scope="module", params=[True, pytest.param(False, marks=pytest.mark.full)], ids=["distributed", "legacy"]
)
def shared_site(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(cloud, distributed=request.param, ha=False) as made:
        yield made


def leads_to(site: Site, floating: Item, port: int, instance: Instance, inner: int) -> None:
    """Wait until a connection from outside to that port ends at the instance's."""
    site.leads_to(instance, floating["floating_ip_address"], port, inner)


def closed(site: Site, floating: Item, port: int, instance: Instance, inner: int) -> None:
    """Wait until no connection from outside to that port ends at the instance."""
    address = floating["floating_ip_address"]
    with Echo(instance.netns, inner):
        wait_for(lambda: who_answers(site.outside_netns, address, port) is None, f"{address}:{port} is closed")


def mirrored(site: Site, floating: Item, port: int) -> bool:
    """Datagrams to that port are answered; from a new socket, as an old one's would go where its first one went."""
    stream = Stream(site.outside_netns, floating["floating_ip_address"], port)
    try:
        return stream.seen_as(0.5) is not None
    finally:
        stream.close()


def test_a_forwarding_is_made_changed_and_deleted(site: Site, hosts: list[Host]) -> None:
    one, two, three = site.on(*hosts)
    floating = site.floating_ip()
    assert site.status(floating) == "DOWN"
    made = site.forward(floating, "tcp", "2222", two, "22")
    leads_to(site, floating, 2222, two, 22)
    site.wait_status(floating, "ACTIVE")

    collection = f"floatingips/{floating['id']}/port_forwardings"
    site.api.update(collection, made["id"], external_port=2223)
    leads_to(site, floating, 2223, two, 22)
    closed(site, floating, 2222, two, 22)
    target = {"internal_port_id": three.port["id"], "internal_ip_address": three.address, "internal_port": 2022}
    site.api.update(collection, made["id"], **target)
    leads_to(site, floating, 2223, three, 2022)
    # From inside, by the address that is known outside.
    site.leads_to(three, floating["floating_ip_address"], 2223, 2022, client=one.netns)

    site.delete_forwarding(floating["id"], made["id"])
    closed(site, floating, 2223, three, 2022)
    site.wait_status(floating, "DOWN")


@pytest.mark.full
def test_ranges_and_other_protocols_stand_beside_each_other(site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[0], hosts[1])
    floating = site.floating_ip()
    site.forward(floating, "tcp", "9000:9009", two, "8000:8009")
    site.forward(floating, "tcp", "7000:7003", one, "80")
    datagrams = site.forward(floating, "udp", "5353", one, "53")
    leads_to(site, floating, 9004, two, 8004)
    leads_to(site, floating, 7002, one, 80)
    with Mirror(one.netns, 53):
        wait_for_packets(site.cloud, lambda: mirrored(site, floating, 5353), "datagrams are forwarded")
    site.delete_forwarding(floating["id"], datagrams["id"])
    leads_to(site, floating, 9009, two, 8009)
    assert site.status(floating) == "ACTIVE"


def test_the_forwardings_of_a_deleted_instance_go_with_it(site: Site, hosts: list[Host]) -> None:
    staying = site.on(hosts[0])[0]
    going = site.boot(hosts[1])
    floating = site.floating_ip()
    site.forward(floating, "tcp", "80", staying, "80")
    gone = site.forward(floating, "tcp", "81", going, "80")
    leads_to(site, floating, 81, going, 80)
    site.forwardings.remove((floating["id"], gone["id"]))
    site.delete_instance(going)
    wait_for(lambda: who_answers(site.outside_netns, floating["floating_ip_address"], 81) is None, "it is closed")
    leads_to(site, floating, 80, staying, 80)
    assert site.status(floating) == "ACTIVE"
