"""The oracle's own parts: what it reads, and that it takes out no more than it says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.oracle_normalise import differences, normalised
from tests.support.oracle_reader import Address, Link, Neighbour, Route, Rule, Sysctl, View
from tests.support.oracle_recordings import Scenario, recorded_scenarios
from tests.support.oracle_watch import until_settled, writes_seen

EVERY_SCENARIO = pytest.mark.parametrize("scenario", recorded_scenarios(), ids=str)


def test_reader_sees_what_ip_and_iptables_were_told(host: lab.Host) -> None:
    lab.run("ip", "netns", "add", "one")

    def ip(*words: str) -> None:
        lab.run("ip", "-n", "one", *words)

    ip("link", "add", "qr-a", "address", "fa:16:3e:00:00:01", "mtu", "1450", "type", "veth", "peer", "name", "other")
    ip("link", "set", "qr-a", "up")
    ip("link", "set", "other", "up")
    ip("addr", "add", "10.0.0.1/24", "dev", "qr-a")
    ip("addr", "add", "2001:db8::1/64", "dev", "qr-a", "nodad")
    ip("route", "add", "172.16.0.0/16", "proto", "static", "nexthop", "via", "10.0.0.9", "dev", "qr-a",
       "nexthop", "via", "10.0.0.8", "dev", "qr-a")  # fmt: skip
    ip("route", "add", "default", "via", "10.0.0.7", "dev", "qr-a", "table", "16")
    ip("-6", "route", "add", "default", "via", "2001:db8::2", "dev", "qr-a", "proto", "static", "table", "2852018311")
    ip("rule", "add", "from", "10.0.0.1/24", "lookup", "167772161", "priority", "167772161")
    ip("rule", "add", "iif", "qr-a", "fwmark", "7", "lookup", "16", "priority", "40000")
    ip("neigh", "add", "10.0.0.5", "lladdr", "fa:16:3e:00:00:05", "dev", "qr-a", "nud", "permanent")
    ip("neigh", "add", "10.0.0.6", "lladdr", "fa:16:3e:00:00:06", "dev", "qr-a", "nud", "stale")
    lab.in_netns("one", "iptables-legacy", "-t", "nat", "-A", "PREROUTING", "-d", "203.0.113.5", "-j", "DNAT",
                 "--to-destination", "10.0.0.5")  # fmt: skip

    view = reader.read("one")

    assert Link("qr-a", "fa:16:3e:00:00:01", 1450, "veth", True) in view.links
    assert view.addresses == {Address("qr-a", "10.0.0.1/24"), Address("qr-a", "2001:db8::1/64")}
    assert {item for item in view.routes if item.protocol != "kernel"} == {
        Route(254, "172.16.0.0/16", ("via 10.0.0.8 dev qr-a", "via 10.0.0.9 dev qr-a"), "static"),
        Route(16, "0.0.0.0/0", ("via 10.0.0.7 dev qr-a",), "boot"),
        Route(2852018311, "::/0", ("via 2001:db8::2 dev qr-a",), "static"),
    }
    assert view.rules == {Rule(167772161, "10.0.0.1/24", "", 167772161), Rule(40000, "all fwmark 0x7", "qr-a", 16)}
    assert view.neighbours == {Neighbour("10.0.0.5", "qr-a", "fa:16:3e:00:00:05")}
    assert Sysctl("net.ipv4.conf.qr-a.send_redirects", "1") in view.sysctls
    assert view.filter == {"destination 203.0.113.5/32 becomes 10.0.0.5"}


@EVERY_SCENARIO
def test_recordings_survive_json_and_equal_themselves(scenario: Scenario) -> None:
    for view in scenario.recorded.values():
        assert reader.from_json(reader.to_json(view)) == view
    views = normalised(scenario.recorded, scenario.document)
    assert differences(views, views) == []
    assert len(views) == len(scenario.recorded)


@EVERY_SCENARIO
def test_peers_of_the_recorded_pair_name_each_other(scenario: Scenario) -> None:
    """So the words for generated MACs and addresses cannot hide a wrong one."""
    views = normalised(scenario.recorded, scenario.document)
    for name, view in views.items():
        own, peer = ("rfp-", "fpr-") if name.startswith("qrouter-") else ("fpr-", "rfp-")
        for link in view.links:
            if link.name.startswith(own):
                other = peer + link.name[4:]
                assert Neighbour(f"<address of {other}>", link.name, f"<mac of {other}>") in view.neighbours
                if own == "rfp-":
                    via = f"via <link-local of {other}> dev {link.name}"
                    assert Route(254, "::/0", (via,), "static") in view.routes


def test_a_wrong_peer_mac_and_a_wrong_pair_number_show() -> None:
    scenario = Scenario("a_dvr_compute", "compute2")
    recorded = normalised(scenario.recorded, scenario.document)
    for name, view in scenario.recorded.items():
        wrong = frozenset(item._replace(mac="02:00:00:00:00:01") for item in view.neighbours)
        changed = {**scenario.recorded, name: View(**{**vars(view), "neighbours": wrong})}
        assert differences(recorded, normalised(changed, scenario.document)) != []
        numbers = frozenset(item._replace(table=item.table + 1) for item in view.rules)
        changed = {**scenario.recorded, name: View(**{**vars(view), "rules": numbers})}
        assert differences(recorded, normalised(changed, scenario.document)) != []


def test_scope_marks_may_be_numbered_otherwise_but_not_mixed_up() -> None:
    def view(*facts: str) -> dict[str, View]:
        return {"qrouter-x": View(filter=frozenset(facts))}

    document: dict[str, Any] = {"router": {}, "ports_by_subnet": {}}
    one = view(
        "entering qr-a marks 0x4010000/0xffff0000", "entering qr-b marks 0x4020000/0xffff0000",
        "leaving qr-a needs mark 0x4010000/0xffff0000",
    )  # fmt: skip
    same = view(
        "entering qr-a marks 0x4020000/0xffff0000", "entering qr-b marks 0x4010000/0xffff0000",
        "leaving qr-a needs mark 0x4020000/0xffff0000",
    )  # fmt: skip
    mixed = view(
        "entering qr-a marks 0x4020000/0xffff0000", "entering qr-b marks 0x4010000/0xffff0000",
        "leaving qr-a needs mark 0x4010000/0xffff0000",
    )  # fmt: skip
    assert differences(normalised(one, document), normalised(same, document)) == []
    assert differences(normalised(one, document), normalised(mixed, document)) != []


def test_monitor_sees_a_write_and_is_silent_without_one(host: lab.Host) -> None:
    lab.run("ip", "netns", "add", "one")
    lab.run("ip", "netns", "add", "two")
    until_settled(["one", "two"])
    with writes_seen(["one", "two"]) as seen:
        lab.run("ip", "-n", "two", "rule", "add", "from", "10.0.0.1", "lookup", "16")
    assert list(seen) == ["two"]
    assert "10.0.0.1" in seen["two"]


def test_monitor_sees_permanent_neighbours_and_not_what_the_kernel_learns(host: lab.Host) -> None:
    host.bridge("br-one")
    for name, address in (("one", "10.0.0.1"), ("two", "10.0.0.2")):
        host.vm(name, "br-one", (f"{address}/24", f"fd00::{address[-1]}/64"))
    lab.run("ip", "-n", "one", "neigh", "add", "10.0.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0")
    until_settled(["one", "two"])
    with writes_seen(["one", "two"]) as seen:
        assert lab.ping("one", "10.0.0.2")
        assert lab.ping("one", "fd00::2")
        lab.ping("one", "10.0.0.99", count=1, timeout=0.3)  # nobody's: FAILED after a while
        lab.run("ip", "-n", "one", "neigh", "flush", "all")  # of the learned ones
    assert seen == {}
    for words in (
        ("del", "10.0.0.77", "dev", "eth0"),
        ("add", "10.0.0.78", "lladdr", "02:00:00:00:00:78", "dev", "eth0"),
        ("replace", "10.0.0.78", "lladdr", "02:00:00:00:00:79", "dev", "eth0"),
    ):
        with writes_seen(["one", "two"]) as seen:
            lab.run("ip", "-n", "one", "neigh", *words)
        assert list(seen) == ["one"], words
        assert words[1] in seen["one"]
