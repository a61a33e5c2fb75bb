"""What running traffic notices of a change: of its own nothing it should not, of others' nothing at all."""

from __future__ import annotations

import pytest

from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import INTERNET, PUBLIC, World, fip_namespace
from tests.support.probes import Echo, Flow, Pinger, arp_seen, tracked, who_answers
from tests.support.waiting import wait_for

RED = Network("red", ("10.1.0.0/24",))
BLUE = Network("blue", ("10.2.0.0/24",))
LATER = Network("later", ("10.4.0.0/24",))
FIP, FIP2 = "203.0.113.51", "203.0.113.52"
AGENT_GATEWAY = PUBLIC.agent_gateway[0]
OLD_MAC = "fa:16:3e:99:99:99"


@pytest.fixture
def router(world: World) -> RouterDocument:
    """Red with two VMs; the first has the floating IP."""
    one, two = world.cloud.vm("one", RED, "10.1.0.11"), world.cloud.vm("two", RED, "10.1.0.12")
    router = world.cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10").floating_ip(FIP, one)
    world.apply(router)
    world.boot(one, two)
    return router


def test_floating_ip_is_announced_when_it_is_added_and_only_then(world: World, router: RouterDocument) -> None:
    fg_mac = router.envelope()["router"]["_floatingip_agent_interfaces"][0]["mac_address"]
    router.floating_ip(FIP2, world.cloud.vms["two"])
    with arp_seen("internet") as seen:
        world.apply(router)
    gratuitous = {(arp.sender, arp.sender_mac, arp.operation) for arp in seen if arp.sender == arp.target}
    assert gratuitous == {(FIP2, fg_mac, 1), (FIP2, fg_mac, 2)}
    with arp_seen("internet") as seen:
        world.apply(router)
    assert [arp for arp in seen if arp.sender == arp.target] == []


def test_first_router_of_a_network_announces_the_agent_gateway_too(world: World) -> None:
    one = world.cloud.vm("one", RED, "10.1.0.11")
    router = world.cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10").floating_ip(FIP, one)
    with arp_seen("internet") as seen:
        world.apply(router)
    assert {FIP, AGENT_GATEWAY} <= {arp.sender for arp in seen if arp.sender == arp.target}


def test_a_router_that_a_resync_builds_announces_each_address_by_one_request(world: World) -> None:
    one, two = world.cloud.vm("one", RED, "10.1.0.11"), world.cloud.vm("two", RED, "10.1.0.12")
    router = world.cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10").floating_ip(FIP, one)
    router.floating_ip("203.0.113.60", two, central=True)
    addresses = (FIP, AGENT_GATEWAY, "203.0.113.10", "203.0.113.60")
    for address in addresses:
        lab.run("ip", "-n", "internet", "neigh", "replace", address, "lladdr", OLD_MAC, "dev", "eth0", "nud", "stale")
    with arp_seen("internet") as seen:
        world.resync(router)
    gratuitous = [(arp.sender, arp.operation) for arp in seen if arp.sender == arp.target]
    assert sorted(gratuitous) == sorted((address, 1) for address in addresses)
    learned = {entry["dst"]: entry["lladdr"] for entry in lab.ip_json("neigh", netns="internet") if "lladdr" in entry}
    assert [address for address in addresses if learned[address] == OLD_MAC] == []


def test_centralized_floating_ip_is_announced_with_the_gateway_ports_mac(world: World, router: RouterDocument) -> None:
    gateway_mac = router.envelope()["router"]["gw_port"]["mac_address"]
    router.floating_ip("203.0.113.60", world.cloud.vms["two"], central=True)
    with arp_seen("internet") as seen:
        world.apply(router)
    assert {(arp.sender, arp.sender_mac) for arp in seen if arp.sender == arp.target} == {("203.0.113.60", gateway_mac)}


def test_moved_floating_ip_leads_to_the_new_vm_and_its_old_connections_are_gone(
    world: World, router: RouterDocument
) -> None:
    with Echo("one"), Echo("two"):
        flow = Flow("internet", FIP)
        assert flow.ask() == "one"
        assert tracked(router.qrouter, FIP, "10.1.0.11")

        router.floating_ip(FIP, world.cloud.vms["two"])
        (outcome,) = world.apply(router)

        assert outcome.conntrack_deleted >= 1
        assert tracked(router.qrouter, FIP, "10.1.0.11") == []
        assert who_answers("internet", FIP) == "two"
        assert flow.ask(timeout=0.5) is None
        flow.close()


def test_removed_floating_ip_takes_its_flows_with_it(world: World, router: RouterDocument) -> None:
    with Echo("one"):
        flow = Flow("internet", FIP)
        assert flow.ask() == "one"
        router.no_floating_ip(FIP)
        (outcome,) = world.apply(router)
        assert outcome.conntrack_deleted >= 1
        assert tracked(router.qrouter, FIP) == []
        assert flow.ask(timeout=0.5) is None
        flow.close()
    assert lab.tcp_peer("internet", INTERNET, "one", INTERNET) == "203.0.113.10"


def test_removed_centralized_floating_ip_takes_its_flows_with_it(world: World, router: RouterDocument) -> None:
    router.floating_ip("203.0.113.60", world.cloud.vms["two"], central=True)
    world.apply(router)
    with Echo("two"):
        flow = Flow("internet", "203.0.113.60")
        assert flow.ask() == "two"
        router.no_floating_ip("203.0.113.60")
        world.apply(router)
        assert tracked(router.snat_namespace, "203.0.113.60") == []
        assert flow.ask(timeout=0.5) is None
        flow.close()


def test_connections_of_others_survive_the_removal_of_a_floating_ip(world: World, router: RouterDocument) -> None:
    router.floating_ip(FIP2, world.cloud.vms["two"])
    world.apply(router)
    with Echo("one"), Echo("two"):
        stays, goes = Flow("internet", FIP), Flow("internet", FIP2)
        assert (stays.ask(), goes.ask()) == ("one", "two")
        router.no_floating_ip(FIP2)
        world.apply(router)
        assert (stays.ask(), goes.ask(timeout=0.5)) == ("one", None)
        stays.close()
        goes.close()


def test_removed_router_leaves_nothing_and_its_neighbour_loses_nothing(world: World, router: RouterDocument) -> None:
    other_vm = world.cloud.vm("other", BLUE, "10.2.0.11")
    other = world.cloud.router("other", BLUE).gateway(PUBLIC, "203.0.113.20").floating_ip("203.0.113.61", other_vm)
    world.apply(other)
    world.boot(other_vm)
    with Pinger("internet", FIP) as inbound, Pinger("two", INTERNET) as outbound:
        world.remove(other)
        inbound.run_for(10)
    assert (inbound.lost, outbound.lost) == ([], [])
    mine = {router.qrouter, router.snat_namespace, fip_namespace()}
    namespaces = {path.name for path in lab.NETNS.iterdir()}
    assert {name for name in namespaces if name.startswith(("qrouter-", "snat-", "fip-"))} == mine
    envelope = router.envelope()["router"]
    kept = [*envelope["_interfaces"], *envelope["_snat_router_interfaces"]]
    kept += [envelope["gw_port"], *envelope["_floatingip_agent_interfaces"]]
    wait_for(lambda: taps() == {f"tap{port['id'][:11]}" for port in kept}, f"only these are left: {taps()}")
    devices = {link["ifname"] for link in lab.ip_json("link", netns=fip_namespace())}
    assert f"fpr-{other.id[:10]}" not in devices
    assert not lab.ping("internet", "203.0.113.61", count=1, timeout=0.3)


def test_last_router_takes_the_shared_namespace_with_it(world: World, router: RouterDocument) -> None:
    world.remove(router)
    ours = [path.name for path in lab.NETNS.iterdir() if path.name.startswith(("qrouter-", "snat-", "fip-"))]
    assert ours == []
    wait_for(lambda: taps() == set(), "no tap is left")


def test_nothing_is_lost_while_a_floating_ip_is_added_and_removed(world: World, router: RouterDocument) -> None:
    with Pinger("internet", FIP) as inbound, Pinger("one", INTERNET) as outbound:
        router.floating_ip(FIP2, world.cloud.vms["two"])
        world.apply(router)
        inbound.run_for(10)
        router.no_floating_ip(FIP2)
        world.apply(router)
    assert (inbound.lost, outbound.lost) == ([], [])


def test_nothing_is_lost_while_a_subnet_is_added_and_removed(world: World, router: RouterDocument) -> None:
    with Pinger("internet", FIP) as inbound, Pinger("two", INTERNET) as by_snat:
        router.networks.append(LATER)
        world.apply(router)
        inbound.run_for(10)
        router.networks.remove(LATER)
        world.apply(router)
    assert (inbound.lost, by_snat.lost) == ([], [])


def test_nothing_is_lost_while_another_router_comes_and_goes(world: World, router: RouterDocument) -> None:
    vm = world.cloud.vm("other", BLUE, "10.2.0.11")
    other = world.cloud.router("other", BLUE).gateway(PUBLIC, "203.0.113.20").floating_ip("203.0.113.61", vm)
    with Pinger("internet", FIP) as inbound, Pinger("one", "10.1.0.1") as to_router:
        world.apply(other)
        inbound.run_for(10)
        world.remove(other)
    assert (inbound.lost, to_router.lost) == ([], [])


def test_nothing_is_lost_while_an_extra_route_moves_to_another_vm(world: World, router: RouterDocument) -> None:
    client = world.cloud.vm("client", BLUE, "10.2.0.11")
    hops = [world.cloud.vm(f"hop-{number}", RED, f"10.1.0.2{number}", behind=("172.17.0.1/32",)) for number in (1, 2)]
    router.networks.append(BLUE)
    router.route("172.17.0.0/16", hops[0].address)
    world.apply(router)
    world.boot(client, *hops)
    with Pinger("client", "172.17.0.1") as through:
        router.routes = [("172.17.0.0/16", hops[1].address)]
        world.apply(router)
    assert through.lost == []
    assert lab.tcp_peer("hop-2", "172.17.0.1", "client", "172.17.0.1") == "10.2.0.11"
    lab.run("ip", "-n", "hop-1", "link", "set", "eth0", "down")
    assert lab.ping("client", "172.17.0.1", count=1)


def test_nothing_is_lost_or_written_while_the_agent_starts_anew(world: World, router: RouterDocument) -> None:
    with Pinger("internet", FIP) as inbound, Pinger("two", INTERNET) as by_snat:
        world.start_agent()
        (outcome,) = world.apply(router)
    assert not outcome.plan
    assert world.reconciler.kernel.counters.total() == 0
    assert (inbound.lost, by_snat.lost) == ([], [])


def test_snat_is_switched_off_and_on_while_floating_ips_lose_nothing(world: World, router: RouterDocument) -> None:
    world.internet_route("10.1.0.0/24", "203.0.113.10")
    with Pinger("internet", FIP) as inbound:
        router.snat = False
        world.apply(router)
        assert lab.tcp_peer("internet", INTERNET, "two", INTERNET) == "10.1.0.12"
        router.snat = True
        world.apply(router)
        assert lab.tcp_peer("internet", INTERNET, "two", INTERNET, port=8081) == "203.0.113.10"
    assert inbound.lost == []


def test_vm_changes_from_snat_to_floating_ip_and_back(world: World, router: RouterDocument) -> None:
    assert lab.tcp_peer("internet", INTERNET, "two", INTERNET) == "203.0.113.10"
    router.floating_ip(FIP2, world.cloud.vms["two"])
    world.apply(router)
    assert lab.tcp_peer("internet", INTERNET, "two", INTERNET) == FIP2
    router.no_floating_ip(FIP2)
    world.apply(router)
    assert lab.tcp_peer("internet", INTERNET, "two", INTERNET) == "203.0.113.10"


def taps() -> set[str]:
    return {link["ifname"] for link in lab.ip_json("link") if link["ifname"].startswith("tap")}
