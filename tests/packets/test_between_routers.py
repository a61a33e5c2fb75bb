"""A floating IP that goes from one router to another: somebody has it all the time, whatever the order of jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.route import add_route as real_add
from dvr_agent.kernel.netlink.route import replace_route as real_replace
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.state.route import Hop, Route
from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument, mac, uid
from tests.support.packet_world import INTERNET, PUBLIC, World, fip_namespace
from tests.support.probes import Pinger, arp_seen
from tests.support.waiting import wait_for

RED, BLUE = Network("red", ("10.1.0.0/24",)), Network("blue", ("10.2.0.0/24",))
FIP, OTHER = "203.0.113.51", "203.0.113.52"
AGENT_GATEWAY = PUBLIC.agent_gateway[0]


@pytest.fixture
def routers(world: World) -> tuple[RouterDocument, RouterDocument]:
    """Two routers with a pair; the first one has the floating IP.  Their source is an authority."""
    world.reconciler.memory.claims.newer_wins = True
    one, two = world.cloud.vm("one", RED, "10.1.0.11"), world.cloud.vm("two", BLUE, "10.2.0.12")
    first = world.cloud.router("first", RED).gateway(PUBLIC, "203.0.113.10").floating_ip(FIP, one)
    second = world.cloud.router("second", BLUE).gateway(PUBLIC, "203.0.113.11").floating_ip(OTHER, two)
    resync(world, first, second)
    world.apply(first, second)
    world.boot(one, two)
    return first, second


def resync(world: World, *routers: RouterDocument) -> None:
    world.reconciler.begin_resync([(one.name, parse_document(one.raw(), one.name)) for one in routers])


def device() -> str:
    (route,) = lab.ip_json("route", "show", FIP, netns=fip_namespace())
    return str(route["dev"])


def astray(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """The request for a route, with a next hop for the floating IP that the kernel refuses."""
    if route.dst == f"{FIP}/32":
        wrong = route._replace(hops=(Hop("198.51.100.1", route.hops[0].device),))
        return real_replace(wrong, indexes, tolerate)._replace(what=route)
    return real_add(route, indexes, tolerate)


def test_the_older_router_has_it_until_the_newer_one_has_taken_it(
    world: World, routers: tuple[RouterDocument, RouterDocument]
) -> None:
    """All documents are declared before the first job, which may be the older router's."""
    first, second = routers
    second.floating_ip(FIP, world.cloud.vms["two"])
    with Pinger("internet", FIP) as pinger:
        resync(world, first, second)
        world.apply(first)
        pinger.run_for(25)
        (taken,) = world.apply(second)
        assert first.id in taken.affected
        (given,) = world.apply(first)
        assert given.plan.omitted
        pinger.run_for(10)
    assert pinger.lost == []
    assert device().startswith(f"fpr-{second.id[:10]}")


def test_the_older_router_has_it_while_the_newer_one_cannot_take_it(
    world: World, routers: tuple[RouterDocument, RouterDocument], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = routers
    second.floating_ip(FIP, world.cloud.vms["two"])
    with Pinger("internet", FIP) as pinger:
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr("dvr_agent.kernel.netlink.route.add_route", astray)
                patch.setattr("dvr_agent.kernel.netlink.route.replace_route", astray)
                with pytest.raises(RefusedError):
                    world.apply(second)
            world.apply(first)
            pinger.run_for(20)
        assert device().startswith(f"fpr-{first.id[:10]}")
        (taken,) = world.apply(second)
        assert first.id in taken.affected
        world.apply(first)
        pinger.run_for(10)
    assert pinger.lost == []
    assert device().startswith(f"fpr-{second.id[:10]}")
    for router in routers:
        assert not world.reconciler.planner.plan(parse_document(router.raw(), router.name))


def is_forwarding(bridge_port: str) -> bool:
    """Return True once the bridge passes on what comes in here: some time after the device is up."""
    (link,) = lab.ip_json("link", "show", bridge_port)
    return bool(link["linkinfo"]["info_slave_data"]["state"] == "forwarding")


NEW_PORT = {
    "another port": {"id": uid("port", "another"), "mac_address": mac("another"), "address": "203.0.113.3"},
    "another address": {"address": "203.0.113.3"},
}


def with_port(router: RouterDocument, **new: str) -> tuple[Router, str]:
    """The router with a changed agent gateway port, and the name of the port's outer end."""
    envelope = router.envelope()
    (port,) = envelope["router"]["_floatingip_agent_interfaces"]
    port["fixed_ips"][0]["ip_address"] = new.pop("address", AGENT_GATEWAY)
    port |= new
    return parse_document(json.dumps(envelope).encode(), router.name), f"tap{port['id'][:11]}"


@pytest.mark.parametrize("what", NEW_PORT)
def test_no_floating_ip_loses_a_packet_when_a_document_replaces_the_agent_gateway_port(
    world: World, routers: tuple[RouterDocument, RouterDocument], what: str
) -> None:
    """The other router's document lists the old one still."""
    first, second = routers
    changed, tap = with_port(first, **NEW_PORT[what])
    with Pinger("internet", FIP) as own, Pinger("internet", OTHER) as others, Pinger("two", INTERNET) as outward:
        result = world.reconciler.reconcile(changed)
        own.run_for(10)
        assert result.affected == (second.id,)
        wait_for(lambda: is_forwarding(tap))
        world.apply(second)
        own.run_for(10)
    assert (others.lost, outward.lost, own.lost) == ([], [], [])
    devices = [link["ifname"] for link in lab.ip_json("link", netns=fip_namespace())]
    assert [name for name in devices if name.startswith("fg-")] == [tap.replace("tap", "fg-")]


def test_all_floating_ips_are_announced_when_the_agent_gateway_port_gets_another_mac_address(
    world: World, routers: tuple[RouterDocument, RouterDocument]
) -> None:
    """Neighbours would go on sending to the old one.  Repeated are the router's own: the others may go elsewhere."""
    new = mac("another")
    changed, _ = with_port(routers[0], mac_address=new)
    with arp_seen("internet") as seen:
        result = world.reconciler.reconcile(changed)
    assert {FIP, OTHER, AGENT_GATEWAY} == {
        arp.sender for arp in seen if arp.sender_mac == new and arp.sender == arp.target
    }
    announced = {announcement.address for _, announcement in result.announcements}
    assert {FIP, AGENT_GATEWAY} <= announced
    assert OTHER not in announced
