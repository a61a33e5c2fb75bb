"""Which way packets go, and which addresses the far side sees.  One world for all; nothing is changed in it.

Router ``main``: networks red (dual stack) and blue, SNAT.  Router ``plain``: network green, ``enable_snat`` off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support import lab
from tests.support.packet_documents import Network, mac
from tests.support.packet_world import INTERNET, INTERNET6, NODE, PUBLIC, World
from tests.support.probes import Echo, frames_from, who_answers

RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
BLUE = Network("blue", ("10.2.0.0/24",))
GREEN = Network("green", ("10.3.0.0/24",))
GATEWAY, GATEWAY6, PLAIN_GATEWAY = "203.0.113.10", "2001:db8:f::10", "203.0.113.20"
GATEWAY_MAC, AGENT_MAC = mac("port", "gateway", "main", "public"), mac("port", "fg", NODE, "public")
BEHIND_VMS, BEHIND_ONE, BEHIND_PARTNER = "172.16.0.0/24", "172.17.0.1/32", "198.51.100.1/32"
BEYOND6 = "2001:db8:99::1"
"""An address of the internet host that is in no subnet the router knows."""


@pytest.fixture(scope="module")
def world(shared_world: World) -> World:
    world, cloud = shared_world, shared_world.cloud
    red_fip = cloud.vm("red-fip", RED, "10.1.0.11")
    red_fip2 = cloud.vm("red-fip2", RED, "10.1.0.12")
    red_plain = cloud.vm("red-plain", RED, "10.1.0.13", "2001:db8:1::13")
    one = cloud.vm("behind-one", RED, "10.1.0.21", behind=("172.16.0.0/24", BEHIND_ONE))
    two = cloud.vm("behind-two", RED, "10.1.0.22", behind=("172.16.0.0/24",))
    blue = cloud.vm("blue", BLUE, "10.2.0.11")
    central = cloud.vm("central", BLUE, "10.2.0.12", host="")
    green = cloud.vm("green", GREEN, "10.3.0.11")
    main = cloud.router("main", RED, BLUE).gateway(PUBLIC, GATEWAY, GATEWAY6)
    main.floating_ip("203.0.113.51", red_fip).floating_ip("203.0.113.52", red_fip2)
    main.floating_ip("203.0.113.60", central, central=True)
    main.route("172.16.0.0/24", one.address, two.address).route("172.17.0.0/16", one.address)
    main.route("198.51.100.0/24", "203.0.113.250")
    plain = cloud.router("plain", GREEN).gateway(PUBLIC, PLAIN_GATEWAY, snat=False)
    world.apply(main, plain)
    world.boot(red_fip, red_fip2, red_plain, one, two, blue, central, green)
    world.partner("partner", "203.0.113.250", BEHIND_PARTNER)
    world.internet_route("10.3.0.0/24", PLAIN_GATEWAY)
    world.internet_route("2001:db8:1::/64", GATEWAY6)
    lab.run("ip", "-n", "internet", "addr", "add", f"{BEYOND6}/128", "dev", "lo")
    world.settle()
    return world


@pytest.fixture(scope="module")
def echoes(world: World) -> Iterator[None]:
    """Both VMs in front of 172.16.0.0/24 answer with their names."""
    with ExitStack() as stack:
        stack.enter_context(Echo("behind-one"))
        stack.enter_context(Echo("behind-two"))
        yield


def test_east_west_between_subnets_keeps_the_address(world: World) -> None:
    assert lab.tcp_peer("blue", "10.2.0.11", "red-plain", "10.2.0.11") == "10.1.0.13"
    assert lab.tcp_peer("red-plain", "10.1.0.13", "blue", "10.1.0.13") == "10.2.0.11"


def test_east_west_keeps_the_address_of_a_vm_with_a_floating_ip(world: World) -> None:
    assert lab.tcp_peer("blue", "10.2.0.11", "red-fip", "10.2.0.11") == "10.1.0.11"
    assert lab.tcp_peer("red-fip", "10.1.0.11", "blue", "10.1.0.11") == "10.2.0.11"


def test_inbound_by_floating_ip_keeps_the_callers_address(world: World) -> None:
    assert lab.tcp_peer("red-fip", "10.1.0.11", "internet", "203.0.113.51") == INTERNET
    assert lab.ping("internet", "203.0.113.52")


def test_outbound_by_floating_ip_comes_from_it(world: World) -> None:
    with frames_from("internet", AGENT_MAC) as seen:
        assert lab.tcp_peer("internet", INTERNET, "red-fip", INTERNET) == "203.0.113.51"
    assert seen == {"203.0.113.51"}
    assert lab.tcp_peer("internet", INTERNET, "red-fip2", INTERNET) == "203.0.113.52"


def test_two_vms_of_one_host_see_each_others_floating_ips(world: World) -> None:
    assert lab.tcp_peer("red-fip2", "10.1.0.12", "red-fip", "203.0.113.52") == "203.0.113.51"
    assert lab.tcp_peer("red-fip", "10.1.0.11", "red-fip2", "203.0.113.51") == "203.0.113.52"


def test_vm_reaches_itself_by_its_own_floating_ip(world: World) -> None:
    assert lab.tcp_peer("red-fip", "10.1.0.11", "red-fip", "203.0.113.51") == "203.0.113.51"


def test_vm_without_floating_ip_reaches_a_floating_ip_by_snat(world: World) -> None:
    assert lab.tcp_peer("red-fip", "10.1.0.11", "blue", "203.0.113.51") == GATEWAY


def test_outbound_without_floating_ip_comes_from_the_gateway(world: World) -> None:
    with frames_from("internet", GATEWAY_MAC) as seen:
        assert lab.tcp_peer("internet", INTERNET, "red-plain", INTERNET) == GATEWAY
    assert seen == {GATEWAY}
    assert lab.tcp_peer("internet", INTERNET, "blue", INTERNET) == GATEWAY


def test_centralized_floating_ip_inbound_and_outbound(world: World) -> None:
    assert lab.tcp_peer("central", "10.2.0.12", "internet", "203.0.113.60") == INTERNET
    assert lab.tcp_peer("internet", INTERNET, "central", INTERNET) == "203.0.113.60"


def test_centralized_floating_ip_from_inside_is_a_hairpin(world: World) -> None:
    """The reply has to come back to the snat namespace, so the caller shows as the gateway."""
    assert lab.tcp_peer("central", "10.2.0.12", "blue", "203.0.113.60") == GATEWAY
    assert lab.tcp_peer("central", "10.2.0.12", "red-plain", "203.0.113.60") == GATEWAY


def test_floating_ip_and_centralized_floating_ip_see_each_other(world: World) -> None:
    assert lab.tcp_peer("central", "10.2.0.12", "red-fip", "203.0.113.60") == "203.0.113.51"
    assert lab.tcp_peer("red-fip", "10.1.0.11", "central", "203.0.113.51") == "203.0.113.60"


def test_without_snat_the_fixed_address_goes_out_and_is_reached(world: World) -> None:
    assert lab.tcp_peer("internet", INTERNET, "green", INTERNET) == "10.3.0.11"
    assert lab.tcp_peer("green", "10.3.0.11", "internet", "10.3.0.11") == INTERNET


def test_extra_route_by_a_vm(world: World) -> None:
    assert lab.tcp_peer("behind-one", "172.17.0.1", "blue", "172.17.0.1") == "10.2.0.11"
    assert lab.tcp_peer("behind-one", "172.17.0.1", "red-fip", "172.17.0.1") == "10.1.0.11"


def test_two_next_hops_share_the_flows(world: World, echoes: None) -> None:
    answers = [who_answers("blue", f"172.16.0.{number}") for number in range(1, 33)]
    assert set(answers) == {"behind-one", "behind-two"}


def test_extra_route_by_an_external_next_hop_with_and_without_floating_ip(world: World) -> None:
    assert lab.tcp_peer("partner", "198.51.100.1", "red-fip", "198.51.100.1") == "203.0.113.51"
    assert lab.tcp_peer("partner", "198.51.100.1", "blue", "198.51.100.1") == GATEWAY


def test_ipv6_of_the_external_subnet_talks_both_ways_untranslated(world: World) -> None:
    assert lab.tcp_peer("internet", INTERNET6, "red-plain", INTERNET6) == "2001:db8:1::13"
    assert lab.tcp_peer("red-plain", "2001:db8:1::13", "internet", "2001:db8:1::13") == INTERNET6


def test_ipv6_to_beyond_goes_out_through_the_snat_namespace_unchanged(world: World) -> None:
    with frames_from("internet", GATEWAY_MAC) as seen:
        assert lab.tcp_peer("internet", BEYOND6, "red-plain", BEYOND6) == "2001:db8:1::13"
    assert "2001:db8:1::13" in seen
