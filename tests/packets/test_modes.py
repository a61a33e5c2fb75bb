"""A compute node whose SNAT is on another host.  That host is played by a namespace that has the csnat port."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode
from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import INTERNET, PUBLIC, World

RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
FAR, FAR6 = "192.0.2.1", "2001:db8:99::1"


def compute_node(host: lab.Host, tmp_path: Path, mode: AgentMode) -> RouterDocument:
    """``vm`` without and ``floating`` with a floating IP, and the csnat ports' host: ``csnat0`` and ``csnat1``."""
    world = World(host, tmp_path, mode)
    vm = world.cloud.vm("vm", RED, "10.1.0.11", "2001:db8:1::11")
    floating = world.cloud.vm("floating", RED, "10.1.0.12")
    router = world.cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10", "2001:db8:f::10")
    router.floating_ip("203.0.113.51", floating)
    world.apply(router)
    world.boot(vm, floating)
    for number, port in enumerate(router.envelope()["router"]["_snat_router_interfaces"]):
        (fixed,) = port["fixed_ips"]
        name = f"csnat{number}"
        host.vm(name, RED.bridge, f"{fixed['ip_address']}/{fixed['prefixlen']}", (), port["mac_address"])
        lab.run("ip", "-n", name, "addr", "add", FAR if number == 0 else FAR6, "dev", "lo")
    world.settle()
    return router


@pytest.mark.parametrize("mode", [AgentMode.DVR, AgentMode.DVR_NO_EXTERNAL])
def test_what_has_no_floating_ip_is_handed_to_the_snat_host(host: lab.Host, tmp_path: Path, mode: AgentMode) -> None:
    router = compute_node(host, tmp_path, mode)
    assert lab.tcp_peer("csnat0", FAR, "vm", FAR) == "10.1.0.11"
    assert not (lab.NETNS / router.snat_namespace).exists()


@pytest.mark.parametrize("mode", [AgentMode.DVR, AgentMode.DVR_NO_EXTERNAL])
def test_ipv6_is_handed_to_the_snat_host(host: lab.Host, tmp_path: Path, mode: AgentMode) -> None:
    compute_node(host, tmp_path, mode)
    assert lab.tcp_peer("csnat1", FAR6, "vm", FAR6) == "2001:db8:1::11"


def test_floating_ip_is_used_on_a_compute_node(host: lab.Host, tmp_path: Path) -> None:
    compute_node(host, tmp_path, AgentMode.DVR)
    assert lab.tcp_peer("internet", INTERNET, "floating", INTERNET) == "203.0.113.51"
    assert lab.tcp_peer("floating", "10.1.0.12", "internet", "203.0.113.51") == INTERNET


def test_without_external_network_floating_ips_are_the_snat_hosts_too(host: lab.Host, tmp_path: Path) -> None:
    compute_node(host, tmp_path, AgentMode.DVR_NO_EXTERNAL)
    assert lab.tcp_peer("csnat0", FAR, "floating", FAR) == "10.1.0.12"
    assert [path.name for path in lab.NETNS.iterdir() if path.name.startswith("fip-")] == []
