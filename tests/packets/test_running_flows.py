"""Connections that run while a floating IP comes, goes or moves: they go on, by the address that is right then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import INTERNET, PUBLIC, SCOPED, SCOPED_INTERNET, World
from tests.support.probes import Echo, Flow, Mirror, Pinger, Stream, tracked

RED = Network("red", ("10.1.0.0/24",))
BLUE = Network("blue", ("10.2.0.0/24",))
GLOBAL = Network("inside", ("198.51.100.0/24",), scope="global")
FIP, GATEWAY, BEHIND = "203.0.113.51", "203.0.113.10", "172.16.0.1"


@pytest.fixture
def router(world: World) -> Iterator[RouterDocument]:
    """Red with two VMs, blue with one that leads to a network behind it; no floating IP yet."""
    one, two = world.cloud.vm("one", RED, "10.1.0.11"), world.cloud.vm("two", RED, "10.1.0.12")
    blue = world.cloud.vm("blue-one", BLUE, "10.2.0.11", behind=(f"{BEHIND}/32",))
    router = world.cloud.router("main", RED, BLUE).gateway(PUBLIC, GATEWAY).route("172.16.0.0/24", "10.2.0.11")
    world.apply(router)
    world.boot(one, two, blue)
    with Mirror("internet"):
        yield router


def test_a_floating_ip_that_comes_and_goes_takes_running_flows_along(world: World, router: RouterDocument) -> None:
    with closing(Stream("one", INTERNET)) as stream:
        assert stream.seen_as() == GATEWAY
        router.floating_ip(FIP, world.cloud.vms["one"])
        (outcome,) = world.apply(router)
        assert outcome.conntrack_deleted >= 1
        assert stream.seen_as() == FIP
        assert world.apply(router)[0].conntrack_deleted == 0
        assert stream.seen_as() == FIP
        router.no_floating_ip(FIP)
        world.apply(router)
        assert stream.seen_as() == GATEWAY
        router.floating_ip(FIP, world.cloud.vms["one"])
        world.apply(router)
        assert stream.seen_as() == FIP


def test_a_running_ping_goes_on(world: World, router: RouterDocument) -> None:
    with Pinger("one", INTERNET) as pinger:
        router.floating_ip(FIP, world.cloud.vms["one"])
        world.apply(router)
        added = pinger.sent
        pinger.run_for(30)
        router.no_floating_ip(FIP)
        world.apply(router)
        removed = pinger.sent
        pinger.run_for(30)
    late = [number for number in pinger.lost if added + 10 <= number < removed - 10 or number >= removed + 10]
    assert late == []


def test_east_west_flows_are_left_alone(world: World, router: RouterDocument) -> None:
    with Echo("blue-one"), Mirror("blue-one"):
        flows = [Flow("one", "10.2.0.11"), Flow("one", BEHIND), Flow("blue-one", "10.2.0.11")]
        stream = Stream("one", "10.2.0.11")
        assert [flow.ask() for flow in flows] == ["blue-one"] * 3
        assert stream.seen_as() == "10.1.0.11"
        before = ids(router.qrouter, "10.1.0.11")
        router.floating_ip(FIP, world.cloud.vms["one"])
        (outcome,) = world.apply(router)
        assert outcome.conntrack_deleted == 0
        assert before
        assert ids(router.qrouter, "10.1.0.11") == before
        assert [flow.ask() for flow in flows] == ["blue-one"] * 3
        assert stream.seen_as() == "10.1.0.11"
        for flow in flows:
            flow.close()
        stream.close()


def ids(namespace: str, address: str) -> set[str]:
    """Ids of the TCP and UDP connections that the address began."""
    lines = lab.in_netns(namespace, "conntrack", "-L", "-o", "id", check=False).splitlines()
    return {line.rpartition("id=")[2] for line in lines if f"src={address} dst=" in line.split("sport=")[0]}


def test_flows_of_other_instances_are_left_alone(world: World, router: RouterDocument) -> None:
    with Echo("internet"), closing(Flow("two", INTERNET)) as flow:
        assert flow.ask() == "internet"
        router.floating_ip(FIP, world.cloud.vms["one"])
        assert world.apply(router)[0].conntrack_deleted == 0
        assert flow.ask() == "internet"


def test_a_floating_ip_that_moves_takes_the_flows_of_both_along(world: World, router: RouterDocument) -> None:
    router.floating_ip(FIP, world.cloud.vms["one"])
    world.apply(router)
    with closing(Stream("one", INTERNET)) as one, closing(Stream("two", INTERNET)) as two:
        assert (one.seen_as(), two.seen_as()) == (FIP, GATEWAY)
        router.floating_ip(FIP, world.cloud.vms["two"])
        world.apply(router)
        assert (one.seen_as(), two.seen_as()) == (GATEWAY, FIP)


def test_a_floating_ip_that_becomes_central_and_local_again(world: World, router: RouterDocument) -> None:
    router.floating_ip(FIP, world.cloud.vms["one"])
    world.apply(router)
    with closing(Stream("one", INTERNET)) as stream:
        for central in (True, False, True):
            router.floating_ip(FIP, world.cloud.vms["one"], central=central)
            world.apply(router)
            assert stream.seen_as() == FIP
        router.no_floating_ip(FIP)
        world.apply(router)
        assert stream.seen_as() == GATEWAY


def test_a_centralized_floating_ip_leaves_flows_alone_that_have_a_translation(
    world: World, router: RouterDocument
) -> None:
    with Echo("internet"), closing(Flow("one", INTERNET)) as flow:
        assert flow.ask() == "internet"
        router.floating_ip(FIP, world.cloud.vms["one"], central=True)
        world.apply(router)
        assert flow.ask() == "internet"
        assert lab.tcp_peer("internet", INTERNET, "one", INTERNET) == FIP


def test_a_centralized_floating_ip_of_a_router_without_snat(world: World, router: RouterDocument) -> None:
    router.gateway(PUBLIC, GATEWAY, snat=False)
    world.apply(router)
    with closing(Stream("one", INTERNET)) as stream:
        assert stream.seen_as(0.3) is None  # leaves with the fixed address, which nobody answers to
        assert tracked(router.snat_namespace, "10.1.0.11", INTERNET)
        router.floating_ip(FIP, world.cloud.vms["one"], central=True)
        (outcome,) = world.apply(router)
        assert outcome.conntrack_deleted >= 1
        assert stream.seen_as() == FIP


def test_a_restart_costs_no_connection(world: World, router: RouterDocument) -> None:
    router.floating_ip(FIP, world.cloud.vms["one"])
    world.apply(router)
    with Echo("internet"), closing(Flow("one", INTERNET)) as with_fip, closing(Flow("two", INTERNET)) as without:
        assert (with_fip.ask(), without.ask()) == ("internet", "internet")
        world.start_agent()
        assert world.apply(router)[0].conntrack_deleted == 0
        assert (with_fip.ask(), without.ask()) == ("internet", "internet")


def test_flows_of_the_external_address_scope_need_no_translation_and_go_on(world: World) -> None:
    vm = world.cloud.vm("scoped", GLOBAL, "198.51.100.11")
    router = world.cloud.router("scoped", GLOBAL).gateway(SCOPED, "198.18.0.10")
    world.apply(router)
    world.boot(vm)
    world.internet_route("198.51.100.0/24", SCOPED.agent_gateway[0], "scoped-internet")
    with Echo("scoped-internet") as echo, closing(Flow("scoped", SCOPED_INTERNET)) as flow:
        assert flow.ask() == "scoped-internet"
        assert echo.peers == ["198.51.100.11"]
        router.floating_ip("198.18.0.51", vm)
        assert world.apply(router)[0].conntrack_deleted == 0
        assert flow.ask() == "scoped-internet"
