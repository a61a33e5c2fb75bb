"""Metadata from the real neutron-metadata-agent, by dvr-metadata-proxy, and router advertisements, for instances."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site
from tests.support.cloud.traffic import Asker, ask_metadata
from tests.support.waiting import wait_for

METADATA6 = "fe80::a9fe:a9fe"


def told(instance: Instance, **headers: Any) -> str:
    return ask_metadata(instance.netns, **headers)


def is_told_its_id(instance: Instance) -> None:
    wait_for(lambda: told(instance) == instance.port["device_id"], f"{instance.name} is told its id")


def test_an_instance_is_told_its_own_id_whatever_it_claims(cloud: Cloud, site: Site, hosts: list[Host]) -> None:
    one, two = site.on(hosts[0], hosts[0])
    with Site(cloud) as other:
        foreign = other.boot(hosts[0])
        for instance in (one, two, foreign):
            is_told_its_id(instance)
        claims = {
            "X-Forwarded-For": foreign.address,
            "X-Neutron-Router-ID": other.router,
            "X_Neutron_Router_ID": other.router,
            "X-Instance-ID": foreign.port["device_id"],
        }
        for name, value in claims.items():
            assert told(one, **{name: value}) == one.port["device_id"]
        assert told(one, **claims) == one.port["device_id"]


def test_the_proxys_own_port_is_closed_to_instances(site: Site, hosts: list[Host]) -> None:
    (one,) = site.on(hosts[0])
    is_told_its_id(one)
    gateway = f"10.{site.number}.0.1"
    words = ["curl", "-sS", "--max-time", 3, f"http://{gateway}:9697/"]
    said = hosts[0].run("ip", "netns", "exec", one.name, *words, "-o", "/dev/null", "-w", "%{http_code}", check=False)
    assert said == "000"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restarted_proxy_or_agent_is_not_noticed(site: Site, hosts: list[Host], how: str) -> None:
    host = hosts[0]
    (one,) = site.on(host)
    is_told_its_id(one)
    assert host.l3 is not None
    with Asker(one) as asker:
        getattr(host.l3, how)()
        asker.go_on()
        host.start_dvr_agent()
        host.wait_in_sync()
        asker.go_on()
        if how == "stop":
            host.metadata_proxy.stop()
            host.metadata_proxy.restart()
            asker.go_on()
    assert set(asker.answers) == {one.port["device_id"]}
    host.wait_in_sync()


def test_a_killed_proxy_is_replaced_with_all_its_routers(site: Site, hosts: list[Host]) -> None:
    host = hosts[0]
    (one,) = site.on(host)
    is_told_its_id(one)
    host.metadata_proxy.kill()
    host.metadata_proxy.restart()
    is_told_its_id(one)


@pytest.mark.full
def test_without_neutron_metadata_agent_instances_get_503(site: Site, hosts: list[Host]) -> None:
    host = hosts[0]
    (one,) = site.on(host)
    is_told_its_id(one)
    host.metadata_agent.kill()
    assert told(one).startswith("503")
    host.metadata_agent.restart()
    is_told_its_id(one)


@pytest.mark.full
def test_ipv6_addresses_by_router_advertisement_and_metadata_by_ipv6(cloud: Cloud, hosts: list[Host]) -> None:
    host = hosts[0]
    with Site(cloud) as site:
        site.add_ipv6()
        one = site.boot(host)
        inside = ["ip", "-n", one.name]
        # What was given to the instance by hand goes: it shall learn it.
        host.run(*inside, "-6", "addr", "flush", "dev", "eth0", "scope", "global")
        path = f"/run/netns/{one.name}"
        host.run("nsenter", f"--net={path}", "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra_rt_info_max_plen=128")
        host.run(*inside, "link", "set", "eth0", "down")
        host.run(*inside, "link", "set", "eth0", "up")

        def learned() -> bool:
            found = host.json("-n", one.name, "-6", "addr", "show", "dev", "eth0", "scope", "global")
            addresses = [entry.get("local") for link in found for entry in link.get("addr_info", [])]
            routes = host.json("-n", one.name, "-6", "route", "show", "default")
            return one.address6 in addresses and bool(routes)

        wait_for(learned, "the instance has learned its address and its default route")
        wait_for(
            lambda: ask_metadata(one.netns, f"{METADATA6}%eth0") == one.port["device_id"],
            "its metadata by IPv6",
        )
    wait_for(lambda: not host.processes("radvd"), "radvd has gone with the router")
