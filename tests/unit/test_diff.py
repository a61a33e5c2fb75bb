"""The algebra of differences, and the order in which they are made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change, Changes, diff
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KIND_OF, Announcement, NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.order import phases
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import Hop, make_route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl
from tests.support.strategies import STATES


def applied(state: NamespaceState, changes: Changes) -> NamespaceState:
    """What a kernel that obeys makes of a state."""
    for change in changes.items:
        field = KIND_OF[type(change.item)].field
        items = set(getattr(state, field))
        if change.old is not None:
            items.remove(change.old)
        if isinstance(change.item, Link) and isinstance(change.old, Link) and change.old.mac != change.item.mac:
            kept = frozenset(one for one in state.neighbours if one.device != change.item.name)
            state = replace(state, neighbours=kept)  # so does neigh_changeaddr()
        if change.action is not Action.REMOVE:
            assert change.item not in items
            items.add(change.item)
        state = replace(state, **{field: frozenset(items)})  # type: ignore[arg-type]  # the field is named at run time
    tables = {table.key: table for table in state.tables}
    for table in changes.tables:
        assert tables.get(table.new.key, table.old) == table.old
        tables[table.new.key] = table.new
    return replace(state, tables=tuple(tables[key] for key in sorted(tables)))


@given(STATES, STATES)
def test_applying_a_difference_leaves_none(now: NamespaceState, want: NamespaceState) -> None:
    # A parameter that is not wanted any more stays: there is no way to take one back.
    assert not diff(applied(now, diff(now, want)), want)


@given(STATES)
def test_equal_states_do_not_differ(state: NamespaceState) -> None:
    assert not diff(state, replace(state))
    assert diff(None, state).create


@given(STATES, STATES)
def test_every_object_of_a_difference_is_named_once(now: NamespaceState, want: NamespaceState) -> None:
    items = diff(now, want).items
    assert len({(change.action, change.item) for change in items}) == len(items)
    assert sorted(change.text for change in items) == sorted({change.text for change in items})


@pytest.mark.parametrize("mac", ["", "0a:00:00:01", ":".join(["00"] * 20)], ids=["tun", "ipip", "infiniband"])
def test_a_device_without_an_ethernet_address_is_removed_like_any_other(mac: str) -> None:
    want = NamespaceState("qrouter-x", Ownership(prefixes=("qr-",)))
    link, address = Link("qr-tun", mac, 1500), Address("qr-tun", "10.0.0.1/24")
    now = replace(want, links=frozenset({link}), addresses=frozenset({address}))
    assert {change.item for change in diff(now, want).items} == {link, address}


@given(STATES, STATES)
def test_phases_hold_every_change_once(now: NamespaceState, want: NamespaceState) -> None:
    items = diff(now, want).items
    order = phases(items)
    removed = (*order.before, *order.stop, *order.unroute, *order.withdraw, *order.late)
    staged = (*removed, *order.build, *order.lead)
    assert sorted(map(str, staged)) == sorted(map(str, items))
    assert all(change.action is Action.REMOVE for change in removed)
    assert all(change.action is not Action.REMOVE for change in order.lead)
    assert all(change.action is not Action.REMOVE or change.kind == "address" for change in order.build)


@given(STATES, STATES, st.randoms())
def test_order_of_input_does_not_matter(now: NamespaceState, want: NamespaceState, random: object) -> None:
    items = list(diff(now, want).items)
    kinds = [change.kind for change in phases(items).build]
    random.shuffle(items)  # type: ignore[attr-defined]
    assert [change.kind for change in phases(items).build] == kinds


def test_a_rule_that_goes_waits_for_its_successor() -> None:
    old, new = Rule(4, 40000, 16, "10.0.0.5/32"), Rule(4, 50000, 16, "10.0.0.5/32")
    gone = Rule(4, 40001, 16, "10.0.0.6/32")
    items = [Change(Action.REMOVE, old, old), Change(Action.REMOVE, gone, gone), Change(Action.ADD, new)]
    order = phases(items)
    assert [change.item for change in order.stop] == [gone]
    assert [change.item for change in order.late] == [old]


def test_devices_come_before_what_stands_on_them_and_on_link_routes_before_gateways() -> None:
    link = Link("qr-a", "02:00:00:00:00:01", 1450)
    address = Address("qr-a", "10.0.0.1/24")
    by_gateway = make_route("0.0.0.0/0", 16, Hop("192.0.2.1", "qr-a"))
    on_link = make_route("192.0.2.1/32", 254, Hop(None, "qr-a"))
    rule = Rule(4, 16, 16, "10.0.0.1/24")
    items = [Change(Action.ADD, item) for item in (rule, by_gateway, address, on_link, link)]
    assert [change.item for change in phases(items).build] == [link, address, on_link, by_gateway]
    assert [change.item for change in phases(items).lead] == [rule]


def test_an_ipv6_address_with_another_prefix_length_takes_the_place_of_the_old_one() -> None:
    link = Link("qr-1", "fa:16:3e:00:00:01", 1450)
    old, new = Address("qr-1", "2001:db8::1/64"), Address("qr-1", "2001:db8::1/80")
    other = Address("qr-1", "2001:db8::2/64")
    now = NamespaceState("n", Ownership(("qr-",)), frozenset({link}), frozenset({old, other}))
    order = phases(diff(now, replace(now, addresses=frozenset({new}))).items)
    assert {(change.action, change.item) for change in order.build} == {(Action.ADD, new), (Action.REMOVE, old)}
    assert [change.item for change in order.late] == [other]


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_of_several_routes_to_one_destination_one_stays_and_the_others_go(wanted: int) -> None:
    routes = [make_route("192.0.2.0/24", 254, Hop(f"10.0.0.{n}", "qr-1")) for n in range(3)]
    now = NamespaceState("n", Ownership(("qr-",)), routes=frozenset(routes[:2]))
    want = replace(now, routes=frozenset({routes[wanted]}))
    changes = diff(now, want)
    assert applied(now, changes) == want
    assert [change.action for change in changes.items].count(Action.REMOVE) == 1


def test_neighbours_on_a_device_that_gets_another_mac_are_made_again() -> None:
    link = Link("qr-1", "fa:16:3e:00:00:01", 1450)
    here, there = Neighbour("10.0.0.9", "qr-1", "fa:16:3e:00:00:09"), Neighbour("10.0.1.9", "qr-2", "fa:16:3e:00:00:08")
    now = NamespaceState("n", Ownership(("qr-",)), frozenset({link}), neighbours=frozenset({here, there}))
    want = replace(now, links=frozenset({link._replace(mac="fa:16:3e:00:00:02")}))
    assert [change.item for change in diff(now, want).items if change.kind == "neighbour"] == [here]


def test_only_what_is_new_is_announced() -> None:
    ownership = Ownership(devices=frozenset({"fpr-a"}))
    old, new = (make_route(f"203.0.113.{i}/32", 254, Hop("169.254.64.0", "fpr-a")) for i in (5, 6))
    announcements = tuple(Announcement("fg-a", f"203.0.113.{i}", route) for i, route in ((5, old), (6, new)))
    now = NamespaceState("fip-n", ownership, routes=frozenset({old}))
    want = NamespaceState("fip-n", ownership, routes=frozenset({old, new}), announcements=announcements)
    assert [a.address for a in diff(now, want).announcements] == ["203.0.113.6"]
    assert [a.address for a in diff(None, want).announcements] == ["203.0.113.5", "203.0.113.6"]


def test_a_device_with_another_mac_announces_all_its_addresses() -> None:
    ownership, address = Ownership(prefixes=("qg-",)), Address("qg-a", "203.0.113.5/24")
    before, after = (Link("qg-a", f"fa:16:3e:00:00:0{end}", 1450, True) for end in (1, 2))
    said = (Announcement("qg-a", "203.0.113.5", address), Announcement("qg-b", "203.0.113.6", address))
    now = NamespaceState("snat-n", ownership, frozenset({before}), frozenset({address}), announcements=said)
    assert not diff(now, now).announcements
    want = replace(now, links=frozenset({after}))
    assert [one.device for one in diff(now, want).announcements] == ["qg-a"]
    assert not diff(now, replace(now, links=frozenset({before._replace(mtu=1400)}))).announcements


def test_text_reads_like_iproute2() -> None:
    route = make_route("10.9.0.0/16", 254, Hop("10.0.0.8", "qr-a"), Hop("10.0.0.9", "qr-a"))
    assert route.text == "route 10.9.0.0/16 nexthop via 10.0.0.8 dev qr-a nexthop via 10.0.0.9 dev qr-a"
    changed = Change(Action.CHANGE, Link("qr-a", "02:00:00:00:00:01", 1400), Link("qr-a", "02:00:00:00:00:01", 1450))
    assert changed.text == (
        "~ link qr-a address 02:00:00:00:00:01 mtu 1400 (was: link qr-a address 02:00:00:00:00:01 mtu 1450)"
    )


def test_proxy_delay_that_the_kernel_rounds_down_is_no_difference() -> None:
    ownership = Ownership()
    key = "ipv4/neigh/fg-a/proxy_delay"
    want = NamespaceState("fip-n", ownership, sysctls=frozenset({Sysctl(key, "1")}))
    for value, differs in (("1", False), ("0", False), ("80", True), ("2", True)):
        now = NamespaceState("fip-n", ownership, sysctls=frozenset({Sysctl(key, value)}))
        assert bool(diff(now, want)) == differs
