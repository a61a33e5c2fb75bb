"""NDP proxies: an instance's IPv6 address is known outside as long as the API says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site
from tests.support.waiting import wait_for

EXTERNAL, GATEWAY = "2001:db8:ffff::/64", "2001:db8:ffff::1"
"""Of a number that no site has."""


@pytest.fixture(scope="module")
def pool(cloud: Cloud) -> Iterator[str]:
    """A pool of one address scope; the second external network has a subnet of it."""
    scope = cloud.api.create("address-scopes", name="six", ip_version=6)
    prefixes = {"prefixes": ["2001:db8::/32"], "default_prefixlen": 64}
    made = cloud.api.create("subnetpools", name="six", address_scope_id=scope["id"], **prefixes)
    values = {"ip_version": 6, "subnetpool_id": made["id"], "cidr": EXTERNAL, "gateway_ip": GATEWAY}
    subnet = cloud.api.subnet(cloud.external["physnet2"], EXTERNAL, values)
    cloud.outside("ip", "addr", "add", f"{GATEWAY}/64", "dev", "physnet2", "nodad")
    yield made["id"]
    cloud.outside("ip", "addr", "del", f"{GATEWAY}/64", "dev", "physnet2")
    cloud.api.delete("subnets", subnet["id"])
    cloud.api.delete("subnetpools", made["id"])
    cloud.api.delete("address-scopes", scope["id"])


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.full)], ids=["distributed", "legacy"])
def site(cloud: Cloud, pool: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A router with an IPv6 network of the scope."""
    with Site(cloud, "physnet2", distributed=request.param, ha=False) as made:
        prefix = f"2001:db8:{made.number:x}::"
        values = {"ip_version": 6, "subnetpool_id": pool, "gateway_ip": f"{prefix}1"}
        subnet = made.api.subnet(made.network["id"], f"{prefix}/64", values)
        made.api.add_interface(made.router, subnet["id"])
        made.api.update("routers", made.router, enable_ndp_proxy=True)
        cloud.outside("ip", "route", "add", f"{prefix}/64", "dev", "physnet2")
        yield made
        cloud.outside("ip", "route", "del", f"{prefix}/64", "dev", "physnet2")
        for proxy in made.api.list("ndp_proxies"):
            made.api.delete("ndp_proxies", proxy["id"])
        made.api.update("routers", made.router, enable_ndp_proxy=False)


def boot(site: Site, host: Host) -> Instance:
    """An instance whose IPv6 leaves by the router."""
    instance = site.boot(host)
    host.run("ip", "-n", instance.name, "route", "add", "default", "via", f"2001:db8:{site.number:x}::1")
    return instance


def answers(site: Site, instance: Instance) -> bool:
    words = ["ping", "-n", "-c", 1, "-W", 1, instance.address6]
    return "1 received" in site.cloud.outside(*words, check=False)


def test_an_address_is_known_outside_while_it_is_proxied(site: Site, hosts: list[Host], reference: bool) -> None:
    distributed = site.central.startswith("snat")
    # The reference agent proxies nothing for instances of dvr_snat hosts.
    instances = [boot(site, host) for host in (hosts[1:] if reference or not distributed else hosts)]
    assert not any(answers(site, instance) for instance in instances)
    made = [site.api.ndp_proxy(site.router, instance.port, instance.address6) for instance in instances]
    for instance in instances:
        wait_for(
            lambda one=instance: answers(site, one), f"{instance.address6} on {instance.host.name} answers outside"
        )
        instance.reaches(GATEWAY)
    site.api.delete("ndp_proxies", made[0]["id"])
    wait_for(lambda: not answers(site, instances[0]), "the first is silent")
    assert answers(site, instances[1])
    for proxy in made[1:]:
        site.api.delete("ndp_proxies", proxy["id"])
    site.api.update("routers", site.router, enable_ndp_proxy=False)
    wait_for(lambda: not any(answers(site, instance) for instance in instances[1:]), "all are silent")
