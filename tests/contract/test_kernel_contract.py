"""What every kernel layer must do, the fake and the real one alike: namespaces, links and what is on them."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import Kernel
from dvr_agent.state.address import Address
from dvr_agent.state.diff import diff
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import Limit
from dvr_agent.state.link import Link, Origin, Port, Veth
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import MAIN_TABLE, Hop, Route, make_route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl
from tests.support.contract_objects import EXAMPLES, V4_NEIGHBOUR, V4_ROUTE, V6_NEIGHBOUR, V6_ROUTE
from tests.support.contract_world import (
    FAR,
    FAR_LINK,
    FAR_MAC,
    FORWARD,
    NEAR,
    NEAR_LINK,
    NEAR_MAC,
    OURS,
    A,
    B,
    add,
    bare,
    change,
    eventually_no_links,
    join,
    remove,
    see,
    set_value,
    value_of,
)


class TestNamespaces:
    def test_one_that_was_made_is_listed_until_it_is_removed(self, kernel: Kernel) -> None:
        assert kernel.namespaces.list() == []
        for name in ("snat-b", "qrouter-a"):
            kernel.namespaces.create(name)
        assert kernel.namespaces.list() == ["qrouter-a", "snat-b"]
        assert kernel.namespaces.exists("snat-b")
        kernel.namespaces.remove("snat-b")
        assert kernel.namespaces.list() == ["qrouter-a"]
        assert not kernel.namespaces.exists("snat-b")

    def test_making_and_removing_twice_writes_once(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        kernel.namespaces.create(A)
        assert kernel.counters.namespaces == 1
        kernel.namespaces.remove(A)
        kernel.namespaces.remove(A)
        assert kernel.counters.namespaces == 2

    def test_making_again_leaves_what_is_inside(self, kernel: Kernel) -> None:
        join(kernel)
        kernel.namespaces.create(A)
        assert bare(NEAR_LINK) in see(kernel).links

    def test_the_loopback_is_up(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        (lo,) = see(kernel, ownership=Ownership(devices=frozenset({"lo"}))).links
        assert lo.up

    def test_entering_a_missing_one_says_so(self, kernel: Kernel) -> None:
        with pytest.raises(NamespaceGoneError, match="nowhere"), kernel.namespaces.enter("nowhere"):
            pytest.fail("the block must not run")

    def test_removing_one_takes_the_other_ends_of_its_pairs_along(self, kernel: Kernel) -> None:
        join(kernel)
        kernel.namespaces.remove(B)
        eventually_no_links(kernel, A)
        assert see(kernel) == NamespaceState(A, OURS)

    def test_a_namespace_is_no_empty_file(self, kernel: Kernel) -> None:
        assert list(kernel.namespaces.empty_files()) == []
        kernel.namespaces.create(A)
        assert list(kernel.namespaces.empty_files()) == []
        kernel.namespaces.remove_file(A)
        kernel.namespaces.remove_file(B)
        assert kernel.namespaces.list() == [A]


class TestObserve:
    def test_a_missing_namespace_is_none(self, kernel: Kernel) -> None:
        assert kernel.interfaces.observe("nowhere", OURS, [FORWARD]) is None

    def test_a_new_namespace_holds_nothing_of_ours(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        assert see(kernel) == NamespaceState(A, OURS)

    def test_reading_writes_nothing(self, kernel: Kernel) -> None:
        join(kernel)
        before = kernel.counters.total()
        see(kernel, sysctls=[FORWARD])
        kernel.packet_filter.observe(A, [(4, "nat")])
        kernel.namespaces.list()
        assert kernel.counters.total() == before

    def test_what_was_built_from_a_desired_state_reads_back_as_it(self, kernel: Kernel) -> None:
        desired = NamespaceState(
            A,
            OURS,
            links=frozenset({NEAR_LINK}),
            addresses=frozenset({Address(NEAR, "10.0.0.1/24"), Address(NEAR, "2001:db8::1/64")}),
            routes=frozenset({V4_ROUTE, V6_ROUTE}),
            rules=frozenset({Rule(4, 33000, 16, "10.0.0.4/32"), Rule(6, 70001, 70001, "2001:db8::1/64")}),
            neighbours=frozenset({V4_NEIGHBOUR, V6_NEIGHBOUR}),
            sysctls=frozenset({Sysctl(FORWARD, "1")}),
        )
        for namespace in (A, B):
            kernel.namespaces.create(namespace)
        order = {Link: 0, Sysctl: 1, Address: 2}
        todo = sorted(diff(see(kernel, sysctls=[FORWARD]), desired).items, key=lambda c: order.get(type(c.item), 3))
        kernel.interfaces.apply(A, todo)
        add(kernel, B, FAR_LINK)
        assert not diff(see(kernel, sysctls=[FORWARD]), desired)

    def test_applying_nothing_writes_nothing(self, kernel: Kernel) -> None:
        join(kernel)
        before = kernel.counters.total()
        kernel.interfaces.apply(A, [])
        assert kernel.counters.total() == before


class TestLinks:
    def test_a_pair_spans_two_namespaces(self, kernel: Kernel) -> None:
        for namespace in (A, B):
            kernel.namespaces.create(namespace)
        add(kernel, A, NEAR_LINK)
        assert see(kernel).links == {bare(NEAR_LINK)}
        assert see(kernel, B).links == {Link(FAR, FAR_MAC, 1450, up=False)}
        add(kernel, B, FAR_LINK)
        assert see(kernel, B).links == {bare(FAR_LINK)}

    def test_removing_either_end_removes_both(self, kernel: Kernel) -> None:
        for namespace, link in ((A, NEAR_LINK), (B, FAR_LINK)):
            join(kernel)
            remove(kernel, namespace, link)
            assert see(kernel).links == frozenset()
            assert see(kernel, B).links == frozenset()

    def test_removing_one_takes_along_what_is_on_it(self, kernel: Kernel) -> None:
        join(kernel)
        rule = Rule(4, 33000, 16, "10.0.0.4/32")
        add(kernel, A, V4_ROUTE, V6_ROUTE, V4_NEIGHBOUR, V6_NEIGHBOUR, rule)
        remove(kernel, A, NEAR_LINK)
        assert see(kernel) == NamespaceState(A, OURS, rules=frozenset({rule}))

    @pytest.mark.parametrize(
        "new",
        [
            Link(NEAR, NEAR_MAC, 1400),
            Link(NEAR, "fa:16:3e:00:00:cc", 1450),
            Link(NEAR, NEAR_MAC, 1450, up=False),
            Link(NEAR, "fa:16:3e:00:00:cc", 9000, up=False),
        ],
        ids=["mtu", "mac", "down", "all"],
    )
    def test_it_can_be_changed_in_place(self, kernel: Kernel, new: Link) -> None:
        join(kernel)
        change(kernel, A, NEAR_LINK, new)
        assert see(kernel).links == {new}

    def test_raising_it_again_keeps_the_ipv4_address(self, kernel: Kernel) -> None:
        join(kernel)
        change(kernel, A, NEAR_LINK, NEAR_LINK._replace(up=False))
        change(kernel, A, NEAR_LINK._replace(up=False), NEAR_LINK)
        assert Address(NEAR, "10.0.0.1/24") in see(kernel).addresses

    def test_with_it_going_down_its_routes_and_neighbours_go(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, V4_ROUTE, V6_ROUTE, V4_NEIGHBOUR, V6_NEIGHBOUR)
        change(kernel, A, NEAR_LINK, NEAR_LINK._replace(up=False))
        state = see(kernel)
        assert state.routes == frozenset()
        assert state.neighbours == frozenset()

    def test_a_new_mac_costs_it_its_neighbours(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, V4_ROUTE, V4_NEIGHBOUR, V6_NEIGHBOUR)
        change(kernel, A, NEAR_LINK, NEAR_LINK._replace(mac="fa:16:3e:00:00:cc"))
        state = see(kernel)
        assert state.neighbours == frozenset()
        assert state.routes == {V4_ROUTE}

    def test_a_name_that_is_taken_is_refused(self, kernel: Kernel) -> None:
        join(kernel)
        with pytest.raises(KernelError, match=NEAR) as caught:
            add(kernel, A, NEAR_LINK._replace(origin=Veth(B, "fpr-other", FAR_MAC)))
        assert caught.value.code == errno.EEXIST
        assert caught.value.namespace == A

    def test_a_pair_into_a_missing_namespace_is_refused(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        with pytest.raises(NamespaceGoneError, match=B):
            add(kernel, A, NEAR_LINK)
        assert see(kernel).links == frozenset()

    def test_an_end_that_is_not_there_cannot_be_raised(self, kernel: Kernel) -> None:
        kernel.namespaces.create(B)
        with pytest.raises(KernelError, match=FAR) as caught:
            add(kernel, B, FAR_LINK)
        assert caught.value.code == errno.ENODEV


TEXTS = [item.text for item in EXAMPLES]


def everything(state: NamespaceState) -> set[KernelObject]:
    return {item for kind in KINDS for item in state.of_kind(kind)}


class TestItems:
    @pytest.mark.parametrize("item", EXAMPLES, ids=TEXTS)
    def test_what_is_added_is_there_and_what_is_removed_is_not(self, kernel: Kernel, item: KernelObject) -> None:
        join(kernel)
        before = everything(see(kernel))
        add(kernel, A, item)
        assert everything(see(kernel)) == before | {item}
        remove(kernel, A, item)
        assert everything(see(kernel)) == before

    @pytest.mark.parametrize("item", EXAMPLES, ids=TEXTS)
    def test_removing_what_is_gone_is_no_error(self, kernel: Kernel, item: KernelObject) -> None:
        join(kernel)
        before = see(kernel)
        remove(kernel, A, item)
        assert see(kernel) == before

    @pytest.mark.parametrize("item", EXAMPLES, ids=TEXTS)
    def test_every_write_is_counted(self, kernel: Kernel, item: KernelObject) -> None:
        join(kernel)
        before = dataclasses.replace(kernel.counters)
        add(kernel, A, item)
        written = "nftables" if isinstance(item, Limit) else "netlink"
        assert getattr(kernel.counters, written) == getattr(before, written) + 1
        assert kernel.counters.total() == before.total() + 1

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (V4_ROUTE, make_route(V4_ROUTE.dst, MAIN_TABLE, Hop("10.0.0.10", NEAR))),
            (V4_ROUTE, make_route(V4_ROUTE.dst, MAIN_TABLE, Hop("10.0.0.10", NEAR), Hop("10.0.0.11", NEAR))),
            (V6_ROUTE, make_route(V6_ROUTE.dst, MAIN_TABLE, Hop("2001:db8::10", NEAR))),
            (V6_ROUTE, make_route(V6_ROUTE.dst, MAIN_TABLE, Hop("2001:db8::10", NEAR), Hop("2001:db8::11", NEAR))),
            (V4_NEIGHBOUR, V4_NEIGHBOUR._replace(mac="fa:16:3e:22:22:22")),
            (V6_NEIGHBOUR, V6_NEIGHBOUR._replace(mac="fa:16:3e:22:22:22")),
        ],
        ids=["route", "route to multipath", "IPv6 route", "IPv6 route to multipath", "neighbour", "IPv6 neighbour"],
    )
    def test_a_value_is_replaced_there_and_back(self, kernel: Kernel, old: KernelObject, new: KernelObject) -> None:
        join(kernel)
        add(kernel, A, old)
        before = everything(see(kernel))
        change(kernel, A, old, new)
        assert everything(see(kernel)) == (before - {old}) | {new}
        change(kernel, A, new, old)
        assert everything(see(kernel)) == before

    def test_changes_are_made_in_order(self, kernel: Kernel) -> None:
        join(kernel)
        address = Address(NEAR, "10.5.0.1/24")
        route = make_route("10.6.0.0/16", MAIN_TABLE, Hop("10.5.0.9", NEAR))
        add(kernel, A, address, route)
        assert {address, route} <= everything(see(kernel))

    def test_a_parameter_is_set_and_read(self, kernel: Kernel) -> None:
        join(kernel)
        device = f"ipv4/conf/{NEAR}/send_redirects"
        assert (value_of(kernel, FORWARD), value_of(kernel, device)) == ("0", "1")
        before = kernel.counters.sysctls
        set_value(kernel, FORWARD, "1")
        set_value(kernel, device, "0")
        assert (value_of(kernel, FORWARD), value_of(kernel, device)) == ("1", "0")
        assert value_of(kernel, FORWARD, B) == "0"
        assert kernel.counters.sysctls == before + 2

    def test_a_parameter_of_a_missing_device_is_not_seen(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        assert value_of(kernel, "ipv4/conf/qr-gone/send_redirects") is None


class TestWhatTheKernelTakesAlong:
    def test_with_the_last_ipv4_address_go_the_ipv4_routes_and_neighbours_of_the_device(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, V4_ROUTE, V6_ROUTE, V4_NEIGHBOUR, V6_NEIGHBOUR)
        remove(kernel, A, Address(NEAR, "10.0.0.1/24"))
        state = see(kernel)
        assert state.routes == {V6_ROUTE}
        assert state.neighbours == {V6_NEIGHBOUR}

    def test_neighbours_of_a_family_without_an_address_are_not_seen_until_there_is_one(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, V6_NEIGHBOUR)
        address = next(one for one in see(kernel).addresses if ":" in one.cidr)
        remove(kernel, A, address)
        assert see(kernel).neighbours == frozenset()
        add(kernel, A, address)
        assert see(kernel).neighbours == {V6_NEIGHBOUR}

    def test_while_another_address_is_left_a_route_stays_even_if_its_gateway_is_unreachable(
        self, kernel: Kernel
    ) -> None:
        join(kernel)
        add(kernel, A, Address(NEAR, "10.5.0.1/24"), V4_ROUTE, V4_NEIGHBOUR)
        remove(kernel, A, Address(NEAR, "10.0.0.1/24"))
        state = see(kernel)
        assert state.routes == {V4_ROUTE}
        assert state.neighbours == {V4_NEIGHBOUR}

    def test_a_second_address_of_the_subnet_survives_the_first(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, Address(NEAR, "10.0.0.77/24"))
        remove(kernel, A, Address(NEAR, "10.0.0.1/24"))
        assert Address(NEAR, "10.0.0.77/24") in see(kernel).addresses

    def test_multipath_routes_lose_the_device_that_goes(self, kernel: Kernel) -> None:
        join(kernel)
        other = Link("qr-other", "fa:16:3e:00:00:aa", 1450, True, Veth(B, "fpr-other", "fa:16:3e:00:00:ab"))
        add(kernel, A, other, Address("qr-other", "10.5.0.1/24"), Address("qr-other", "2001:db8:5::1/64"))
        v4 = make_route("192.0.2.0/24", MAIN_TABLE, Hop("10.0.0.9", NEAR), Hop("10.5.0.9", "qr-other"))
        v6 = make_route("2001:db8:9::/48", MAIN_TABLE, Hop("2001:db8::9", NEAR), Hop("2001:db8:5::9", "qr-other"))
        add(kernel, A, v4, v6)
        assert {v4, v6} <= everything(see(kernel))
        remove(kernel, A, other)
        assert see(kernel).routes == {make_route(v6.dst, MAIN_TABLE, Hop("2001:db8::9", NEAR))}


class TestErrors:
    @pytest.mark.parametrize(
        ("item", "code"),
        [
            (Address("qr-gone", "10.0.0.1/24"), errno.ENODEV),
            (make_route("10.7.0.0/16", MAIN_TABLE, Hop("10.0.0.9", "qr-gone")), errno.ENODEV),
            (make_route("2001:db8:7::/48", MAIN_TABLE, Hop("fe80::9", "qr-gone")), errno.ENODEV),
            (make_route("10.7.0.0/16", MAIN_TABLE, Hop("10.200.0.9", NEAR)), errno.ENETUNREACH),
            (make_route("2001:db8:7::/48", MAIN_TABLE, Hop("2001:db8:200::9", NEAR)), errno.EHOSTUNREACH),
            (Neighbour("10.0.0.4", "qr-gone", "fa:16:3e:11:11:11"), errno.ENODEV),
        ],
        ids=lambda value: value.text if hasattr(value, "text") else errno.errorcode[value],
    )
    def test_the_object_is_named_with_namespace_and_errno(self, kernel: Kernel, item: KernelObject, code: int) -> None:
        join(kernel)
        before = see(kernel)
        with pytest.raises(KernelError) as caught:
            add(kernel, A, item)
        assert (caught.value.namespace, caught.value.code) == (A, code)
        assert item.text in str(caught.value)
        assert see(kernel) == before

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (V4_ROUTE, make_route(V4_ROUTE.dst, MAIN_TABLE, Hop("10.0.0.10", NEAR))),
            (V6_ROUTE, make_route(V6_ROUTE.dst, MAIN_TABLE, Hop("2001:db8::10", NEAR))),
        ],
        ids=["IPv4", "IPv6"],
    )
    def test_a_route_takes_the_place_of_another(self, kernel: Kernel, old: KernelObject, new: KernelObject) -> None:
        join(kernel)
        add(kernel, A, old)
        add(kernel, A, new)
        assert see(kernel).routes == {new}

    @pytest.mark.parametrize("item", EXAMPLES, ids=TEXTS)
    def test_adding_what_is_there_already_is_no_error(self, kernel: Kernel, item: KernelObject) -> None:
        join(kernel)
        add(kernel, A, item)
        before = see(kernel)
        add(kernel, A, item)
        assert see(kernel) == before

    @pytest.mark.parametrize(
        ("route", "code"),
        [
            (V4_ROUTE, errno.ENETUNREACH),
            (make_route("198.51.100.0/24", MAIN_TABLE, Hop(None, NEAR)), errno.ENETDOWN),
            (make_route("192.0.2.0/24", MAIN_TABLE, Hop("172.16.0.1", NEAR, onlink=True)), errno.ENETDOWN),
            (V6_ROUTE, errno.EHOSTUNREACH),
            (make_route("::/0", MAIN_TABLE, Hop("fe80::9", NEAR)), errno.ENETDOWN),
            (make_route("2001:db8:9::/48", MAIN_TABLE, Hop(None, NEAR)), errno.ENETDOWN),
        ],
        ids=["IPv4", "IPv4 on-link", "IPv4 onlink gateway", "IPv6", "IPv6 link-local gateway", "IPv6 on-link"],
    )
    def test_a_route_needs_its_device_up(self, kernel: Kernel, route: Route, code: int) -> None:
        join(kernel)
        change(kernel, A, NEAR_LINK, NEAR_LINK._replace(up=False))
        with pytest.raises(KernelError) as caught:
            add(kernel, A, route)
        assert caught.value.code == code

    @pytest.mark.parametrize("origin", [None, Port(NEAR, "p", "n", NEAR_MAC, 1450)], ids=["unknown", "port"])
    def test_links_of_other_makers_are_not_made_here(self, kernel: Kernel, origin: Origin) -> None:
        kernel.namespaces.create(A)
        with pytest.raises(ValueError, match=NEAR):
            add(kernel, A, NEAR_LINK._replace(origin=origin))
        assert see(kernel).links == frozenset()

    def test_a_missing_namespace_is_told_apart(self, kernel: Kernel) -> None:
        with pytest.raises(NamespaceGoneError, match="nowhere"):
            add(kernel, "nowhere", Address(NEAR, "10.0.0.1/24"))

    def test_what_comes_before_the_failing_change_is_done(self, kernel: Kernel) -> None:
        join(kernel)
        bad = make_route("10.7.0.0/16", MAIN_TABLE, Hop("10.200.0.9", NEAR))
        with pytest.raises(KernelError):
            add(kernel, A, V4_NEIGHBOUR, bad)
        assert V4_NEIGHBOUR in see(kernel).neighbours


class TestOwnership:
    def test_what_is_on_foreign_devices_is_invisible(self, kernel: Kernel) -> None:
        foreign = NEAR_LINK._replace(name="tun0")
        join(kernel, foreign, FAR_LINK)
        add(kernel, A, make_route("10.7.0.0/16", MAIN_TABLE, Hop("10.0.0.9", "tun0")))
        add(kernel, A, V4_NEIGHBOUR._replace(device="tun0"))
        assert see(kernel) == NamespaceState(A, OURS)

    def test_foreign_rules_are_invisible(self, kernel: Kernel) -> None:
        join(kernel)
        ours = Rule(4, 33000, 16, "10.0.0.4/32")
        for foreign in (Rule(4, 100, 16, "10.0.0.4/32"), Rule(4, 33000, 17, "10.0.0.4/32"), Rule(6, 33000, 99)):
            add(kernel, A, foreign)
        add(kernel, A, ours)
        assert see(kernel).rules == {ours}

    def test_slices_of_a_shared_namespace_see_each_its_own(self, kernel: Kernel) -> None:
        kernel.namespaces.create(A)
        kernel.namespaces.create(B)
        slices = []
        for number, device in ((101, "fpr-one"), (102, "fpr-two")):
            peer = Veth(B, f"rfp-{device[4:]}", f"fa:16:3e:00:01:{number - 60}")
            link = Link(device, f"fa:16:3e:00:00:{number - 60}", 1450, True, peer)
            address = Address(device, f"169.254.{number}.1/31")
            rule = Rule(4, number, number, None, device)
            default = make_route("0.0.0.0/0", number, Hop(f"169.254.{number}.0", device))
            inward = make_route(f"203.0.113.{number}/32", MAIN_TABLE, Hop(f"169.254.{number}.0", device))
            add(kernel, A, link, address, rule, default, inward)
            ownership = Ownership(
                devices=frozenset({device}), rules=RuleOwner.BY_IIF, tables=frozenset({number}), main_only=True
            )
            slices.append((ownership, {bare(link), address, rule, default, inward}))
        for ownership, items in slices:
            assert everything(see(kernel, ownership=ownership)) == items

    def test_proxied_neighbours_belong_to_the_slice_that_has_their_network(self, kernel: Kernel) -> None:
        join(kernel)
        one, other = ProxyNeighbour("2001:db8:1::5", NEAR), ProxyNeighbour("2001:db8:2::5", NEAR)
        add(kernel, A, one, other, one)
        elsewhere = frozenset({"fpr-one"})
        for proxied, found in ((("2001:db8:1::/64",), {one}), (("::/0",), {one, other}), ((), set())):
            slice_ = Ownership(devices=elsewhere, proxied=proxied)
            assert see(kernel, ownership=slice_).proxy_neighbours == found
        remove(kernel, A, one, one)
        assert see(kernel).proxy_neighbours == {other}

    def test_a_device_that_goes_down_loses_its_proxied_neighbours(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, ProxyNeighbour("2001:db8::5", NEAR))
        change(kernel, A, NEAR_LINK, NEAR_LINK._replace(up=False))
        assert see(kernel).proxy_neighbours == frozenset()

    def test_rules_of_a_slice_are_seen_after_their_device_has_gone(self, kernel: Kernel) -> None:
        """However often the socket was used before: rules are few among many, and are picked out of the dump."""
        kernel.namespaces.create(A)
        first = 2851995648  # 169.254.64.0
        rules = {Rule(4, first + n, first + n, None, f"fpr-{n}") for n in range(1, 30)}
        add(kernel, A, *sorted(rules))
        for tables in range(8):
            for rule in sorted(rules):
                ownership = Ownership(
                    devices=frozenset({str(rule.iif)}),
                    rules=RuleOwner.BY_IIF,
                    tables=frozenset(range(100, 100 + tables)),
                )
                assert see(kernel, ownership=ownership).rules == {rule}

    def test_a_table_of_ours_is_seen_whatever_device_its_routes_use(self, kernel: Kernel) -> None:
        join(kernel)
        default = make_route("0.0.0.0/0", 16, Hop("10.0.0.9", NEAR))
        add(kernel, A, default)
        elsewhere = frozenset({"qr-elsewhere"})
        assert see(kernel, ownership=Ownership(devices=elsewhere, tables=frozenset({16}))).routes == {default}
        assert see(kernel, ownership=Ownership(devices=elsewhere)).routes == frozenset()

    def test_main_only_leaves_other_tables_alone(self, kernel: Kernel) -> None:
        join(kernel)
        add(kernel, A, V4_ROUTE, make_route("0.0.0.0/0", 16, Hop("10.0.0.9", NEAR)))
        ownership = Ownership(devices=frozenset({NEAR}), main_only=True)
        assert see(kernel, ownership=ownership).routes == {V4_ROUTE}
