"""A job that stops half way, or that the kernel refuses something, on the real kernel: pings of all addresses work."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dvr_agent.kernel.api import GratuitousArp, Kernel
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.route import add_route
from dvr_agent.kernel.plumber import RealPlumber
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.state.diff import Change
from dvr_agent.state.missing import Missing
from dvr_agent.state.route import Hop, Route
from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import INTERNET, PUBLIC, World, fip_namespace
from tests.support.probes import Echo, Mirror, Pinger, Stream, who_answers

RED = Network("red", ("10.1.0.0/24",))
FIP, OTHER, GATEWAY = "203.0.113.51", "203.0.113.52", "203.0.113.10"
SETTLING = 10
"""Requests that may be lost while a floating IP moves: what is on its way, and what the peer's ARP cache still says."""


class StoppedError(Exception):
    """The process is killed."""


@pytest.fixture
def router(world: World) -> RouterDocument:
    one, two = world.cloud.vm("one", RED, "10.1.0.11"), world.cloud.vm("two", RED, "10.1.0.12")
    router = world.cloud.router("main", RED).gateway(PUBLIC, GATEWAY)
    world.apply(router)
    world.boot(one, two)
    return router


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Stop the job before its n-th change of an object or announcement."""
    original, announced, count = RealPlumber.apply, PostCommit.announce, 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == number:
            raise StoppedError

    def apply(self: RealPlumber, namespace: str, changes: Sequence[Change], missing: Missing | None = None) -> None:
        for change in changes:
            tick()
            original(self, namespace, [change], missing)

    def announce(self: PostCommit, kernel: Kernel, arp: GratuitousArp, missing: Missing) -> None:
        tick()
        announced(self, kernel, arp, missing)

    monkeypatch.setattr(RealPlumber, "apply", apply)
    monkeypatch.setattr(PostCommit, "announce", announce)


def stopped(world: World, router: RouterDocument, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Begin the router's job, which stops before its n-th change."""
    with monkeypatch.context() as patch:
        stop_at(patch, number)
        with pytest.raises(StoppedError):
            world.apply(router)


def lost(*pingers: Pinger) -> list[list[int]]:
    """Return the requests of new connections that got no answer, once the peers' ARP caches have settled."""
    with contextlib.ExitStack() as running:
        for pinger in pingers:
            running.enter_context(pinger)
        pingers[0].run_for(3 * SETTLING)
    return [[number for number in pinger.lost if number >= SETTLING] for pinger in pingers]


@pytest.mark.parametrize("number", [1, 2])
def test_a_first_floating_ip_whose_job_stops_anywhere_cuts_nobody_off(
    world: World, router: RouterDocument, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    router.floating_ip(FIP, world.cloud.vms["one"])
    stopped(world, router, monkeypatch, number)
    assert lost(Pinger("one", INTERNET), Pinger("two", INTERNET)) == [[], []]
    world.start_agent()
    world.apply(router)
    assert lost(Pinger("one", INTERNET), Pinger("two", INTERNET), Pinger("internet", FIP)) == [[], [], []]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("central", [True, False])
def test_a_floating_ip_that_changes_sides_works_wherever_its_job_stops(
    world: World, router: RouterDocument, monkeypatch: pytest.MonkeyPatch, number: int, central: bool
) -> None:
    """New connections work, whether the peer still has the old side in its ARP cache or asks for it now."""
    router.floating_ip(OTHER, world.cloud.vms["two"])  # the pair is there all the time
    router.floating_ip(FIP, world.cloud.vms["one"], central=not central)
    world.apply(router)
    with Pinger("internet", FIP) as pinger:
        pinger.run_for(SETTLING)
    router.floating_ip(FIP, world.cloud.vms["one"], central=central)
    stopped(world, router, monkeypatch, number)
    with Echo("one"), Mirror("one"):
        for _ in range(2):
            assert lost(Pinger("one", INTERNET), Pinger("internet", FIP), Pinger("two", INTERNET)) == [[], [], []]
            assert who_answers("internet", FIP) == "one"
            stream = Stream("internet", FIP)
            assert stream.seen_as() == INTERNET
            stream.close()
            lab.run("ip", "-n", "internet", "neigh", "flush", "all")


def add_astray(route: Route, indexes: Mapping[str, int], tolerate: frozenset[int] = frozenset()) -> Request:
    """As ``add_route``, with a next hop for the floating IP that the kernel refuses."""
    if route.dst == f"{FIP}/32":
        astray = route._replace(hops=(Hop("198.51.100.1", route.hops[0].device),))
        return add_route(astray, indexes, tolerate)._replace(what=route)
    return add_route(route, indexes, tolerate)


def test_a_refused_route_of_a_floating_ip_leaves_the_instance_on_its_old_way(
    world: World, router: RouterDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.floating_ip(OTHER, world.cloud.vms["two"])
    world.apply(router)
    namespace = fip_namespace()
    router.floating_ip(FIP, world.cloud.vms["one"])
    with Pinger("one", INTERNET) as one:
        with monkeypatch.context() as patch:
            patch.setattr("dvr_agent.kernel.netlink.route.add_route", add_astray)
            text = f"namespace {namespace}: route {FIP}/32 via .*: ENETUNREACH"
            with pytest.raises(RefusedError, match=text) as refused:
                world.apply(router)
        one.run_for(30)
        assert len(refused.value.errors) == 1
        assert FIP in refused.value.held
        assert "10.1.0.11" not in _rules(router)
        before = one.sent
        world.apply(router)
        moved = one.sent  # at load the job takes a while
        one.run_for(30)
    assert [request for request in one.lost if not before <= request < moved + SETTLING] == []
    assert len(one.lost) <= SETTLING
    assert "10.1.0.11" in _rules(router)


def _rules(router: RouterDocument) -> set[Any]:
    return {rule["src"] for rule in lab.ip_json("rule", netns=router.qrouter)}
