"""What ``kernel/survey`` reads of rare and changing hosts; routes are looked up as the kernel looks them up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel.live.watch import Watch
from dvr_agent.kernel.survey.devices import read_devices
from dvr_agent.kernel.survey.host import survey_host
from dvr_agent.trace.engine import Start, trace
from dvr_agent.trace.filter_values import SourceRange
from dvr_agent.trace.packet import PROTOCOLS, make_packet
from dvr_agent.trace.routing import Flow, first, lookup
from dvr_agent.trace.world import NextHop, Place
from tests.support import lab

NAME = "rare"
SETUP = (
    "ip link add x0 type veth peer name y0",
    "ip link set lo up; ip link set x0 up; ip link set y0 up",
    "ip addr add 10.0.0.1/24 dev x0; ip addr add 10.1.0.1/24 dev y0",
    "ip -6 addr add 2001:db8::1/64 dev x0 nodad; ip -6 addr add 2001:db8:1::1/64 dev y0 nodad",
    "ip route add default via 10.0.0.2",
    "ip -6 route add default via 2001:db8::2",
)
CASES = {
    "goto": ("ip rule add goto 200 prio 100; ip rule add prohibit prio 150; ip rule add nop prio 200", ""),
    "goto without target": ("ip rule add goto 200 prio 100; ip rule add to 192.0.2.0/24 unreachable prio 150", ""),
    "prohibit": ("ip rule add to 192.0.2.0/25 prohibit prio 150", ""),
    "mark": ("ip rule add fwmark 0x10/0xf0 blackhole prio 150", "mark 0x12"),
    "other mark": ("ip rule add fwmark 0x10/0xf0 blackhole prio 150", "mark 0x22"),
    "not": ("ip rule add not to 10.0.0.0/8 prohibit prio 150", ""),
    "tos": ("ip route add 192.0.2.0/24 tos 0x10 via 10.1.0.2; ip route add 192.0.2.0/24 via 10.0.0.3 metric 5", ""),
    "multipath": ("ip route add 192.0.2.0/24 nexthop via 10.1.0.2 weight 1 nexthop via 10.1.0.3 weight 5", ""),
    "dead next hop": ("ip route add 192.0.2.0/24 nexthop via 10.1.0.2 nexthop via 10.0.0.3; ip link set y0 down", ""),
    "nexthop object": ("ip nexthop add id 7 via 10.1.0.2 dev y0; ip route add 192.0.2.0/24 nhid 7", ""),
    "blackhole object": ("ip nexthop add id 7 blackhole; ip route add 192.0.2.0/24 nhid 7", ""),
    "throw": (
        "ip rule add lookup 9 prio 50; ip ro add throw 192.0.2.0/24 table 9; ip ro add default via 10.1.0.2 table 9",
        "",
    ),
}  # fmt: skip
CASES_6 = {
    "source": ("ip -6 route add default from 2001:db8::/64 via 2001:db8:1::2", ""),
    "other source": ("ip -6 route add default from 2001:db8:7::/64 via 2001:db8:1::2", ""),
    "longer destination": (
        "ip -6 route add default from 2001:db8::/64 via 2001:db8:1::2; ip -6 route add 2001:db8:9::/48 via 2001:db8::3",
        "",
    ),
    "longer source": (
        "ip -6 ro add unreachable 2001:db8:9::/48 from 2001:db8::/64; ip -6 ro add 2001:db8:9::/48 via 2001:db8::3",
        "",
    ),
    "goto": ("ip -6 rule add goto 200 prio 100; ip -6 rule add prohibit prio 150; ip -6 rule add nop prio 200", ""),
    "blackhole": ("ip -6 route add blackhole 2001:db8:9::/64", ""),
    "multipath": ("ip -6 route add 2001:db8:9::/48 nexthop via 2001:db8::2 nexthop via 2001:db8::3", ""),
    "nexthop object": ("ip nexthop add id 7 via 2001:db8:1::2 dev y0; ip -6 route add 2001:db8:9::/48 nhid 7", ""),
}  # fmt: skip


@pytest.fixture
def netns(host: lab.Host) -> str:
    lab.run("ip", "netns", "add", NAME)
    for command in SETUP:
        lab.in_netns(NAME, "sh", "-c", command)
    return NAME


def check(netns: str, commands: str, dst: str, src: str, mark: str) -> None:
    """The route that is looked up is the one that ``ip route get`` shows."""
    lab.in_netns(netns, "sh", "-c", commands)
    words = ["ip", "route", "get", dst, "from", src, *mark.split()]
    shown = lab.in_netns(netns, "sh", "-c", f"{' '.join(words)} 2>&1", check=False).split()
    number = int(mark.split()[1], 16) if mark else 0
    space = survey_host().namespace(netns)
    offered: list[NextHop] = []

    def choose(hops: Sequence[NextHop]) -> NextHop:
        offered.extend(hops)
        return first(hops)

    found = lookup(space, Flow(6 if ":" in dst else 4, src, dst, "lo", number), choose)
    refuses = shown[0] == "RTNETLINK" or shown[0] in ("unreachable", "prohibit", "blackhole")
    assert (found.hop is None) == refuses, (found, shown)
    if found.hop is not None:
        ways = {(hop.gateway, hop.device) for hop in (offered or [found.hop])}
        assert (shown[shown.index("via") + 1], shown[shown.index("dev") + 1]) in ways, (found, shown)


@pytest.mark.parametrize("case", CASES)
def test_ipv4_route_is_the_kernels(netns: str, case: str) -> None:
    commands, mark = CASES[case]
    check(netns, commands, "192.0.2.1", "10.0.0.1", mark)


@pytest.mark.parametrize("case", CASES_6)
def test_ipv6_route_is_the_kernels(netns: str, case: str) -> None:
    commands, mark = CASES_6[case]
    check(netns, commands, "2001:db8:9::1", "2001:db8::1", mark)


def test_device_whose_name_is_no_text_is_read_and_cannot_be_watched(netns: str) -> None:
    name = "x\udcff\x1b[31m"
    subprocess.run(["ip", "-n", netns, "link", "set", "y0", "down", "name", name], check=True)
    assert name in survey_host().devices[netns]
    with Watch(b"mark") as watch, pytest.raises(KernelError, match="its name is not UTF-8"):
        watch.open([Place(netns, name)])


def test_namespace_that_vanishes_ends_the_way_as_unknown(host: lab.Host) -> None:
    for name in ("one", "two"):
        lab.run("ip", "netns", "add", name)
    lab.run("ip", "link", "add", "v", "netns", "one", "type", "veth", "peer", "name", "v", "netns", "two")
    for name, address in (("one", "10.0.0.1/24"), ("two", "10.0.0.2/24")):
        lab.in_netns(name, "sh", "-c", f"ip addr add {address} dev v; ip link set v up")
    world = survey_host()
    packet = make_packet("10.0.0.1", "10.0.0.2", PROTOCOLS["icmp"])
    world.namespace("one")
    lab.run("ip", "netns", "del", "two")
    way = trace(world, packet, Start("one"))
    assert (way.outcome, way.reason) == ("unknown", "namespace two has vanished while it was read")


def test_namespace_that_vanishes_while_pairs_are_joined_leaves_the_others(host: lab.Host) -> None:
    """Pairs with the same indexes on both sides are told apart by asking each namespace once more."""
    names = ("one", "two", "three", "four")
    for name in names:
        lab.run("ip", "netns", "add", name)
    for left, right in (names[:2], names[2:]):
        lab.run("ip", "link", "add", "v", "index", "50", "netns", left, "type", "veth", "peer", "name", "v",
                "index", "50", "netns", right)  # fmt: skip

    def while_reading() -> Iterator[str]:
        yield from names
        lab.run("ip", "netns", "del", "one")

    found = read_devices(while_reading())
    assert found["three"]["v"].peer == Place("four", "v")


def test_lower_device_of_a_vlan_is_read(netns: str) -> None:
    lab.in_netns(netns, "ip", "link", "add", "x0.7", "link", "x0", "type", "vlan", "id", "7", check=False)
    if "x0.7" not in survey_host().devices[netns]:
        pytest.skip("the kernel has no VLANs (module 8021q), as that of CI has not")
    assert survey_host().devices[netns]["x0.7"].lower == "x0"


@pytest.mark.parametrize(
    ("program", "rule"),
    [
        ("iptables-legacy", "-j SNAT --to-source 203.0.113.1-203.0.113.9"),
        ("iptables-legacy", "-p udp -j SNAT --to-source 203.0.113.1:1024-2048"),
        ("ip6tables-legacy", "-p udp -j SNAT --to-source [2001:db8::1-2001:db8::9]:1024-2048"),
        ("ip6tables-legacy", "-j SNAT --to-source 2001:db8::1-2001:db8::9"),
    ],
)
def test_range_of_sources_is_read_as_iptables_prints_it(netns: str, program: str, rule: str) -> None:
    lab.in_netns(netns, program, "-t", "nat", "-A", "POSTROUTING", *rule.split())
    (read,) = [
        one
        for table in survey_host().namespace(netns).tables
        if table.name == "nat" and table.families == ((6,) if program.startswith("ip6") else (4,))
        for one in table.chains["POSTROUTING"].rules
    ]
    assert isinstance(read.target, SourceRange)
    assert f"-A POSTROUTING {read.text}\n" in lab.in_netns(netns, f"{program}-save")


def test_zone_of_connection_tracking_is_named(netns: str) -> None:
    lab.in_netns(netns, *["iptables-legacy", "-t", "raw", "-A", "OUTPUT", "-j", "CT", "--zone", "5"])
    way = trace(survey_host(), make_packet("10.0.0.1", "192.0.2.1", PROTOCOLS["icmp"]), Start(netns))
    assert (way.outcome, way.reason) == (
        "unknown",
        "the effect of this rule is not computed: raw -A OUTPUT -j CT --zone 5",
    )
