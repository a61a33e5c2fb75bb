"""An IPv6 subnet joins a network with running instances, whose addresses then change hands: the router is served on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site
from tests.support.waiting import wait_for


@pytest.fixture
def site(cloud: Cloud) -> Iterator[Site]:
    with Site(cloud) as made:
        yield made


def neighbours(host: Host, site: Site) -> dict[str, str]:
    """Address → MAC address of the permanent neighbours on the router's interfaces."""
    found = host.json("-n", f"qrouter-{site.router}", "neigh", "show", "nud", "permanent")
    return {entry["dst"]: entry["lladdr"] for entry in found if entry["dev"].startswith("qr-")}


def has(hosts: list[Host], site: Site, wanted: dict[str, str | None]) -> None:
    """Wait until all hosts have these neighbours, and none where there is to be none; no document was refused."""
    for host in hosts:

        def met(host: Host = host) -> bool:
            found = neighbours(host, site)
            return all(found.get(address) == mac for address, mac in wanted.items())

        wait_for(met, f"neighbours on {host.name} are {wanted}")
        assert host.dvr_status()["source"]["bad"] == []


def csnat(site: Site, subnet: str) -> tuple[str, str]:
    """Address and MAC address of the router's csnat port in a subnet."""
    ports = site.api.list("ports", device_id=site.router, device_owner="network:router_centralized_snat")
    (found,) = [
        (fixed["ip_address"], port["mac_address"])
        for port in ports
        for fixed in port["fixed_ips"]
        if fixed["subnet_id"] == subnet
    ]
    return found


def as_it_is_now(site: Site, instance: Instance) -> Instance:
    """The instance, with the addresses that its port has got since it was created."""
    instance.port = site.api.show("ports", instance.port["id"])
    return instance


@pytest.mark.full
def test_addresses_of_a_dual_stack_network_change_hands(site: Site, hosts: list[Host]) -> None:
    both = hosts[:2]
    one, two = site.on(*both)
    one.reaches(two.address)
    site.add_ipv6()
    (subnet,) = site.api.list("subnets", network_id=site.network["id"], ip_version="6")
    one, two = as_it_is_now(site, one), as_it_is_now(site, two)
    for instance in (one, two):
        mac = instance.port["mac_address"]
        has(both, site, {instance.address: mac, instance.address6: mac})

    address, address6 = one.address, one.address6
    site.delete_instance(one)
    fixed = [{"subnet_id": site.network["subnet_id"], "ip_address": address}]
    successor = site.api.instance_port(site.network["id"], both[1].name, fixed_ips=fixed)
    try:
        has(both[1:], site, {address: successor["mac_address"], address6: None})
    finally:
        site.api.delete("ports", successor["id"])
    has(both[1:], site, {address: None, address6: None})

    old = csnat(site, subnet["id"])
    has(both[1:], site, dict([old]))
    site.api.remove_interface(site.router, subnet["id"])
    site.api.add_interface(site.router, subnet["id"])
    new = csnat(site, subnet["id"])
    gone = {} if new[0] == old[0] else {old[0]: None}
    has(both[1:], site, {**dict([new]), **gone, two.address6: two.port["mac_address"]})
    site.reachable(site.floating_ip(two))
