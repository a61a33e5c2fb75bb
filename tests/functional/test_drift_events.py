"""Drift is repaired when it happens, by events of the kernel: these daemons make no audits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import lab
from tests.support.daemon_site import (
    EXTERNAL_BRIDGE,
    FIP,
    QROUTER,
    RECORDED,
    ROUTER,
    SNAT,
    TENANT_BRIDGE,
    Site,
    neighbour_router,
    snapshot,
)
from tests.support.waiting import wait_for


@pytest.fixture
def built(site: Site, host: lab.Host) -> Site:
    """A daemon without audits, with one router in sync."""
    site.daemon.configure(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 600})
    host.bridge(f"brq{RECORDED['router']['gw_port']['network_id'][:11]}")
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    return site


def jobs(site: Site) -> int:
    return int(site.daemon.status()["counters"]["jobs"])


def ip(namespace: str, *words: str) -> str:
    return lab.run("ip", "-n", namespace, *words)


def first(namespace: str, prefix: str) -> str:
    """The first device of a namespace whose name begins with ``prefix``."""
    found = sorted(link["ifname"] for link in lab.ip_json("link", "show", netns=namespace))
    return next(name for name in found if name.startswith(prefix))


def a_line(namespace: str, *words: str, having: str) -> list[str]:
    """The words of the first line that ``ip`` prints with a text in it."""
    line = next(line for line in ip(namespace, *words).splitlines() if having in line)
    return line.split()


def link_down() -> None:
    ip(QROUTER, "link", "set", first(QROUTER, "qr-"), "down")


def link_bounced() -> None:
    device = first(QROUTER, "rfp-")
    lab.run("sh", "-c", f"ip -n {QROUTER} link set {device} down; ip -n {QROUTER} link set {device} up")


def link_deleted() -> None:
    ip(QROUTER, "link", "delete", first(QROUTER, "qr-"))


def link_renamed() -> None:
    device = first(SNAT, "sg-")
    ip(SNAT, "link", "set", device, "down")
    ip(SNAT, "link", "set", device, "name", "mine")


def mtu_changed() -> None:
    ip(SNAT, "link", "set", first(SNAT, "sg-"), "mtu", "1300")


def address_removed() -> None:
    ip(QROUTER, "address", "flush", "dev", first(QROUTER, "qr-"), "scope", "global")


def address_added() -> None:
    ip(FIP, "address", "add", "192.0.2.77/24", "dev", first(FIP, "fpr-"))


def route_removed() -> None:
    ip(FIP, "route", "delete", *a_line(FIP, "route", having="via 169.254.")[:1])


def route_replaced() -> None:
    words = a_line(FIP, "route", having="via 169.254.")
    ip(FIP, "route", "replace", words[0], "dev", words[words.index("dev") + 1])


def connected_route_removed() -> None:
    ip(QROUTER, "route", "delete", "10.1.0.0/24", "dev", first(QROUTER, "qr-"))


def connected_route_replaced() -> None:
    ip(SNAT, "route", "replace", "unreachable", "203.0.113.0/24")


def device_flushed() -> None:
    """With the connected route, by which they are reached, the gateways of our routes are gone."""
    ip(FIP, "route", "flush", "dev", first(FIP, "fpr-"))


def device_flushed_in_all_tables() -> None:
    ip(SNAT, "route", "flush", "table", "all", "dev", first(SNAT, "qg-"))


def rule_removed() -> None:
    priority = a_line(QROUTER, "rule", having="lookup 16")[0].rstrip(":")
    ip(QROUTER, "rule", "delete", "priority", priority)


def rule_in_fip_removed() -> None:
    priority = a_line(FIP, "rule", having="iif fpr-")[0].rstrip(":")
    ip(FIP, "rule", "delete", "priority", priority)


def local_rule_removed() -> None:
    ip(QROUTER, "rule", "delete", "priority", "0")


def local_rule_in_fip_removed() -> None:
    ip(FIP, "-6", "rule", "delete", "priority", "0")


def neighbour_removed() -> None:
    words = a_line(QROUTER, "neigh", "show", "nud", "permanent", having="lladdr")
    ip(QROUTER, "neigh", "delete", words[0], "dev", words[2])


def neighbour_learned() -> None:
    words = a_line(QROUTER, "neigh", "show", "nud", "permanent", having="lladdr")
    ip(QROUTER, "neigh", "replace", words[0], "dev", words[2], "lladdr", "02:00:00:00:00:09", "nud", "reachable")


def namespace_deleted() -> None:
    lab.run("ip", "netns", "delete", SNAT)


def shared_device_deleted() -> None:
    ip(FIP, "link", "delete", first(FIP, "fg-"))


def forwarding_off() -> None:
    lab.in_netns(SNAT, "sysctl", "-q", "-w", "net.ipv4.ip_forward=0")


def forwarding_of_ipv6_off() -> None:
    lab.in_netns(QROUTER, "sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=0")


def bridge_port_taken() -> None:
    port = RECORDED["router"]["_interfaces"][0]["id"]
    lab.run("ip", "link", "set", f"tap{port[:11]}", "nomaster")


def bridge_down() -> None:
    lab.run("ip", "link", "set", TENANT_BRIDGE, "down")


GROUPS = (
    (link_down, link_deleted, link_renamed, rule_removed, rule_in_fip_removed, route_replaced),
    (link_bounced, mtu_changed, address_removed, address_added, route_removed, neighbour_removed),
    (
        forwarding_off,
        forwarding_of_ipv6_off,
        neighbour_learned,
        bridge_port_taken,
        bridge_down,
        shared_device_deleted,
        namespace_deleted,
    ),
    (
        connected_route_removed,
        connected_route_replaced,
        device_flushed,
        device_flushed_in_all_tables,
        local_rule_removed,
        local_rule_in_fip_removed,
    ),
)
"""In none is one object repaired three times: that is a fight."""


def whole() -> dict[str, object]:
    """All that matters, and the bridge ports with their state."""
    ports = {
        link["ifname"]: (link.get("master"), "UP" in link["flags"])
        for link in lab.ip_json("link", "show")
        if link["ifname"].startswith(("tap", "brq"))
    }
    forwarding = [
        lab.in_netns(name, "sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
        for name in (QROUTER, SNAT, FIP)
        if (lab.NETNS / name).exists()
    ]
    kernel_routes = [
        line.replace(" linkdown", "")
        for name in (QROUTER, SNAT, FIP)
        if (lab.NETNS / name).exists()
        for line in sorted(ip(name, "-4", "route", "show", "table", "all", "proto", "kernel").splitlines())
        if not line.startswith("broadcast")
    ]
    return {**snapshot(), "": ports, "forwarding": forwarding, "kernel routes": kernel_routes}


@pytest.mark.parametrize("changes", GROUPS)
def test_each_kind_of_foreign_change_is_repaired_without_an_audit(
    built: Site, changes: Sequence[Callable[[], None]]
) -> None:
    before = whole()
    for change in changes:
        count = jobs(built)
        change()
        wait_for(partial(repaired, built, count), change.__name__)
        wait_for(lambda: whole() == before, change.__name__)
    assert "this is a bug" not in built.daemon.out
    assert f"router {ROUTER}" in built.daemon.out


def repaired(site: Site, count: int) -> bool:
    status = site.daemon.status()
    return bool(status["counters"]["jobs"] > count and status["state"] == "in sync") and not status["queue_depth"]


def test_own_writes_queue_no_jobs(built: Site) -> None:
    before = jobs(built)
    number = 8
    for index in range(number):
        built.write(neighbour_router(index), f"neighbour{index}")
    wait_for(lambda: built.daemon.status()["states"] == {"in sync": number + 1})
    settle(built)
    assert jobs(built) == before + number
    for index in range(number):
        (built.daemon.routers / f"neighbour{index}.json").unlink()
    wait_for(lambda: built.daemon.status()["states"] == {"in sync": 1})
    settle(built)
    assert jobs(built) == before + 2 * number
    assert "drift" not in built.daemon.out


def settle(site: Site) -> None:
    """Wait until the daemon has heard all that happened up to now: it hears a later change of none of ours."""
    count = site.daemon.status()["counters"]["events"]
    ip(FIP, "route", "add", "192.0.2.200/32", "dev", "lo", "table", "4242")
    wait_for(lambda: site.daemon.status()["counters"]["events"] > count)
    ip(FIP, "route", "delete", "192.0.2.200/32", "dev", "lo", "table", "4242")
    wait_for(lambda: not site.daemon.status()["queue_depth"])


def test_a_storm_of_foreign_events_leads_to_an_audit(built: Site, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    lines = [f"route add 198.{18 + n // 65536}.{n // 256 % 256}.{n % 256}/32 dev lo table 999" for n in range(20_000)]
    batch.write_text("\n".join(lines) + "\n")
    with built.daemon.stopped():  # so that the events wait, however fast it reads
        ip(QROUTER, "-batch", str(batch))
    wait_for(lambda: "an audit of all routers follows" in built.daemon.out)
    wait_for(lambda: built.daemon.status()["last_audit"])
    assert built.daemon.out.count("events of the kernel were lost") == 1
    assert built.state() == "in sync"


def test_a_fight_is_said_once_and_fought_after_growing_waits(built: Site) -> None:
    device = first(QROUTER, "qr-")
    for count in range(3):
        wait_for(lambda: "1450" in ip(QROUTER, "link", "show", device))
        ip(QROUTER, "link", "set", device, "mtu", str(1400 + count))
    wait_for(lambda: built.daemon.status()["fights"])
    wait_for(lambda: "1450" in ip(QROUTER, "link", "show", device))
    ip(QROUTER, "link", "set", device, "mtu", "1404")
    settle(built)
    assert "mtu 1404" in ip(QROUTER, "link", "show", device)
    (fight,) = built.daemon.status()["fights"]
    assert fight["router"] == ROUTER
    assert fight["repairs"] == 3
    assert f"link {device}" in fight["object"]
    assert built.daemon.out.count("another program manages it too") == 1


def with_refused_route() -> Any:
    """The recorded document with a route that the kernel refuses for good: its next hop is not on-link."""
    document = copy.deepcopy(RECORDED)
    (fixed,) = document["router"]["_interfaces"][0]["fixed_ips"]
    fixed["prefixlen"] = 28
    document["router"]["routes"] = [{"destination": "172.16.0.0/16", "nexthop": "10.1.0.99"}]
    return document


def test_drift_beside_a_refused_object_does_not_wait_for_its_retry(site: Site, host: lab.Host) -> None:
    retries = {"retry_interval": 3000, "retry_interval_max": 3000}
    site.daemon.configure(dvr_agent={"audit_interval": 0, **retries}, directory={"rescan_interval": 3600})
    host.bridge(EXTERNAL_BRIDGE)
    site.write(with_refused_route())
    site.daemon.start()
    assert site.state() == "degraded"
    before = whole()
    for change in (rule_removed, link_deleted, mtu_changed):
        count = jobs(site)
        change()
        wait_for(partial(idle_after, site, count), change.__name__)
        wait_for(lambda: whole() == before, change.__name__)
    status = site.daemon.status()
    assert site.daemon.out.count("172.16.0.0/16") == site.daemon.out.count("172.16.0.0/16 via 10.1.0.99 dev") > 0
    repaired_lines = [line for line in site.daemon.out.splitlines() if "drift repaired" in line]
    assert repaired_lines
    assert not [line for line in repaired_lines if "172.16." in line], "what was refused was not repaired"
    assert status["counters"]["drift_repaired"] == 3
    assert not status["fights"]


def idle_after(site: Site, count: int) -> bool:
    status = site.daemon.status()
    return bool(status["counters"]["jobs"] > count) and not status["queue_depth"]
