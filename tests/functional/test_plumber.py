"""Links, addresses, routes, rules, neighbours and sysctls on the real kernel, read back with ``ip -j``."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pytest

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.plumber import RealPlumber
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change, diff
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link, Port, Veth, VethPeer
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import Hop, Route, make_route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl
from tests.support import lab

RFP, FPR = "rfp-7fb6853b-e0", "fpr-7fb6853b-e0"
RFP_MAC, FPR_MAC = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
ROUTER = Ownership(prefixes=("qr-", "rfp-"), rules=RuleOwner.QROUTER, tables=frozenset({16}))
FIP = Ownership(devices=frozenset({FPR}), rules=RuleOwner.BY_IIF, main_only=True)
RFP_LINK = Link(RFP, RFP_MAC, 1450, True, Veth("fip", FPR, FPR_MAC))
FPR_LINK = Link(FPR, FPR_MAC, 1450, True, VethPeer("router", RFP))
ADDRESSES = [Address(RFP, "169.254.64.0/31"), Address(RFP, "10.0.0.1/24"), Address(RFP, "fd00::1/64")]
ROUTES = [
    make_route("0.0.0.0/0", 16, Hop("169.254.64.1", RFP)),
    make_route("10.9.0.0/16", 254, Hop("10.0.0.7", RFP)),
    make_route("10.8.0.0/16", 254, Hop("10.0.0.7", RFP), Hop("10.0.0.8", RFP)),
    make_route("172.16.0.0/24", 254, Hop(None, RFP)),
    make_route("0.0.0.0/0", 3232235777, Hop("192.0.2.1", RFP, onlink=True)),
    make_route("::/0", 254, Hop("fe80::1", RFP)),
    make_route("fd01::/64", 254, Hop("fd00::2", RFP), Hop("fd00::3", RFP)),
    make_route("fd02::/64", 1073774592, Hop("fd00::2", RFP)),
    make_route("fd03::/64", 254, Hop(None, RFP)),
]
RULES = [
    Rule(4, 40000, 16, "10.0.0.5/32"),
    Rule(4, 167772161, 167772161, "10.0.0.1/24"),
    Rule(6, 1073774592, 1073774592, "fd00::1/64"),
    Rule(4, 80000, 16, "10.0.0.0/24"),
]
NEIGHBOURS = [
    Neighbour("169.254.64.1", RFP, FPR_MAC),
    Neighbour("10.0.0.9", RFP, "fa:16:3e:00:00:09"),
    Neighbour("fd00::9", RFP, "fa:16:3e:00:00:09"),
]
SYSCTLS = [
    Sysctl("ipv4/ip_forward", "1"),
    Sysctl("ipv4/conf/all/arp_ignore", "1"),
    Sysctl(f"ipv4/conf/{RFP}/send_redirects", "0"),
]


def add(*items: KernelObject) -> list[Change]:
    return [Change(Action.ADD, item) for item in items]


def remove(*items: KernelObject) -> list[Change]:
    return [Change(Action.REMOVE, item, item) for item in items]


@pytest.fixture
def counters() -> WriteCounters:
    return WriteCounters()


@pytest.fixture
def plumber(host: lab.Host, counters: WriteCounters) -> RealPlumber:
    namespaces = RealNamespaces(counters)
    for name in ("router", "fip"):
        namespaces.create(name)
    return RealPlumber(counters, namespaces)


def ip(*words: object, netns: str = "router") -> str:
    return lab.run("ip", "-n", netns, *words)


def seen(plumber: RealPlumber, namespace: str = "router", ownership: Ownership = ROUTER) -> NamespaceState:
    state = plumber.observe(namespace, ownership, [])
    assert state is not None
    return state


def linked(plumber: RealPlumber) -> None:
    plumber.apply("router", add(RFP_LINK))
    plumber.apply("fip", add(FPR_LINK))


def full(plumber: RealPlumber) -> None:
    """A router namespace with one of everything."""
    linked(plumber)
    plumber.apply("router", add(*ADDRESSES, *ROUTES, *RULES, *NEIGHBOURS, *SYSCTLS))


def same(found: Iterable[KernelObject], wanted: Iterable[KernelObject]) -> bool:
    return set(found) == set(wanted)


def bare(*links: Link) -> set[Link]:
    return {link._replace(origin=None) for link in links}


class TestLinks:
    def test_a_veth_pair_has_its_names_macs_mtu_and_both_ends_up(self, plumber: RealPlumber) -> None:
        linked(plumber)
        for netns, name, mac in (("router", RFP, RFP_MAC), ("fip", FPR, FPR_MAC)):
            (found,) = lab.ip_json("link", "show", name, netns=netns)
            assert (found["address"], found["mtu"], found["operstate"]) == (mac, 1450, "UP")
            assert found["linkinfo"]["info_kind"] == "veth"

    def test_the_observed_links_are_those_made(self, plumber: RealPlumber) -> None:
        linked(plumber)
        assert seen(plumber).links == bare(RFP_LINK)
        assert seen(plumber, "fip", FIP).links == bare(FPR_LINK)

    def test_a_pair_into_the_host_namespace(self, plumber: RealPlumber) -> None:
        plumber.apply("router", add(Link("qr-1", RFP_MAC, 1500, True, Veth("", "tap1", FPR_MAC))))
        (found,) = lab.ip_json("link", "show", "tap1")
        assert found["address"] == FPR_MAC

    def test_mac_mtu_and_state_are_changed_in_place(self, plumber: RealPlumber) -> None:
        linked(plumber)
        before = lab.ip_json("link", "show", RFP, netns="router")[0]["ifindex"]
        new = RFP_LINK._replace(mac="fa:16:3e:11:11:11", mtu=1400)
        plumber.apply("router", [Change(Action.CHANGE, new, RFP_LINK)])
        (found,) = lab.ip_json("link", "show", RFP, netns="router")
        assert (found["address"], found["mtu"], found["ifindex"]) == (new.mac, 1400, before)
        plumber.apply("router", [Change(Action.CHANGE, new._replace(up=False), new)])
        assert seen(plumber).links == bare(new._replace(up=False))

    @pytest.mark.parametrize("count", [1, 3])
    def test_removing_links_leaves_others(self, plumber: RealPlumber, count: int) -> None:
        links = [Link(f"qr-{n}", RFP_MAC, 1500, True, Veth("fip", f"tap{n}", FPR_MAC)) for n in range(count)]
        plumber.apply("router", add(RFP_LINK, *links))
        ip("link", "add", "admin0", "type", "bridge")
        plumber.apply("router", remove(*links))
        names = {link["ifname"] for link in lab.ip_json("link", netns="router")}
        assert names == {"lo", RFP, "admin0"}
        plumber.apply("router", remove(*links))

    def test_an_existing_name_is_an_error_that_names_it(self, plumber: RealPlumber) -> None:
        linked(plumber)
        with pytest.raises(KernelError, match=f"namespace router: link {RFP}.*EEXIST") as caught:
            plumber.apply("router", add(RFP_LINK))
        assert caught.value.code == errno.EEXIST

    def test_a_port_is_refused(self, plumber: RealPlumber) -> None:
        port = Port("qr-1", "p", "n", RFP_MAC, 1500)
        with pytest.raises(ValueError, match="attach driver"):
            plumber.apply("router", add(Link("qr-1", RFP_MAC, 1500, True, port)))

    def test_a_peer_namespace_that_is_gone_is_named(self, plumber: RealPlumber) -> None:
        lab.run("ip", "netns", "del", "fip")
        with pytest.raises(NamespaceGoneError, match="namespace fip"):
            plumber.apply("router", add(RFP_LINK))


class TestObjects:
    def test_observing_gives_back_everything_applied(self, plumber: RealPlumber) -> None:
        full(plumber)
        found = plumber.observe("router", Ownership(("rfp-",), rules=RuleOwner.QROUTER), [s.key for s in SYSCTLS])
        assert found is not None
        assert found.links == bare(RFP_LINK)
        assert same(found.addresses, ADDRESSES)
        assert same(found.routes, ROUTES)
        assert same(found.rules, RULES)
        assert same(found.neighbours, NEIGHBOURS)
        assert same(found.sysctls, SYSCTLS)

    def test_addresses_as_ip_shows_them(self, plumber: RealPlumber) -> None:
        full(plumber)
        (link,) = lab.ip_json("addr", "show", RFP, netns="router")
        info = {(a["local"], a["prefixlen"]): a for a in link["addr_info"] if a["scope"] == "global"}
        assert set(info) == {("169.254.64.0", 31), ("10.0.0.1", 24), ("fd00::1", 64)}
        assert info["10.0.0.1", 24]["broadcast"] == "10.0.0.255"
        assert "broadcast" not in info["169.254.64.0", 31]
        assert info["fd00::1", 64]["nodad"]
        assert not info["fd00::1", 64].get("tentative")

    def test_routes_as_ip_shows_them(self, plumber: RealPlumber) -> None:
        full(plumber)
        (default,) = lab.ip_json("route", "show", "table", 16, netns="router")
        assert (default["dst"], default["gateway"], default["protocol"]) == ("default", "169.254.64.1", "static")
        (ecmp,) = lab.ip_json("route", "show", "10.8.0.0/16", netns="router")
        assert [hop["gateway"] for hop in ecmp["nexthops"]] == ["10.0.0.7", "10.0.0.8"]
        (direct,) = lab.ip_json("route", "show", "172.16.0.0/24", netns="router")
        assert direct["scope"] == "link"
        (onlink,) = lab.ip_json("route", "show", "table", 3232235777, netns="router")
        assert onlink["flags"] == ["onlink"]
        (six,) = lab.ip_json("-6", "route", "show", "fd01::/64", netns="router")
        assert {hop["gateway"] for hop in six["nexthops"]} == {"fd00::2", "fd00::3"}

    def test_rules_as_ip_shows_them(self, plumber: RealPlumber) -> None:
        full(plumber)
        four = {(r["priority"], r["src"], r.get("srclen", 32), r["table"]) for r in lab.ip_json("rule", netns="router")}
        assert {(40000, "10.0.0.5", 32, "16"), (167772161, "10.0.0.1", 24, "167772161")} <= four
        six = {(r["priority"], r["src"]) for r in lab.ip_json("-6", "rule", netns="router")}
        assert (1073774592, "fd00::1") in six

    def test_neighbours_and_sysctls_as_others_show_them(self, plumber: RealPlumber) -> None:
        full(plumber)
        shown = lab.ip_json("neigh", "show", "nud", "permanent", netns="router")
        assert {(n["dst"], n["lladdr"]) for n in shown} == {(n.dst, n.mac) for n in NEIGHBOURS}
        out = lab.in_netns("router", "sysctl", "-n", "net.ipv4.ip_forward", f"net.ipv4.conf.{RFP}.send_redirects")
        assert out.split() == ["1", "0"]

    def test_removing_all_leaves_nothing_and_may_be_repeated(self, plumber: RealPlumber) -> None:
        full(plumber)
        changes = remove(*NEIGHBOURS, *RULES, *ROUTES, *ADDRESSES)
        plumber.apply("router", changes)
        found = seen(plumber)
        assert found == NamespaceState("router", ROUTER, found.links)
        assert len(lab.ip_json("rule", netns="router")) == 3
        plumber.apply("router", changes)

    def test_removing_after_the_link_is_gone_is_no_error(self, plumber: RealPlumber) -> None:
        full(plumber)
        plumber.apply("router", remove(RFP_LINK, *NEIGHBOURS, *ROUTES, *ADDRESSES))
        assert not seen(plumber).links

    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.text)
    def test_hops_are_changed_in_place(self, plumber: RealPlumber, route: Route) -> None:
        full(plumber)
        six = ":" in route.dst
        gateways = ["fd00::21", "fd00::22", "fd00::23"] if six else ["10.0.0.21", "10.0.0.22", "10.0.0.23"]
        old = route
        for hops in (gateways[:1], gateways[:2], gateways[1:], gateways[2:], [None], gateways):
            new = make_route(route.dst, route.table, *(Hop(gateway, RFP) for gateway in hops))
            plumber.apply("router", [Change(Action.CHANGE, new, old)])
            found = {r for r in seen(plumber, ownership=Ownership(("rfp-",))).routes if r.key == route.key}
            assert found == {new}
            old = new
        assert same(seen(plumber, ownership=Ownership(("rfp-",))).routes, [old, *(r for r in ROUTES if r != route)])

    def test_a_neighbours_mac_is_changed_and_a_learned_one_taken_over(self, plumber: RealPlumber) -> None:
        full(plumber)
        ip("neigh", "add", "10.0.0.99", "lladdr", "fa:16:3e:99:99:99", "nud", "reachable", "dev", RFP)
        new = [NEIGHBOURS[1]._replace(mac="fa:16:3e:77:77:77"), Neighbour("10.0.0.99", RFP, "fa:16:3e:77:77:77")]
        plumber.apply("router", [Change(Action.CHANGE, new[0], NEIGHBOURS[1]), *add(new[1])])
        assert same(seen(plumber).neighbours, [NEIGHBOURS[0], NEIGHBOURS[2], *new])

    def test_adding_the_same_again_is_no_error(self, plumber: RealPlumber) -> None:
        full(plumber)
        plumber.apply("router", add(*ADDRESSES, *ROUTES, *RULES, *NEIGHBOURS))

    def test_another_route_in_the_place_of_ours_is_replaced_and_logged(
        self, plumber: RealPlumber, caplog: pytest.LogCaptureFixture
    ) -> None:
        full(plumber)
        other = make_route("10.9.0.0/16", 254, Hop("10.0.0.77", RFP))
        plumber.apply("router", add(other))
        found = seen(plumber).routes
        assert other in found
        assert ROUTES[1] not in found
        assert "route 10.9.0.0/16 via 10.0.0.77" in caplog.text
        assert "a route of type unicast and protocol static was in its place: replaced" in caplog.text

    def test_removing_the_first_ipv4_address_keeps_the_others_of_its_subnet(self, plumber: RealPlumber) -> None:
        full(plumber)
        second, third = Address(RFP, "10.0.0.2/24"), Address(RFP, "10.0.0.3/24")
        plumber.apply("router", [*add(second, third), *remove(ADDRESSES[1])])
        assert same(seen(plumber).addresses, [ADDRESSES[0], ADDRESSES[2], second, third])
        assert same(seen(plumber, ownership=Ownership(("rfp-",))).routes, ROUTES)

    def test_the_prefix_length_of_an_address_can_change(self, plumber: RealPlumber) -> None:
        full(plumber)
        new = [Address(RFP, "10.0.0.1/16"), Address(RFP, "fd00::1/56")]
        plumber.apply("router", [*add(*new), *remove(*ADDRESSES[1:])])
        assert same(seen(plumber).addresses, [ADDRESSES[0], *new])

    def test_an_ipv6_address_with_another_prefix_length_is_an_error(self, plumber: RealPlumber) -> None:
        full(plumber)
        with pytest.raises(KernelError, match=r"address fd00::1/56 .*EEXIST"):
            plumber.apply("router", add(Address(RFP, "fd00::1/56")))

    def test_hundreds_of_objects_in_one_call(self, plumber: RealPlumber) -> None:
        linked(plumber)
        plumber.apply("router", add(Address(RFP, "10.0.0.1/16")))
        items = [Neighbour(f"10.0.{n >> 8}.{n & 255}", RFP, FPR_MAC) for n in range(2, 1002)]
        routes = [make_route(f"11.{n >> 8}.{n & 255}.0/24", 254, Hop("10.0.0.2", RFP)) for n in range(1000)]
        plumber.apply("router", add(*items, *routes))
        found = seen(plumber)
        assert same(found.neighbours, items)
        assert same(found.routes, routes)
        plumber.apply("router", add(*routes))
        plumber.apply("router", remove(*items, *routes))
        assert not seen(plumber).routes

    def test_diff_of_what_was_applied_is_empty_and_observing_writes_nothing(
        self, plumber: RealPlumber, counters: WriteCounters
    ) -> None:
        full(plumber)
        ownership = Ownership(("rfp-",), rules=RuleOwner.QROUTER)
        desired = NamespaceState(
            "router",
            ownership,
            frozenset({RFP_LINK}),
            frozenset(ADDRESSES),
            frozenset(ROUTES),
            frozenset(RULES),
            frozenset(NEIGHBOURS),
            sysctls=frozenset(SYSCTLS),
        )
        before = counters.total()
        assert not diff(plumber.observe("router", ownership, [s.key for s in SYSCTLS]), desired)
        assert counters.total() == before


class TestErrors:
    def test_an_error_in_the_middle_names_its_object_and_the_rest_is_done(self, plumber: RealPlumber) -> None:
        full(plumber)
        bad = make_route("10.77.0.0/16", 254, Hop("192.0.2.9", RFP))
        after = Neighbour("10.0.0.44", RFP, FPR_MAC)
        with pytest.raises(KernelError) as caught:
            plumber.apply("router", add(Address(RFP, "10.3.0.1/24"), bad, after))
        assert (caught.value.namespace, caught.value.what, caught.value.code) == ("router", bad.text, errno.ENETUNREACH)
        assert caught.value.hint == "Nexthop has invalid gateway"
        assert after in seen(plumber).neighbours

    def test_a_missing_device_is_named_with_the_object(self, plumber: RealPlumber) -> None:
        with pytest.raises(KernelError, match=r"address 10\.0\.0\.1/24 dev qr-x: ENODEV"):
            plumber.apply("router", add(Address("qr-x", "10.0.0.1/24")))
        with pytest.raises(KernelError, match=f"link {FPR}.*ENODEV"):
            plumber.apply("fip", add(FPR_LINK))

    def test_an_earlier_error_comes_before_a_missing_device(self, plumber: RealPlumber) -> None:
        linked(plumber)
        bad = make_route("10.77.0.0/16", 254, Hop("192.0.2.9", RFP))
        with pytest.raises(KernelError, match=r"10\.77\.0\.0"):
            plumber.apply("router", add(bad, Address("qr-x", "10.0.0.1/24")))

    def test_a_sysctl_that_is_not_there_or_refuses_the_value(self, plumber: RealPlumber) -> None:
        for item, code in (
            (Sysctl("ipv4/conf/qr-x/send_redirects", "0"), errno.ENOENT),
            (Sysctl("ipv4/ip_forward", "many"), errno.EINVAL),
            (Sysctl("../kernel/hostname", "x"), errno.EINVAL),
            (Sysctl("/ipv4/ip_forward", "1"), errno.EINVAL),
        ):
            with pytest.raises(KernelError) as caught:
                plumber.apply("router", add(item))
            assert (caught.value.namespace, caught.value.code) == ("router", code)
            assert f"sysctl net/{item.key}" in caught.value.what

    def test_sysctls_of_missing_devices_are_left_out(self, plumber: RealPlumber) -> None:
        found = plumber.observe("router", ROUTER, ["ipv4/ip_forward", "ipv4/conf/qr-x/send_redirects"])
        assert found is not None
        assert {item.key for item in found.sysctls} == {"ipv4/ip_forward"}

    def test_a_namespace_that_went_away(self, plumber: RealPlumber) -> None:
        lab.run("ip", "netns", "del", "router")
        assert plumber.observe("router", ROUTER, ["ipv4/ip_forward"]) is None
        with pytest.raises(NamespaceGoneError, match="namespace router"):
            plumber.apply("router", add(*RULES))
        with pytest.raises(NamespaceGoneError, match="namespace router"):
            plumber.apply("router", add(SYSCTLS[0]))

    def test_the_order_given_is_kept(self, plumber: RealPlumber) -> None:
        plumber.apply(
            "router",
            [*add(RFP_LINK, SYSCTLS[2], ADDRESSES[1], ROUTES[1]), *remove(RFP_LINK), *add(RFP_LINK, ADDRESSES[0])],
        )
        assert same(seen(plumber).addresses, [ADDRESSES[0]])

    def test_writes_are_counted(self, plumber: RealPlumber, counters: WriteCounters) -> None:
        linked(plumber)
        before = counters.netlink
        plumber.apply("router", add(*ADDRESSES, *SYSCTLS))
        assert (counters.netlink - before, counters.sysctls) == (3, 3)


class TestForeign:
    """What is not ours is not seen, and survives."""

    FOREIGN = (
        ("rule", "add", "from", "10.0.0.5", "fwmark", "7", "lookup", "16", "priority", "41000"),
        ("rule", "add", "from", "10.0.0.6", "to", "10.1.0.0/16", "lookup", "16", "priority", "41001"),
        ("rule", "add", "not", "from", "10.0.0.7", "lookup", "16", "priority", "41002"),
        ("rule", "add", "from", "10.0.0.7", "tos", "0x10", "lookup", "16", "priority", "41003"),
        ("rule", "add", "from", "10.0.0.7", "ipproto", "tcp", "lookup", "16", "priority", "41004"),
        ("rule", "add", "from", "10.0.0.7", "uidrange", "0-0", "lookup", "16", "priority", "41005"),
        ("rule", "add", "from", "10.0.0.7", "lookup", "16", "suppress_prefixlength", "0", "priority", "41006"),
        ("rule", "add", "from", "10.0.0.7", "oif", "admin0", "lookup", "16", "priority", "41007"),
        ("rule", "add", "from", "10.0.0.7", "blackhole", "priority", "41008"),
        ("rule", "add", "from", "10.0.0.7", "lookup", "16", "priority", "100"),
        ("route", "add", "10.50.0.0/16", "dev", "admin0", "proto", "static"),
        ("route", "add", "10.9.0.0/16", "dev", RFP, "metric", "50", "proto", "static"),
        ("route", "add", "blackhole", "10.51.0.0/16", "proto", "static"),
        ("route", "add", "10.52.0.0/16", "dev", RFP, "proto", "bird"),
        ("route", "add", "10.53.0.0/16", "dev", RFP, "tos", "0x10", "proto", "static"),
        ("route", "add", "10.54.0.0/16", "proto", "static", "nexthop", "dev", RFP, "nexthop", "dev", "admin0"),
        ("-6", "route", "add", "fd50::/64", "dev", RFP, "metric", "50", "proto", "static"),
        ("neigh", "add", "10.0.0.60", "lladdr", FPR_MAC, "dev", "admin0", "nud", "permanent"),
        ("neigh", "add", "10.0.0.61", "lladdr", FPR_MAC, "dev", RFP, "nud", "stale"),
        ("neigh", "add", "proxy", "10.0.0.62", "dev", RFP),
    )

    def test_foreign_objects_are_not_observed(self, plumber: RealPlumber) -> None:
        full(plumber)
        ip("link", "add", "admin0", "type", "bridge")
        ip("addr", "add", "10.60.0.1/24", "dev", "admin0")
        ip("link", "set", "admin0", "up")
        before = seen(plumber)
        for words in self.FOREIGN:
            ip(*words)
        assert seen(plumber) == before

    def test_foreign_objects_survive_the_removal_of_ours(self, plumber: RealPlumber) -> None:
        full(plumber)
        ip("link", "add", "admin0", "type", "bridge")
        ip("addr", "add", "10.60.0.1/24", "dev", "admin0")
        ip("link", "set", "admin0", "up")
        for words in self.FOREIGN:
            ip(*words)
        plumber.apply("router", remove(*NEIGHBOURS, *RULES, *ROUTES))
        routes = {(r["dst"], r.get("metric")) for r in lab.ip_json("route", netns="router")}
        expected = {"10.50.0.0/16", "10.51.0.0/16", "10.52.0.0/16", "10.53.0.0/16", "10.54.0.0/16", "10.60.0.0/24"}
        assert {(dst, None) for dst in expected} | {("10.9.0.0/16", 50)} <= routes
        priorities = {rule["priority"] for rule in lab.ip_json("rule", netns="router")}
        assert {100, *range(41000, 41009)} <= priorities
        assert {n["dst"] for n in lab.ip_json("neigh", "show", "dev", "admin0", netns="router")} == {"10.0.0.60"}
        assert lab.ip_json("neigh", "show", "proxy", netns="router")

    def test_boot_protocol_routes_on_our_devices_are_ours(self, plumber: RealPlumber) -> None:
        full(plumber)
        ip("route", "add", "10.70.0.0/16", "via", "10.0.0.3")
        route = make_route("10.70.0.0/16", 254, Hop("10.0.0.3", RFP))
        assert route in seen(plumber).routes
        plumber.apply("router", remove(route))
        assert route not in seen(plumber).routes


class TestSlices:
    """A shared namespace with many slices."""

    COUNT = 500

    @pytest.fixture
    def shared(self, plumber: RealPlumber) -> RealPlumber:
        lab.in_netns("fip", "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        lines = [f"link add fpr-{n:08x} type veth peer name fpr-{n + 1:08x}" for n in range(0, self.COUNT, 2)]
        for n in range(self.COUNT):
            name, address = f"fpr-{n:08x}", f"169.254.{64 + (n >> 7)}.{(n & 127) * 2 + 1}"
            table = 0xA9FE4000 + n
            lines += [
                f"addr add {address}/31 dev {name}",
                f"link set {name} up",
                f"route add 172.24.{n >> 8}.{n & 255}/32 dev {name} proto static",
                f"rule add iif {name} lookup {table} priority {table}",
                f"neigh add 169.254.{64 + (n >> 7)}.{(n & 127) * 2} lladdr {RFP_MAC} dev {name} nud permanent",
            ]
        lab.run("ip", "-n", "fip", "-batch", "-", text="\n".join(lines), timeout=120)
        return plumber

    def test_each_slice_sees_only_itself(self, shared: RealPlumber) -> None:
        for n in (0, 127, 255, 499):
            name, table = f"fpr-{n:08x}", 0xA9FE4000 + n
            ownership = Ownership(devices=frozenset({name}), rules=RuleOwner.BY_IIF, main_only=True)
            found = seen(shared, "fip", ownership)
            assert [link.name for link in found.links] == [name]
            assert found.routes == {make_route(f"172.24.{n >> 8}.{n & 255}/32", 254, Hop(None, name))}
            assert found.rules == {Rule(4, table, table, None, name)}
            assert [a.cidr for a in found.addresses] == [f"169.254.{64 + (n >> 7)}.{(n & 127) * 2 + 1}/31"]
            assert [n.device for n in found.neighbours] == [name]

    def test_the_whole_namespace_is_seen_by_prefix(self, shared: RealPlumber) -> None:
        found = seen(shared, "fip", Ownership(("fpr-",)))
        assert len(found.links) == len(found.addresses) == len(found.routes) == len(found.neighbours) == self.COUNT


class TestTables:
    """Routing tables that belong to a slice altogether."""

    def test_a_slices_own_tables_are_read_whatever_the_device(self, plumber: RealPlumber) -> None:
        linked(plumber)
        ip("link", "add", "fg-1", "type", "bridge", netns="fip")
        ip("link", "set", "fg-1", "up", netns="fip")
        ip("addr", "add", "203.0.113.2/24", "dev", "fg-1", netns="fip")
        table = 2851995649
        own = make_route("0.0.0.0/0", table, Hop("203.0.113.1", "fg-1"))
        plumber.apply("fip", add(own, Rule(4, table, table, None, FPR)))
        ip("route", "add", "default", "via", "203.0.113.1", "table", "77", "proto", "static", netns="fip")
        ip("route", "add", "10.0.0.0/8", "dev", FPR, "table", "78", "proto", "static", netns="fip")
        found = seen(plumber, "fip", Ownership((), FIP.devices, RuleOwner.BY_IIF, frozenset({table, 99}), True))
        assert found.routes == {own}
        assert found.rules == {Rule(4, table, table, None, FPR)}
        all_tables = seen(plumber, "fip", Ownership((), FIP.devices))
        assert all_tables.routes == {make_route("10.0.0.0/8", 78, Hop(None, FPR))}

    def test_a_slice_whose_device_is_missing_is_empty(self, plumber: RealPlumber) -> None:
        found = seen(plumber, "fip", FIP)
        assert found == NamespaceState("fip", FIP)
