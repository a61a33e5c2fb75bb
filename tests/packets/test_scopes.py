"""IPv4 address scopes: inside one scope nothing is translated, between scopes nothing passes without translation."""

from __future__ import annotations

import pytest

from tests.support import lab
from tests.support.packet_documents import Network, mac
from tests.support.packet_world import NODE, SCOPED, SCOPED_INTERNET, World
from tests.support.probes import frames_from

SAME = Network("same", ("10.64.1.0/24",), scope="global")
SAME_TOO = Network("same-too", ("10.64.2.0/24",), scope="global")
OTHER = Network("other", ("10.80.1.0/24",), scope="private")
NONE = Network("none", ("10.90.1.0/24",))
GATEWAY, FIP_SIDE = "198.18.0.10", SCOPED.agent_gateway[0]


@pytest.fixture(scope="module")
def world(shared_world: World) -> World:
    world, cloud = shared_world, shared_world.cloud
    same, same_too = cloud.vm("same", SAME, "10.64.1.11"), cloud.vm("same-too", SAME_TOO, "10.64.2.11")
    other, none = cloud.vm("other", OTHER, "10.80.1.11"), cloud.vm("none", NONE, "10.90.1.11")
    floating = cloud.vm("other-fip", OTHER, "10.80.1.12")
    same_floating = cloud.vm("same-fip", SAME, "10.64.1.12")
    central = cloud.vm("central", OTHER, "10.80.1.13", host="")
    router = cloud.router("scopes", SAME, SAME_TOO, OTHER, NONE).gateway(SCOPED, GATEWAY)
    router.floating_ip("198.18.0.51", floating).floating_ip("198.18.0.52", same_floating)
    router.floating_ip("198.18.0.60", central, central=True)
    world.apply(router)
    world.boot(same, same_too, other, none, floating, same_floating, central)
    for network, via in ((SAME, FIP_SIDE), (SAME_TOO, FIP_SIDE), (OTHER, GATEWAY), (NONE, GATEWAY)):
        world.internet_route(network.cidrs[0], via, "scoped-internet")
    world.settle()
    return world


def blocked(netns: str, target: str) -> bool:
    return not lab.ping(netns, target, count=1, timeout=0.4)


def test_same_scope_goes_out_and_comes_in_untranslated(world: World) -> None:
    with frames_from("scoped-internet", mac("port", "fg", NODE, "scoped")) as seen:
        assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "same", SCOPED_INTERNET) == "10.64.1.11"
    assert "10.64.1.11" in seen, "it did not go by the fip namespace"
    assert lab.tcp_peer("same", "10.64.1.11", "scoped-internet", "10.64.1.11") == SCOPED_INTERNET
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "same-too", SCOPED_INTERNET) == "10.64.2.11"


def test_same_scope_passes_between_subnets(world: World) -> None:
    assert lab.tcp_peer("same-too", "10.64.2.11", "same", "10.64.2.11") == "10.64.1.11"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("same", "10.80.1.11"),
        ("other", "10.64.1.11"),
        ("same", "10.90.1.11"),
        ("none", "10.64.1.11"),
        ("other", "10.90.1.11"),
        ("none", "10.80.1.11"),
    ],
)
def test_other_scope_is_blocked_between_subnets(world: World, source: str, target: str) -> None:
    assert blocked(source, target)


@pytest.mark.parametrize("target", ["10.80.1.11", "10.90.1.11"])
def test_outside_reaches_no_fixed_address_of_another_scope(world: World, target: str) -> None:
    """Even though the provider routes it to the router's gateway address."""
    assert blocked("scoped-internet", target)


@pytest.mark.parametrize("source", ["other", "none"])
def test_other_scope_goes_out_translated(world: World, source: str) -> None:
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, source, SCOPED_INTERNET) == GATEWAY


def test_floating_ip_of_a_vm_in_another_scope_works(world: World) -> None:
    assert lab.tcp_peer("other-fip", "10.80.1.12", "scoped-internet", "198.18.0.51") == SCOPED_INTERNET
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "other-fip", SCOPED_INTERNET) == "198.18.0.51"


def test_floating_ip_of_a_vm_in_the_same_scope_works(world: World) -> None:
    assert lab.tcp_peer("same-fip", "10.64.1.12", "scoped-internet", "198.18.0.52") == SCOPED_INTERNET
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "same-fip", SCOPED_INTERNET) == "198.18.0.52"


def test_floating_ips_of_two_scopes_talk_over_the_floating_ips(world: World) -> None:
    assert lab.tcp_peer("same-fip", "10.64.1.12", "other-fip", "198.18.0.52") == "198.18.0.51"
    assert lab.tcp_peer("other-fip", "10.80.1.12", "same-fip", "198.18.0.51") == "198.18.0.52"


def test_centralized_floating_ip_of_a_vm_in_another_scope_works(world: World) -> None:
    assert lab.tcp_peer("central", "10.80.1.13", "scoped-internet", "198.18.0.60") == SCOPED_INTERNET
    assert lab.tcp_peer("scoped-internet", SCOPED_INTERNET, "central", SCOPED_INTERNET) == "198.18.0.60"
