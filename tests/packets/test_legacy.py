"""Legacy routers: which way packets go, and which addresses the far side sees.  One world; nothing is changed in it.

Router ``main``: networks red (dual stack) and blue, SNAT.  Router ``plain``: network green, ``enable_snat`` off.
Router ``scopes``: networks of three address scopes, an external network in one of them.
"""

from __future__ import annotations

import pytest

from tests.support import lab
from tests.support.packet_documents import Network, mac
from tests.support.packet_world import INTERNET, INTERNET6, PUBLIC, SCOPED, SCOPED_INTERNET, World
from tests.support.probes import Echo, frames_from, who_answers

RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
BLUE = Network("blue", ("10.2.0.0/24",))
GREEN = Network("green", ("10.3.0.0/24",))
SAME = Network("same", ("10.64.1.0/24",), scope="global")
OTHER = Network("other", ("10.80.1.0/24",), scope="private")
GATEWAY, GATEWAY6, PLAIN_GATEWAY, SCOPED_GATEWAY = "203.0.113.10", "2001:db8:f::10", "203.0.113.20", "198.18.0.10"
FIP, SECOND_FIP, SCOPED_FIP = "203.0.113.51", "203.0.113.52", "198.18.0.51"


@pytest.fixture(scope="module")
def world(shared_world: World) -> World:
    world, cloud = shared_world, shared_world.cloud
    floating = cloud.vm("red-fip", RED, "10.1.0.11")
    elsewhere = cloud.vm("blue-fip", BLUE, "10.2.0.12", host="node7")
    plain = cloud.vm("red-plain", RED, "10.1.0.13", "2001:db8:1::13")
    one = cloud.vm("behind-one", RED, "10.1.0.21", behind=("172.16.0.0/24",))
    two = cloud.vm("behind-two", BLUE, "10.2.0.22", behind=("172.16.0.0/24",))
    green = cloud.vm("green", GREEN, "10.3.0.11")
    same, other = cloud.vm("same", SAME, "10.64.1.11"), cloud.vm("other", OTHER, "10.80.1.11")
    crossing = cloud.vm("other-fip", OTHER, "10.80.1.12")
    main = cloud.router("main", RED, BLUE).gateway(PUBLIC, GATEWAY, GATEWAY6)
    main.floating_ip(FIP, floating).floating_ip(SECOND_FIP, elsewhere)
    main.route("172.16.0.0/24", one.address, two.address).route("198.51.100.0/24", "203.0.113.250")
    closed = cloud.router("plain", GREEN).gateway(PUBLIC, PLAIN_GATEWAY, snat=False)
    scopes = cloud.router("scopes", SAME, OTHER).gateway(SCOPED, SCOPED_GATEWAY).floating_ip(SCOPED_FIP, crossing)
    for router in (main, closed, scopes):
        router.legacy = True
    results = world.apply(main, closed, scopes)
    assert [result.plan.omitted for result in results] == [()] * 3
    world.boot(floating, elsewhere, plain, one, two, green, same, other, crossing)
    world.partner("partner", "203.0.113.250", "198.51.100.1/32")
    world.internet_route("10.3.0.0/24", PLAIN_GATEWAY)
    world.internet_route("2001:db8:1::/64", GATEWAY6)
    for network in (SAME, OTHER):
        world.internet_route(network.cidrs[0], SCOPED_GATEWAY, "scoped-internet")
    world.settle()
    return world


def test_the_router_is_one_namespace(world: World) -> None:
    ours = {path.name for path in lab.NETNS.iterdir() if path.name.startswith(("qrouter-", "snat-", "fip-"))}
    assert ours == {world.cloud.router(name).qrouter for name in ("main", "plain", "scopes")}


def test_east_west_keeps_the_address(world: World) -> None:
    assert lab.tcp_peer("red-plain", "10.1.0.13", "blue-fip", "10.1.0.13") == "10.2.0.12"
    assert lab.tcp_peer("blue-fip", "10.2.0.12", "red-fip", "10.2.0.12") == "10.1.0.11"


def test_floating_ips_in_and_out_whatever_host_their_port_is_on(world: World) -> None:
    for name, fixed, fip in (("red-fip", "10.1.0.11", FIP), ("blue-fip", "10.2.0.12", SECOND_FIP)):
        assert lab.tcp_peer(name, fixed, "internet", fip) == INTERNET
        assert lab.tcp_peer("internet", INTERNET, name, INTERNET) == fip


def test_without_floating_ip_packets_come_from_the_gateway(world: World) -> None:
    with frames_from("internet", mac("port", "gateway", "main", "public")) as seen:
        assert lab.tcp_peer("internet", INTERNET, "red-plain", INTERNET) == GATEWAY
    assert seen == {GATEWAY}


def test_floating_ip_from_inside_is_a_hairpin(world: World) -> None:
    for caller in ("red-plain", "blue-fip", "red-fip"):
        assert lab.tcp_peer("red-fip", "10.1.0.11", caller, FIP) in (GATEWAY, SECOND_FIP, FIP)
    assert lab.tcp_peer("red-fip", "10.1.0.11", "red-plain", FIP) == GATEWAY


def test_the_router_itself_reaches_a_floating_ip(world: World) -> None:
    assert lab.ping(world.cloud.router("main").qrouter, FIP)


def test_without_snat_the_fixed_address_goes_out_and_is_reached(world: World) -> None:
    assert lab.tcp_peer("internet", INTERNET, "green", INTERNET) == "10.3.0.11"
    assert lab.tcp_peer("green", "10.3.0.11", "internet", "10.3.0.11") == INTERNET


def test_next_hops_in_two_networks_share_the_flows(world: World) -> None:
    with Echo("behind-one"), Echo("behind-two"):
        answers = [who_answers("red-plain", f"172.16.0.{number}") for number in range(1, 33)]
    assert set(answers) == {"behind-one", "behind-two"}


def test_extra_route_by_an_external_next_hop(world: World) -> None:
    assert lab.tcp_peer("partner", "198.51.100.1", "red-fip", "198.51.100.1") == FIP
    assert lab.tcp_peer("partner", "198.51.100.1", "red-plain", "198.51.100.1") == GATEWAY


def test_ipv6_goes_untranslated_both_ways(world: World) -> None:
    assert lab.tcp_peer("internet", INTERNET6, "red-plain", INTERNET6) == "2001:db8:1::13"
    assert lab.tcp_peer("red-plain", "2001:db8:1::13", "internet", "2001:db8:1::13") == INTERNET6


def test_address_scopes(world: World) -> None:
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "same", SCOPED_INTERNET) == "10.64.1.11"
    assert lab.tcp_peer("same", "10.64.1.11", "scoped-internet", "10.64.1.11") == SCOPED_INTERNET
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "other", SCOPED_INTERNET) == SCOPED_GATEWAY
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "other-fip", SCOPED_INTERNET) == SCOPED_FIP
    assert lab.tcp_peer("other-fip", "10.80.1.12", "scoped-internet", SCOPED_FIP) == SCOPED_INTERNET
    for source, target in (("same", "10.80.1.11"), ("other", "10.64.1.11"), ("scoped-internet", "10.80.1.11")):
        assert not lab.ping(source, target, count=1, timeout=0.3), (source, target)
