"""Routes that the kernel made with an address, and that another program has removed, are added again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired import names
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.model.router import Router
from dvr_agent.state.diff import Action
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.ownership import Ownership
from tests.support import lab
from tests.support.small_routers import EXTERNAL, make_router, port
from tests.support.trusting_agent import FIP, Agent, counting_agent, device, with_fips
from tests.support.waiting import wait_for

PREFIXES = {names.QROUTER: ("qr-", "rfp-"), names.FIP: ("fpr-", "fg-"), names.SNAT: ("sg-", "qg-")}
DEVICES = [(namespace, prefix) for namespace, prefixes in PREFIXES.items() for prefix in prefixes]
FAMILIES = ("-4", "-6")


@pytest.fixture
def agent(host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    with counting_agent(host, tmp_path, monkeypatch) as agent:
        yield agent


@pytest.fixture
def router(agent: Agent) -> Router:
    """A trusted router with IPv4 and IPv6 on each device, whose link-local addresses the kernel has made for good."""
    made = with_fips(make_router("one", 2), 7)
    gateway, fg = (
        port(name, EXTERNAL, f"203.0.113.{end}/24", f"2001:db8:ff::{end}/64")
        for name, end in (("one-qg", 2), ("fg", 200))
    )
    made = replace(made, gateway=gateway, agent_gateways=(fg,))
    agent.once(made)
    wait_for(lambda: all(has_link_local(namespace_of(made, one), dev) for one, dev in DEVICES))
    agent.once(made, trusting=False)
    return made


def namespace_of(router: Router, prefix: str) -> str:
    return FIP if prefix == names.FIP else prefix + router.id


def has_link_local(namespace: str, prefix: str) -> bool:
    found = lab.ip_json("-6", "address", "show", "dev", device(namespace, prefix), "scope", "link", netns=namespace)
    return any("local" in info and "tentative" not in info for one in found for info in one.get("addr_info", ()))


def routes(namespace: str, family: str, dst: str = "", prefix: str = "") -> list[dict[str, Any]]:
    """The routes of all tables, of a destination and by the first device with a prefix if these are given."""
    words = ("root", dst) if dst else ("table", "all")
    by = ("dev", device(namespace, prefix)) if prefix else ()
    found = lab.ip_json(family, "route", "show", *words, *by, netns=namespace)
    return [{key: value for key, value in one.items() if key != "flags"} for one in found]


def everything(router: Router) -> list[str]:
    """All routes in all namespaces of a router, but for broadcasts, of which nothing depends."""
    found = [
        f"{prefix} {family} {one}"
        for prefix in PREFIXES
        for family in FAMILIES
        for one in routes(namespace_of(router, prefix), family)
        if one.get("type") != "broadcast"
    ]
    return sorted(found)


def wait_until_restored(router: Router, before: list[str]) -> None:
    """Wait until all routes are there again; the kernel adds some of its own a moment later."""
    wait_for(lambda: everything(router) == before)


def added(agent: Agent, router: Router) -> list[str]:
    """Texts of what the next job adds and changes; events are what tells it to read."""
    plan = agent.once(router).plan
    return [change.text for changes in plan.changes for change in changes.items]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_what_a_flush_of_a_device_takes_is_there_again(
    agent: Agent, router: Router, prefix: str, dev: str, family: str
) -> None:
    namespace, before = namespace_of(router, prefix), everything(router)
    name = device(namespace, dev)
    lab.run("ip", family, "-n", namespace, "route", "flush", "dev", name)
    assert everything(router) != before
    found = added(agent, router)
    assert any(text.startswith("+ connected route ") and text.endswith(f" dev {name}") for text in found), found
    wait_until_restored(router, before)
    assert not agent.differs(router)


def test_an_address_that_is_broadcast_of_another_device_has_no_connected_route(agent: Agent, router: Router) -> None:
    """The kernel makes none, and refuses it: the subnets of the two overlap."""
    (inside,) = router.interfaces
    subnet = str(next(one.address for one in inside.fixed_ips if one.address.version == 4)).rpartition(".")[0]
    wanted = replace(router, interfaces=(inside, port("two", EXTERNAL, f"{subnet}.255/24")))
    agent.once(wanted)
    assert not agent.differs(wanted)
    assert not agent.once(wanted, trusting=False).plan


@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_a_connected_route_that_was_removed_alone_is_found_by_an_audit_too(
    agent: Agent, router: Router, prefix: str, dev: str
) -> None:
    namespace, before = namespace_of(router, prefix), everything(router)
    name = device(namespace, dev)
    for family in FAMILIES:
        for one in routes(namespace, family, prefix=dev):
            if (
                one["protocol"] == "kernel"
                and one.get("table", "main") == "main"
                and one.get("type", "unicast") == "unicast"
            ):
                lab.run("ip", family, "-n", namespace, "route", "delete", one["dst"], "dev", name)
    result = agent.once(router, in_resync=True, trusting=False)
    items = [change for changes in result.plan.changes for change in changes.items]
    assert {(change.action, type(change.item)) for change in items} == {(Action.ADD, KernelRoute)}
    wait_until_restored(router, before)
    assert not agent.differs(router)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_a_flush_of_all_tables_takes_local_routes_which_are_there_again(
    agent: Agent, router: Router, prefix: str, dev: str, family: str
) -> None:
    namespace, before = namespace_of(router, prefix), everything(router)
    lab.run("ip", family, "-n", namespace, "route", "flush", "table", "all", "dev", device(namespace, dev))
    found = added(agent, router)
    assert any(text.startswith("+ local route ") for text in found), found
    wait_until_restored(router, before)
    assert not agent.differs(router)


@pytest.mark.parametrize("words", [("flush", "dev"), ("flush", "table", "all", "dev")])
@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_the_kernel_removes_with_an_address_what_was_added_for_it(
    agent: Agent, router: Router, prefix: str, dev: str, words: Sequence[str]
) -> None:
    namespace, name = namespace_of(router, prefix), device(namespace_of(router, prefix), dev)
    for family in FAMILIES:
        lab.run("ip", family, "-n", namespace, "route", *words, name)
    agent.once(router)
    for family in FAMILIES:
        lab.run("ip", family, "-n", namespace, "address", "flush", "dev", name)
        left = [one for one in routes(namespace, family, prefix=dev) if one["protocol"] == "kernel"]
        assert [one["dst"] for one in left] in ([], ["ff00::/8"])
    agent.once(router)
    assert not agent.differs(router)


def foreign_device(namespace: str) -> str:
    lab.run("ip", "-n", namespace, "link", "add", "theirs", "up", "type", "bridge")
    return "theirs"


@pytest.mark.parametrize("protocol", ["bird", "static"])
@pytest.mark.parametrize(
    ("family", "dst", "metric"), [("-4", "10.2.0.0/24", ()), ("-6", "2001:db8:2::/64", ("metric", "256"))]
)
def test_a_route_of_another_program_in_its_place_is_replaced(
    agent: Agent,
    router: Router,
    caplog: pytest.LogCaptureFixture,
    family: str,
    dst: str,
    metric: Sequence[str],
    protocol: str,
) -> None:
    namespace = namespace_of(router, names.QROUTER)
    theirs, before = foreign_device(namespace), routes(namespace, family, dst)
    lab.run("ip", family, "-n", namespace, "route", "replace", dst, "dev", theirs, "protocol", protocol, *metric)
    assert routes(namespace, family, dst) != before
    name = device(namespace, "qr-")
    assert added(agent, router) == [f"+ connected route {dst} dev {name}"]
    assert routes(namespace, family, dst) == before
    assert (
        f"{dst} dev {name}: a route of type unicast and protocol {protocol} was in its place: replaced" in caplog.text
    )
    assert not agent.differs(router)


def test_a_route_by_the_same_device_in_its_place_gives_way(agent: Agent, router: Router) -> None:
    namespace, before = namespace_of(router, names.QROUTER), everything(router)
    name = device(namespace, "qr-")
    lab.run("ip", "-n", namespace, "route", "replace", "10.2.0.0/24", "dev", name, "mtu", "1400")
    assert added(agent, router) == [f"- route 10.2.0.0/24 dev {name}", f"+ connected route 10.2.0.0/24 dev {name}"]
    wait_until_restored(router, before)
    assert not agent.differs(router)


def test_with_the_subnet_on_a_foreign_device_too_both_have_their_routes(agent: Agent, router: Router) -> None:
    """As by the kernel; no route of the other one's is replaced."""
    namespace = namespace_of(router, names.QROUTER)
    theirs, name = foreign_device(namespace), device(namespace, "qr-")
    for family, address, dst in (("-4", "10.2.0.77/24", "10.2.0.0/24"), ("-6", "2001:db8:2::77/64", "2001:db8:2::/64")):
        lab.run("ip", "-n", namespace, "address", "add", address, "dev", theirs, "nodad")
        lab.run("ip", family, "-n", namespace, "route", "delete", dst, "dev", name)
    assert len(added(agent, router)) == 2
    for family, dst in (("-4", "10.2.0.0/24"), ("-6", "2001:db8:2::/64")):
        assert {one["dev"] for one in routes(namespace, family, dst)} == {theirs, name}
    assert not agent.differs(router)


def test_a_stale_route_to_a_connected_subnet_goes_without_the_connected_one(agent: Agent, router: Router) -> None:
    """They are equal but for their protocol, and the kernel takes the first one where none is named."""
    namespace = namespace_of(router, names.QROUTER)
    before, name = everything(router), device(namespace, "qr-")
    for protocol in ("static", "boot"):
        lab.run("ip", "-n", namespace, "route", "append", "10.2.0.0/24", "dev", name, "protocol", protocol)
    for _ in range(2):  # an observation has routes without their protocol
        agent.once(router, trusting=False)
    wait_until_restored(router, before)


def test_an_interface_that_goes_while_its_route_is_lost_is_no_trouble(agent: Agent, router: Router) -> None:
    namespace = namespace_of(router, names.QROUTER)
    lab.run("ip", "-n", namespace, "route", "flush", "dev", device(namespace, "qr-"))
    less = replace(router, interfaces=(), snat_interfaces=(), floating_ips=())
    agent.once(less)
    assert not agent.differs(less)


AWKWARD = (
    "address add 10.0.0.1/24 dev qx-a",
    "address add 10.0.0.2/24 dev qx-a",  # secondary
    "address add 10.0.0.3/25 dev qx-a",
    "address add 10.0.0.4/24 dev qx-b",  # the same subnet on another device
    "address add 10.1.0.0/31 dev qx-a",
    "address add 10.2.0.1/32 dev qx-a",  # has none
    "address add 10.3.0.1/24 dev qx-a noprefixroute",
    "address add 10.4.0.1/24 dev qx-a metric 50",
    "address add 10.5.0.1 peer 10.5.0.2/32 dev qx-a",
    "address add 10.6.0.1 peer 10.6.0.2/24 dev qx-a",
    "address add 10.7.0.1/0 dev qx-a",  # has none
    "address add 0.1.2.3/24 dev qx-a",
    "address add 10.8.0.1/24 dev qx-down",
    "address add 127.0.0.5/8 dev qx-b",
    "address add 2001:db8::1/64 dev qx-a nodad",
    "address add 2001:db8::2/64 dev qx-a nodad",
    "address add 2001:db8::3/64 dev qx-b nodad",
    "address add 2001:db8::4/128 dev qx-a nodad",
    "address add 2001:db8:1::1/64 dev qx-a noprefixroute nodad",
    "address add 2001:db8:2::1/64 dev qx-a metric 77 nodad",
    "address add 2001:db8:3::1 peer 2001:db8:3::2/128 dev qx-a nodad",
    "address add 2001:db8:4::1 peer 2001:db8:4::2/64 dev qx-a nodad",
    "address add 2001:db8:5::1/127 dev qx-a nodad",
    "address add 2001:db8:6::1/57 dev qx-a nodad",
    "address add 2001:db8:7::1/0 dev qx-b nodad",
    "address add 2001:db8:8::1/64 dev qx-b",  # tentative at first
    "address add 2001:db8:9::1/64 dev qx-down nodad",
    "address add 2001:db8:a::1/64 dev qx-a valid_lft 1000 preferred_lft 500 nodad",
    "address add fe80::5/64 dev qx-a nodad",
    "address add fe80::6/10 dev qx-a nodad",
)
"""Each with what the kernel makes of it."""
ANY = Ownership(prefixes=("qx-",))


@pytest.fixture
def awkward(host: lab.Host) -> str:
    """A namespace with all kinds of addresses, and other routes for their subnets."""
    lab.run("ip", "netns", "add", "awkward")
    for words in (
        *("link add qx-a type veth peer name qx-b", "link add qx-down type bridge", "link set lo up"),
        *("link set qx-a up", "link set qx-b up", *AWKWARD),
        "route add 10.0.0.0/24 dev qx-b table 77",
        "route append 10.1.0.0/31 dev qx-b",
        "route add 192.0.2.0/24 nexthop dev qx-a nexthop dev qx-b",
        "route add unreachable 192.0.3.0/24",
    ):
        lab.run("ip", "-n", "awkward", *words.split())
    return "awkward"


def lost(ownership: Ownership) -> set[str]:
    state = open_kernel().interfaces.observe("awkward", ownership, ())
    assert state is not None
    return {route.text for route in state.lost_routes}


@pytest.mark.parametrize("ownership", [ANY, Ownership(devices=frozenset({"qx-a", "qx-b", "qx-down"}))])
def test_none_counts_as_lost_that_is_there_or_that_the_kernel_does_not_make(awkward: str, ownership: Ownership) -> None:
    assert lost(ownership) == set()
    for name in ("qx-a", "qx-b"):
        lab.run("ip", "-n", awkward, "link", "set", name, "down")
        lab.run("ip", "-n", awkward, "link", "set", name, "up")
    assert lost(ownership) == set()


def test_the_connected_route_of_a_tentative_address_is_missed_too(awkward: str) -> None:
    """The kernel makes it with the address, and not once more when duplicate address detection ends."""
    lab.in_netns(awkward, "sysctl", "-qw", "net.ipv6.conf.qx-b.dad_transmits=1000")
    lab.run("ip", "-n", awkward, "address", "add", "2001:db8:c::1/64", "dev", "qx-b")
    assert lost(ANY) == set()
    lab.run("ip", "-6", "-n", awkward, "route", "delete", "2001:db8:c::/64", "dev", "qx-b")
    assert lost(ANY) == {"connected route 2001:db8:c::/64 dev qx-b"}


def test_each_connected_route_is_missed_when_it_is_gone(awkward: str) -> None:
    wait_for(lambda: "tentative" not in lab.run("ip", "-n", awkward, "address", "show"))
    for family in FAMILIES:
        for one in lab.ip_json(family, "route", "show", "protocol", "kernel", netns=awkward):
            metric = ("metric", one["metric"]) if "metric" in one else ()
            words = (one["dst"], "dev", one["dev"], "protocol", "kernel", *metric)
            lab.run("ip", family, "-n", awkward, "route", "delete", *words)
            found = lost(ANY)
            lab.run("ip", family, "-n", awkward, "route", "append", *words)
            # With a peer, with a lifetime, or which kernels before 5.3 do not make.
            is_ignored = one["dst"].startswith(("10.5.", "10.6.", "2001:db8:3:", "2001:db8:4:", "2001:db8:a:", "0."))
            network = {"default": "::/0", "2001:db8::4": "2001:db8::4/128"}.get(one["dst"], one["dst"])
            assert found == (set() if is_ignored else {f"connected route {network} dev {one['dev']}"}), one
