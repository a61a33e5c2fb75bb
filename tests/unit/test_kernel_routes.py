"""Routes that the kernel makes with addresses: which lost ones are added, in what order, and what an event says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel.drift_events import Event
from dvr_agent.reconcile.contradictions import is_drift, stems_of
from dvr_agent.state.address import Address, kernel_link_local
from dvr_agent.state.diff import Action, Change, diff
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import NamespaceState, thing_of, without_device
from dvr_agent.state.order import phases
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import MAIN_TABLE, Hop, make_route
from dvr_agent.state.slices import SliceIndex
from dvr_agent.state.virtual_router import VirtualRouterState
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load

LINK = Link("qr-a", "fa:16:3e:00:00:01", 1450)
V4, V6 = Address("qr-a", "10.0.0.1/24"), Address("qr-a", "2001:db8::1/64")
STATE = NamespaceState(
    "qrouter-x", Ownership(prefixes=("qr-",)), links=frozenset({LINK}), addresses=frozenset({V4, V6})
)
VIRTUAL = Address("qr-a", "192.0.2.1/24")
HA = replace(STATE, virtual_router=VirtualRouterState(1, 50, 2, "ha-b", "169.254.192.1/18", VIRTUAL))


def lost(state: NamespaceState, *routes: KernelRoute) -> NamespaceState:
    return replace(state, lost_routes=frozenset(routes))


def added(now: NamespaceState, desired: NamespaceState) -> list[KernelObject]:
    changes = diff(now, desired).items
    assert {change.action for change in changes} <= {Action.ADD}
    return [change.item for change in changes]


LOST = [
    KernelRoute("qr-a", "10.0.0.1/24"),
    KernelRoute("qr-a", "10.0.0.1/24", is_local=True),
    KernelRoute("qr-a", "2001:db8::1/64"),
    KernelRoute("qr-a", "2001:db8::1/64", is_local=True),
    KernelRoute("qr-a", kernel_link_local("qr-a", LINK.mac).cidr),
    KernelRoute("qr-a", kernel_link_local("qr-a", LINK.mac).cidr, is_local=True),
]


@pytest.mark.parametrize("route", LOST, ids=lambda route: route.text)
def test_a_lost_route_of_an_address_that_is_wanted_is_added(route: KernelRoute) -> None:
    assert added(lost(STATE, route), STATE) == [route]


def test_addresses_of_one_subnet_share_their_connected_route() -> None:
    state = replace(STATE, addresses=STATE.addresses | {Address("qr-a", "2001:db8::2/64")})
    both = (KernelRoute("qr-a", "2001:db8::1/64"), KernelRoute("qr-a", "2001:db8::2/64"))
    assert [one.text for one in added(lost(state, *both), state)] == ["connected route 2001:db8::/64 dev qr-a"]


@pytest.mark.parametrize(
    "route", [KernelRoute("qr-a", "10.9.0.1/24"), KernelRoute("qr-a", "10.0.0.1/25"), KernelRoute("qr-b", "fe80::1/64")]
)
def test_that_of_an_address_that_nobody_wants_is_not(route: KernelRoute) -> None:
    assert added(lost(STATE, route, route._replace(is_local=True)), STATE) == []


def test_the_link_local_address_of_another_program_is_left_as_it_is() -> None:
    """To get its local route back it would have to be added again, as one of ours."""
    theirs = KernelRoute("qr-a", "fe80::1/64")
    assert added(lost(STATE, theirs, theirs._replace(is_local=True)), STATE) == [theirs]


def test_of_what_vrrp_holds_the_connected_route_is_added_and_no_local_one() -> None:
    """An address that leaves for another host meanwhile would be answered for here."""
    connected = KernelRoute("qr-a", VIRTUAL.cidr)
    now = lost(replace(HA, addresses=HA.addresses | {VIRTUAL}), connected, connected._replace(is_local=True))
    assert added(now, HA) == [connected]


def test_they_come_after_addresses_and_before_routes_and_local_ones_first() -> None:
    route = make_route("192.0.2.0/24", MAIN_TABLE, Hop("10.0.0.9", "qr-a"))
    onlink = make_route("192.0.3.0/24", MAIN_TABLE, Hop(None, "qr-a"))
    connected, local = LOST[:2]
    items: list[KernelObject] = [route, onlink, connected, local, V6]
    order = phases([Change(Action.ADD, item) for item in items])
    assert [change.item for change in order.build] == [V6, local, connected, onlink, route]


def test_a_route_by_a_connected_one_that_is_refused_is_not_tried() -> None:
    missing = Missing()
    missing.refuse("n", Change(Action.ADD, LOST[0]), KernelError("n", "it", 1))
    assert missing.takes("n", Change(Action.ADD, make_route("192.0.2.0/24", MAIN_TABLE, Hop("10.0.0.9", "qr-a"))))
    assert not missing.takes("n", Change(Action.ADD, make_route("192.0.3.0/24", MAIN_TABLE, Hop("10.0.1.9", "qr-a"))))


def gone(route: KernelRoute) -> Event:
    return Event("qrouter-x", route, False, 4711)


@pytest.mark.parametrize(
    "route",
    [
        KernelRoute("qr-a", "10.0.0.1/24"),
        KernelRoute("qr-a", "2001:db8::/64"),  # an event does not tell the address
        KernelRoute("qr-a", "fe80::/64"),
        KernelRoute("", "10.0.0.0/24"),  # replaced
    ],
)
def test_an_event_of_one_that_is_gone_is_drift(route: KernelRoute) -> None:
    assert is_drift(STATE, gone(route))


def test_an_event_of_an_address_that_vrrp_may_hold_is_drift_too() -> None:
    assert is_drift(HA, gone(KernelRoute("qr-a", "192.0.2.0/24")))


@pytest.mark.parametrize(
    "route", [KernelRoute("qr-b", "10.0.0.1/24"), KernelRoute("qr-a", "10.0.1.1/24"), KernelRoute("", "0.0.0.0/0")]
)
def test_an_event_of_another_one_is_no_drift(route: KernelRoute) -> None:
    assert not is_drift(STATE, gone(route))


def test_an_event_in_a_fip_namespace_goes_to_the_router_of_the_device() -> None:
    assert stems_of(Event("fip-n", KernelRoute("fpr-0123", "169.254.64.1/31"), False, 1)) == ["0123"]


def test_event_and_observation_name_the_same_object() -> None:
    assert thing_of("n", KernelRoute("qr-a", "2001:db8::/64")) == thing_of("n", KernelRoute("qr-a", "2001:db8::1/64"))


def test_a_slice_has_those_of_its_devices() -> None:
    mine, other = KernelRoute("fpr-a", "169.254.64.1/31"), KernelRoute("fpr-b", "169.254.64.3/31")
    whole = lost(STATE, mine, other)
    assert SliceIndex(whole).take(Ownership(devices=frozenset({"fpr-a"}))).lost_routes == {mine}
    assert without_device(whole, "fpr-b").lost_routes == {mine}


def test_a_reconciler_adds_those_that_were_removed_while_it_was_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    bench.reconciler.reconcile(router)
    there = bench.fake.world.namespaces[f"qrouter-{router.id}"]
    routes = {KernelRoute(one.device, one.cidr) for one in there.addresses if not one.cidr.endswith("/32")}
    assert routes
    there.lost_routes |= routes
    bench.restart()
    plan = bench.reconciler.reconcile(router).plan
    assert {change.item for changes in plan.changes for change in changes.items} == routes
    assert not there.lost_routes
    assert not bench.reconciler.reconcile(router).plan
