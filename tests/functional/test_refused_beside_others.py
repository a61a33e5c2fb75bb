"""A router with a refused object beside other routers: what its jobs did make counts, on the real kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.model.router import ExtraRoute, Router
from dvr_agent.reconcile.api import RefusedError, Result
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
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
