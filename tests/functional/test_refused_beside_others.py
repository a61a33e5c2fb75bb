"""A router with a refused object beside other routers: what its jobs did make counts, on the real kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import KernelError, NotSupportedError
from dvr_agent.kernel.netlink.address import add_address
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.model.router import ExtraRoute, Router
from dvr_agent.reconcile.api import RefusedError, Result
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.state.address import Address
from tests.support import lab
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router, port

FIP = names.FIP + EXTERNAL
ADDRESS = "203.0.113.77"
SCOPE = "5c0be000-0000-4000-8000-000000000001"

Open = Callable[[bool], RouterReconciler]


@pytest.fixture
def opened(host: lab.Host, tmp_path: Path) -> Open:
    """Opens a reconciler; True: its source is an authority."""
    host.bridge("br-ext")

    def open_one(newer_wins: bool) -> RouterReconciler:
        settings = HostSettings(HOST, AgentMode.DVR_SNAT)
        made = make_reconciler(settings, {EXTERNAL: "br-ext"}, tmp_path)
        made.memory.claims.newer_wins = newer_wins
        made.load()
        return made

    return open_one


def spoiled(router: Router) -> Router:
    """The router with a route that the kernel refuses for good: its next hop is not on-link."""
    inside = router.interfaces[0]
    fixed = tuple(replace(one, prefixlen=28) if one.address.version == 4 else one for one in inside.fixed_ips)
    hop = ip_address(f"{str(fixed[0].address).rpartition('.')[0]}.99")
    route = ExtraRoute(ip_network("172.16.0.0/16"), hop)
    return replace(router, interfaces=(replace(inside, fixed_ips=fixed),), routes=(route,))


def with_fip(router: Router, address: str) -> Router:
    fixed = str(router.interfaces[0].fixed_ips[0].address + 8)
    return replace(router, floating_ips=(*router.floating_ips, fip(address, fixed)))


def shared(router: Router) -> Router:
    """The router with the first one's subnet, in the external address scope."""
    first = make_router("one", 1).interfaces[0]
    inside = replace(router.interfaces[0], fixed_ips=first.fixed_ips, subnets=first.subnets, scope4=SCOPE)
    gateway = replace(router.gateway, scope4=SCOPE) if router.gateway is not None else None
    agent_gateways = tuple(replace(one, scope4=SCOPE) for one in router.agent_gateways)
    return replace(router, interfaces=(inside,), snat_interfaces=(), gateway=gateway, agent_gateways=agent_gateways)


def partly(reconciler: RouterReconciler, router: Router) -> Result:
    """Reconcile a spoiled router."""
    with pytest.raises(RefusedError) as caught:
        reconciler.reconcile(router)
    assert list(map(str, caught.value.errors)) == list(map(str, caught.value.errors[:1]))
    assert "172.16.0.0/16" in str(caught.value)
    return caught.value.result


def test_the_device_of_a_former_agent_gateway_port_goes(opened: Open) -> None:
    reconciler = opened(False)
    router = spoiled(with_fip(make_router("one", 1), ADDRESS))
    partly(reconciler, router)
    for _ in range(2):
        partly(reconciler, replace(router, agent_gateways=(port("fg2", EXTERNAL, "203.0.113.201/24"),)))
    devices = [link["ifname"] for link in lab.ip_json("link", netns=FIP) if link["ifname"].startswith("fg-")]
    assert devices == [names.device(names.AGENT_GATEWAY, port("fg2", EXTERNAL, "203.0.113.201/24").id)]


def test_a_newer_document_takes_a_floating_ip_over(opened: Open) -> None:
    reconciler = opened(True)
    one, two = make_router("one", 1), make_router("two", 2)
    older = spoiled(with_fip(one, ADDRESS))
    reconciler.begin_resync([("a", older), ("b", two)])
    partly(reconciler, older)
    reconciler.reconcile(two)
    result = reconciler.reconcile(with_fip(two, ADDRESS))
    assert older.id in result.affected
    (route,) = lab.ip_json("route", "show", ADDRESS, netns=FIP)
    assert route["dev"] == names.device(names.FIP_TO_ROUTER, two.id)


def test_who_waits_for_a_floating_ip_is_queued_when_it_is_released(opened: Open) -> None:
    reconciler = opened(False)
    one, two = spoiled(make_router("one", 1)), make_router("two", 2)
    partly(reconciler, with_fip(one, ADDRESS))
    assert reconciler.reconcile(with_fip(two, ADDRESS)).plan.omitted
    assert partly(reconciler, one).affected == (two.id,)


@pytest.mark.parametrize("restart", [False, True])
def test_a_router_that_is_left_alone_keeps_its_floating_ip(opened: Open, restart: bool) -> None:
    """Its document turns HA, which this agent does not build; its namespaces stay, and traffic flows there."""
    reconciler = opened(False)
    one, two = with_fip(make_router("one", 1), ADDRESS), with_fip(make_router("two", 2), ADDRESS)
    reconciler.reconcile(one)
    left_alone = replace(one, distributed=False, ha=True)
    if restart:
        reconciler = opened(False)
        reconciler.begin_resync([("b", two), ("a", left_alone)])
    for _ in range(2):
        with pytest.raises(NotSupportedError):
            reconciler.reconcile(left_alone)
        assert reconciler.reconcile(two).plan.omitted
        (route,) = lab.ip_json("route", "show", ADDRESS, netns=FIP)
        assert route["dev"] == names.device(names.FIP_TO_ROUTER, one.id)
    for prefix in (names.QROUTER, names.SNAT):
        lab.run("ip", "netns", "delete", prefix + one.id)
    with pytest.raises(NotSupportedError) as caught:
        reconciler.reconcile(left_alone)
    assert caught.value.affected == (two.id,)
    assert not reconciler.reconcile(two).plan.omitted


def test_who_has_lost_a_floating_ip_is_queued(opened: Open) -> None:
    reconciler = opened(True)
    one, two = make_router("one", 1), spoiled(make_router("two", 2))
    older = with_fip(one, ADDRESS)
    reconciler.begin_resync([("a", older)])
    reconciler.reconcile(older)
    assert partly(reconciler, with_fip(two, ADDRESS)).affected == (older.id,)


@pytest.mark.parametrize("low_is_spoiled", [True, False])
@pytest.mark.parametrize("low_is_first", [True, False])
def test_a_shared_route_is_conceded_or_taken_over(opened: Open, low_is_spoiled: bool, low_is_first: bool) -> None:
    reconciler = opened(False)
    low, high = map(shared, sorted((make_router("one", 1), make_router("two", 2)), key=lambda router: router.id))
    low, high = (spoiled(low), high) if low_is_spoiled else (low, spoiled(high))
    for _ in range(3):
        for router in (low, high) if low_is_first else (high, low):
            if router.routes:
                partly(reconciler, router)
            else:
                reconciler.reconcile(router)


def without_gateway(router: Router) -> Router:
    return replace(router, floating_ips=(), agent_gateways=(), gateway=None, gateway_host=None, snat_interfaces=())


def breaks_off(monkeypatch: pytest.MonkeyPatch, reconciler: RouterReconciler, router: Router) -> None:
    """Reconcile a router; the job ends after its last change of an object, before anything is noted."""

    def end(*_args: object) -> None:
        raise KernelError(names.QROUTER + router.id, "tracked connections", errno.EMFILE)

    with monkeypatch.context() as patch:
        patch.setattr(PostCommit, "delete_connections", end)
        with pytest.raises(KernelError, match="EMFILE"):
            reconciler.reconcile(router)


def raises_busy(_self: object, name: str) -> None:
    raise KernelError(name, "namespace", errno.EBUSY)


def test_a_network_goes_with_its_last_slice_though_a_router_that_left_it_is_degraded(opened: Open) -> None:
    reconciler = opened(False)
    one, two = spoiled(with_fip(make_router("one", 1), ADDRESS)), with_fip(make_router("two", 2), "203.0.113.78")
    partly(reconciler, one)
    reconciler.reconcile(two)
    partly(reconciler, without_gateway(one))
    assert FIP in reconciler.kernel.namespaces.list()
    reconciler.remove(two.id)
    assert FIP not in reconciler.kernel.namespaces.list()


def test_a_network_goes_with_its_last_slice_though_the_job_of_a_router_that_left_it_broke_off(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = opened(False)
    one, two = with_fip(make_router("one", 1), ADDRESS), with_fip(make_router("two", 2), "203.0.113.78")
    reconciler.reconcile(one)
    reconciler.reconcile(two)
    breaks_off(monkeypatch, reconciler, without_gateway(one))
    reconciler.remove(two.id)
    assert FIP not in reconciler.kernel.namespaces.list()
    reconciler.reconcile(one)
    assert not reconciler.planner.plan(one)


def test_a_floating_ip_goes_back_though_the_job_that_took_it_broke_off(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = opened(True)
    one, two = with_fip(make_router("one", 1), ADDRESS), with_fip(make_router("two", 2), "203.0.113.78")
    reconciler.begin_resync([("a", one), ("b", two)])
    reconciler.reconcile(one)
    reconciler.reconcile(two)
    breaks_off(monkeypatch, reconciler, with_fip(two, ADDRESS))
    newest = replace(one, routes=(ExtraRoute(ip_network("172.16.0.0/16"), ip_address("10.1.0.9")),))
    assert not reconciler.reconcile(newest).plan.omitted
    (route,) = lab.ip_json("route", "show", ADDRESS, netns=FIP)
    assert route["dev"] == names.device(names.FIP_TO_ROUTER, one.id)


def test_a_network_goes_with_the_retry_of_its_last_router(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slice is gone already, the namespace is not: it stays noted until it is gone, too."""
    reconciler = opened(False)
    one = with_fip(make_router("one", 1), ADDRESS)
    reconciler.reconcile(one)
    with monkeypatch.context() as patch:
        patch.setattr(type(reconciler.kernel.namespaces), "remove", raises_busy)
        with pytest.raises(RefusedError):
            reconciler.remove(one.id)
        lab.run("ip", "-n", FIP, "link", "delete", names.device(names.FIP_TO_ROUTER, one.id))
        with pytest.raises(RefusedError):
            reconciler.remove(one.id)
    reconciler.remove(one.id)
    assert reconciler.kernel.namespaces.list() == []


IPV6 = "2001:db8:e::200/64"


def dual_stack(number: int) -> Router:
    """A router whose agent gateway port has an IPv6 address, too."""
    fg = port("fg", EXTERNAL, "203.0.113.200/24", IPV6)
    return replace(with_fip(make_router(f"r{number}", number), f"203.0.113.{100 + number}"), agent_gateways=(fg,))


def refused_address(address: Address, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """The request for an address, on a device that does not exist for the one that the kernel is to refuse."""
    return add_address(address, 9999 if address.cidr == IPV6 else index, tolerate)


def audit(reconciler: RouterReconciler, routers: Iterable[Router]) -> list[str]:
    """Audit all; returns the names of routers that were refused something."""
    degraded = []
    reconciler.begin_resync([(router.name, router) for router in routers])
    for router in routers:
        try:
            reconciler.reconcile(router, in_resync=True)
        except RefusedError:
            degraded.append(router.name)
    return degraded


def test_what_is_refused_of_the_shared_part_degrades_one_router(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    reconciler = opened(False)
    routers = [dual_stack(number) for number in range(1, 5)]
    assert audit(reconciler, routers) == []
    device = names.device(names.AGENT_GATEWAY, routers[0].agent_gateways[0].id)
    lab.run("ip", "-n", FIP, "address", "del", IPV6, "dev", device)
    with monkeypatch.context() as patch:
        patch.setattr("dvr_agent.kernel.netlink.address.add_address", refused_address)
        assert audit(reconciler, routers) == ["r1"]
        before = reconciler.kernel.counters.total()
        assert audit(reconciler, routers) == ["r1"]
        assert reconciler.kernel.counters.total() == before + 1
        for router in routers[1:]:  # an event of the shared part queues all of them
            assert not reconciler.reconcile(router).plan
        assert reconciler.kernel.counters.total() == before + 1
        reconciler.remove(routers[0].id)
        assert audit(reconciler, routers[1:]) == ["r2"]
        newest = dual_stack(5)
        with pytest.raises(RefusedError, match=IPV6):  # it builds on the shared part
            reconciler.reconcile(newest)
    assert audit(reconciler, [*routers[1:], newest]) == []
    assert IPV6 in lab.run("ip", "-n", FIP, "address", "show", "dev", device)
