"""The way of a packet through small worlds: each reason for which it ends somewhere else than at its destination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dvr_agent.state.filter import (
    CtStateMatch,
    Dnat,
    Jump,
    MarkMatch,
    RestoreConnmark,
    SaveConnmark,
    SetMark,
    Snat,
    Verdict,
)
from dvr_agent.trace.engine import Start, trace, trace_all, trace_reply
from dvr_agent.trace.filter_values import OtherTarget, SourceRange, UnknownMatch, WholeRule
from dvr_agent.trace.locate import Hint, LocateError, locate
from dvr_agent.trace.packet import PROTOCOLS, Connection, Tuple, Way, make_packet
from dvr_agent.trace.world import Namespace, NeighbourEntry, NextHop, Place, RouteEntry, RuleEntry, World
from tests.support.traced_world import MAIN, Builder, three_in_a_row

LEFT, RIGHT = "10.0.0.2", "10.0.1.2"
DROP, ACCEPT = Verdict("DROP"), Verdict("ACCEPT")


def way(made: Builder, dst: str = RIGHT, src: str = LEFT, size: int = 84, protocol: str = "icmp", port: int = 0) -> Way:
    packet = make_packet(src, dst, PROTOCOLS[protocol], port, size=size)
    return trace(made.world(), packet, Start("left"))


def test_packet_is_forwarded_and_delivered_and_answered() -> None:
    made = three_in_a_row()
    found = way(made)
    assert (found.outcome, found.at) == ("delivered", Place("right", "r0"))
    reply = trace_reply(made.world(), found)
    assert (reply.outcome, reply.at) == ("delivered", Place("left", "l0"))


def _rp_filter(made: Builder) -> None:
    made.sysctls["middle"]["ipv4/conf/m0/rp_filter"] = "1"
    made.route("middle", RouteEntry("10.0.0.2/32", MAIN, "unicast", (NextHop(None, "m1"),)))


def _loose_rp_filter(made: Builder) -> None:
    made.sysctls["middle"]["ipv4/conf/all/rp_filter"] = "2"
    made.routes["middle"] = [one for one in made.routes["middle"] if one.dst != "10.0.0.0/24"]


def _own_source(made: Builder) -> None:
    made.device("middle", "other", f"{LEFT}/32")


def _no_forwarding(made: Builder) -> None:
    made.sysctls["middle"]["ipv4/conf/m0/forwarding"] = "0"


def _blackhole(made: Builder) -> None:
    made.route("middle", RouteEntry("10.0.1.0/25", MAIN, "blackhole", text="blackhole 10.0.1.0/25"))


def _prohibiting_rule(made: Builder) -> None:
    made.rules["middle"] = [RuleEntry(4, 5, action="prohibit", iif="m0", text="5: from all iif m0 prohibit")]


def _drop(made: Builder) -> None:
    made.chain("middle", "filter", "FORWARD", WholeRule(DROP, "-o m1 -j DROP", oif="m1"))


def _reject(made: Builder) -> None:
    made.chain("middle", "filter", "FORWARD", WholeRule(OtherTarget("REJECT", "drop"), "-j REJECT"))


def _policy(made: Builder) -> None:
    made.chain("middle", "filter", "FORWARD", policy="DROP")


def _wrong_neighbour(made: Builder) -> None:
    made.neighbours["middle"] = [NeighbourEntry(RIGHT, "m1", "02:00:00:00:00:99", "PERMANENT")]


def _device_down(made: Builder) -> None:
    made.devices["right"]["r0"] = replace(made.devices["right"]["r0"], up=False)


def _no_carrier(made: Builder) -> None:
    made.devices["middle"]["m1"] = replace(made.devices["middle"]["m1"], carrier=False)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_rp_filter, "middle discards it: rp_filter=1: the way back to 10.0.0.2 is by m1, not m0"),
        (_loose_rp_filter, "middle discards it: rp_filter=2: there is no route back to 10.0.0.2"),
        (_own_source, "middle discards it: its source 10.0.0.2 is an address of this namespace"),
        (_no_forwarding, "middle does not forward: net.ipv4.conf.m0.forwarding=0"),
        (_blackhole, "in middle it is discarded silently: blackhole 10.0.1.0/25"),
        (_prohibiting_rule, "in middle it is answered with prohibited: 5: from all iif m0 prohibit"),
        (_drop, "a rule drops it: filter -A FORWARD -o m1 -j DROP"),
        (_reject, "a rule rejects it: filter -A FORWARD -j REJECT"),
        (_policy, "the policy of filter FORWARD is DROP"),
        (_wrong_neighbour, "nobody on the segment of m1 in middle has the MAC address 02:00:00:00:00:99"),
        (_device_down, "nobody on the segment of m1 in middle has 10.0.1.2 (asked by ARP); r0 in right is down"),
        (_no_carrier, "m1 in middle has no carrier"),
    ],
)
def test_fault_is_named_where_the_packet_is_dropped(fault: Callable[[Builder], None], reason: str) -> None:
    made = three_in_a_row()
    mac = made.devices["middle"]["m0"].mac
    made.neighbours["left"] = [NeighbourEntry("10.0.0.1", "l0", mac, "PERMANENT")]
    fault(made)
    found = way(made)
    assert (found.outcome, found.reason) == ("dropped", reason)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_rp_filter, "rp_filter=1: the way back to 10.0.0.2 is by m1, not m0"),
        (_loose_rp_filter, "rp_filter=2: there is no route back to 10.0.0.2"),
        (_own_source, "its source 10.0.0.2 is an address of this namespace"),
    ],
)
def test_what_is_not_taken_from_a_source_is_not_answered_by_arp_either(
    fault: Callable[[Builder], None], reason: str
) -> None:
    made = three_in_a_row()
    fault(made)
    before = "nobody answers for 10.0.0.1 (asked by ARP): middle has it and discards the request: "
    assert way(made).reason == before + reason


def test_packet_greater_than_the_mtu_is_dropped_before_the_narrow_device() -> None:
    made = three_in_a_row()
    made.devices["middle"]["m1"] = replace(made.devices["middle"]["m1"], mtu=1400)
    assert way(made, size=1400).outcome == "delivered"
    assert way(made, size=1401).outcome == "dropped"


@pytest.mark.parametrize("target", [DROP, Dnat("10.0.1.9"), OtherTarget("NFQUEUE", "unknown")])
def test_rule_that_decides_and_is_not_understood_ends_the_way(target: object) -> None:
    made = three_in_a_row()
    made.chain("middle", "mangle", "FORWARD", WholeRule(target, "-m set -j X", matches=(UnknownMatch("set"),)))  # type: ignore[arg-type]
    assert way(made).outcome == "unknown"
    other = three_in_a_row()
    rule = WholeRule(target, "-p tcp -m set -j X", protocol=6, matches=(UnknownMatch("set"),))  # type: ignore[arg-type]
    other.chain("middle", "mangle", "FORWARD", rule)
    assert way(other).outcome == "delivered", "its other matches do not fit"


def test_rule_that_only_counts_or_logs_does_not_matter_though_it_is_not_understood() -> None:
    made = three_in_a_row()
    rules = [WholeRule(OtherTarget(name, "none"), "", matches=(UnknownMatch("limit"),)) for name in ("", "LOG")]
    made.chain("middle", "filter", "FORWARD", *rules)
    assert way(made).outcome == "delivered"


def test_suppressed_default_route_and_longer_prefix_and_throw_are_followed() -> None:
    made = three_in_a_row()
    made.rules["middle"] = [
        RuleEntry(4, 10, MAIN, suppress=0, text="10: from all lookup main suppress_prefixlength 0"),
        RuleEntry(4, 20, 77, text="20: from all lookup 77"),
        RuleEntry(4, 30, 78, text="30: from all lookup 78"),
    ]
    made.via("middle", "0.0.0.0/0", "10.0.0.2", "m0")
    made.route("middle", RouteEntry("192.0.2.0/24", 77, "throw"))
    made.route("middle", RouteEntry("192.0.2.0/24", 78, "unicast", (NextHop("10.0.1.2", "m1"),)))
    made.device("right", "lo", "192.0.2.1/32")
    found = way(made, "192.0.2.1")
    assert (found.outcome, found.at) == ("delivered", Place("right", "r0"))
    assert [hop.text for hop in found.hops if hop.where == "rule" and hop.namespace == "middle"] == [
        "30: from all lookup 78"
    ]


def test_translation_of_destination_and_source_is_undone_for_the_answer() -> None:
    made = three_in_a_row()
    dnat = WholeRule(Dnat(RIGHT, (8080, 8080)), "-d 10.0.0.1 -j DNAT", dst="10.0.0.1/32", protocol=6)
    made.chain("middle", "nat", "PREROUTING", dnat)
    made.chain("middle", "nat", "POSTROUTING", WholeRule(Snat("10.0.1.1"), "-o m1 -j SNAT", oif="m1"))
    found = way(made, "10.0.0.1", protocol="tcp", port=80)
    assert found.packet.head[:5] == ("10.0.1.1", RIGHT, 6, 40000, 8080)
    reply = trace_reply(made.world(), found)
    assert reply.packet.head[:5] == ("10.0.0.1", LEFT, 6, 80, 40000)
    assert reply.at == Place("left", "l0")


def test_mark_of_the_connection_comes_back_with_the_answer() -> None:
    made = three_in_a_row()
    set_mark = WholeRule(SetMark(0x10000, 0xFFFF0000), "-i m0 -j MARK", iif="m0")
    restore = WholeRule(RestoreConnmark(0xFFFF0000), "-j CONNMARK --restore-mark", iif="m1")
    made.chain("middle", "mangle", "PREROUTING", set_mark, restore)
    made.chain(
        "middle", "mangle", "POSTROUTING", WholeRule(SaveConnmark(0xFFFF0000), "-j CONNMARK --save-mark", oif="m1")
    )
    unmarked = MarkMatch(0x10000, 0xFFFF0000, invert=True)
    made.chain("middle", "filter", "FORWARD", WholeRule(DROP, "-m mark ! -j DROP", matches=(unmarked,)))
    found = way(made)
    assert found.outcome == "delivered"
    assert trace_reply(made.world(), found).outcome == "delivered"


def test_proxy_arp_answers_for_what_is_behind_the_namespace() -> None:
    made = three_in_a_row()
    made.route("left", RouteEntry("10.0.1.0/24", MAIN, "unicast", (NextHop(None, "l0"),), text="10.0.1.0/24 dev l0"))
    assert way(made).outcome == "dropped"
    made.sysctls["middle"]["ipv4/conf/m0/proxy_arp"] = "1"
    assert way(made).outcome == "delivered"


def test_arp_ignore_refuses_an_address_of_another_device() -> None:
    made = three_in_a_row()
    made.route("left", RouteEntry("10.0.1.1/32", MAIN, "unicast", (NextHop(None, "l0"),)))
    assert way(made, "10.0.1.1").outcome == "delivered"
    made.sysctls["middle"]["ipv4/conf/all/arp_ignore"] = "1"
    assert way(made, "10.0.1.1").outcome == "dropped"


def test_next_hops_of_equal_cost_are_all_followed() -> None:
    made = three_in_a_row()
    made.pair(("middle", "m2", "10.0.2.1/24"), ("other", "o0", "10.0.2.2/24"))
    hops = (NextHop("10.0.1.2", "m1"), NextHop("10.0.2.2", "m2"))
    made.route("middle", RouteEntry("192.0.2.0/24", MAIN, "unicast", hops, text="192.0.2.0/24 nexthop …"))
    for name in ("right", "other"):
        made.device(name, "lo", "192.0.2.1/32")
    ways = trace_all(made.world(), make_packet(LEFT, "192.0.2.1", PROTOCOLS["icmp"]), Start("left"))
    assert [one.at.namespace for one in ways if one.at] == ["right", "other"]
    assert way(made, "192.0.2.1").others == 1


def bridged(kind: str, **more: object) -> Builder:
    """``left`` on a bridge of the host that has one more port, of some kind."""
    made = Builder()
    made.device("", "br", kind="bridge")
    made.pair(("left", "l0", "10.0.0.2/24"), ("", "tap-left", ""))
    made.devices[""]["tap-left"] = replace(made.devices[""]["tap-left"], master="br")
    made.device("", "port", kind=kind, master="br", **more)
    return made


@pytest.mark.parametrize(
    ("kind", "outcome", "text"),
    [
        ("", "leaves", "port in (host) (to other hosts)"),
        ("tun", "leaves", "port in (host) (tap device of an instance)"),
        ("vxlan", "leaves", "vxlan: to other hosts"),
        ("veth", "unknown", "veth pair into a namespace without a name"),
        ("macvlan", "unknown", "macvlan"),
    ],
)
def test_way_ends_at_the_device_behind_which_nothing_is_known(kind: str, outcome: str, text: str) -> None:
    found = way(bridged(kind), "10.0.0.77")
    assert found.outcome == outcome
    assert text in found.reason


def test_bridge_has_learned_by_which_port_a_frame_leaves() -> None:
    made = bridged("")
    made.device("", "uplink", master="br")
    made.neighbours["left"] = [NeighbourEntry("10.0.0.77", "l0", "02:00:00:00:00:77", "REACHABLE")]
    assert "port in (host) (to other hosts), uplink in (host)" in way(made, "10.0.0.77").reason
    made.fdb = frozenset({("02:00:00:00:00:77", "uplink")})
    assert way(made, "10.0.0.77").reason == "it leaves this host by uplink in (host) (to other hosts)"


def test_port_of_a_switch_that_is_no_linux_bridge_is_unknown() -> None:
    made = bridged("")
    made.devices[""]["br"] = replace(made.devices[""]["br"], kind="openvswitch")
    found = way(made, "10.0.0.77")
    assert (found.outcome, "no Linux bridge" in found.reason) == ("unknown", True)


def test_packet_that_goes_round_in_circles_is_dropped() -> None:
    made = three_in_a_row()
    made.via("middle", "192.0.2.0/24", RIGHT, "m1")
    made.via("right", "192.0.2.0/24", "10.0.1.1", "r0")
    found = way(made, "192.0.2.1")
    assert (found.outcome, "round in circles" in found.reason) == ("dropped", True)


def on_one_bridge(number: int) -> Builder:
    """``left`` and so many other namespaces on a bridge; every second one of them is down."""
    made = bridged("dummy")
    for index in range(number):
        made.pair((f"n{index}", "e0", f"10.0.0.{100 + index}/24"), ("", f"tap{index}", ""))
        made.devices[""][f"tap{index}"] = replace(made.devices[""][f"tap{index}"], master="br", up=index % 2 == 0)
    del made.devices[""]["port"]
    return made


def test_only_namespaces_that_may_answer_are_read() -> None:
    made = on_one_bridge(20)
    for name, devices in made.devices.items():
        made.devices[name] = {one.name: replace(one, proxies=()) for one in devices.values()}
    made.devices["n4"]["e0"] = replace(made.devices["n4"]["e0"], proxies=(4,))
    read: list[str] = []
    world = made.world()

    def load(name: str) -> Namespace:
        read.append(name)
        return world.load(name)

    counted = World(world.devices, load)
    found = trace(counted, make_packet(LEFT, "10.0.0.102", PROTOCOLS["icmp"]), Start("left"))
    assert found.at == Place("n2", "e0")
    assert sorted(read) == ["", "left", "n2", "n4"]


def test_reason_names_some_devices_of_a_long_segment() -> None:
    reason = way(on_one_bridge(40), "10.0.0.77").reason
    assert reason.count("is down") == 4
    assert reason.endswith("; 16 more")


def test_source_in_two_namespaces_has_to_be_named() -> None:
    made = three_in_a_row()
    made.device("other", "o0", f"{LEFT}/24")
    with pytest.raises(LocateError, match=r"10\.0\.0\.2%left, 10\.0\.0\.2%other"):
        locate(made.world(), LEFT, RIGHT, Hint())
    assert locate(made.world(), LEFT, RIGHT, Hint("left")).namespace == "left"


def test_instance_begins_at_the_gateway_of_its_network() -> None:
    made = three_in_a_row()
    made.neighbours["middle"] = [NeighbourEntry("10.0.0.9", "m0", "02:00:00:00:00:09", "PERMANENT")]
    start = locate(made.world(), "10.0.0.9", RIGHT, Hint(), ("m0",))
    assert (start.namespace, start.device) == ("middle", "m0")
    assert "10.0.0.9 dev m0 lladdr 02:00:00:00:00:09 PERMANENT" in start.note


def test_only_a_packet_that_arrived_is_answered() -> None:
    made = three_in_a_row()
    _drop(made)
    with pytest.raises(ValueError, match="arrived"):
        trace_reply(made.world(), way(made))


def test_goto_rule_continues_at_its_target_or_does_nothing_without_it() -> None:
    made = three_in_a_row()
    made.rules["middle"] = [
        RuleEntry(4, 10, action="goto", goto=30, text="10: from all goto 30"),
        RuleEntry(4, 20, action="prohibit", text="20: from all prohibit"),
        RuleEntry(4, 30, action="nop", text="30: from all nop"),
    ]
    assert way(made).outcome == "delivered"
    made.rules["middle"][0] = replace(made.rules["middle"][0], goto=31)
    assert way(made).reason == "in middle it is answered with prohibited: 20: from all prohibit"


@pytest.mark.parametrize("action", ["unreachable", "blackhole", "prohibit"])
def test_refusing_rule_with_a_mark_refuses_only_packets_with_the_mark(action: str) -> None:
    made = three_in_a_row()
    made.rules["middle"] = [RuleEntry(4, 10, action=action, mark=0x70, mask=0xF0, text=f"10: fwmark {action}")]
    assert way(made).outcome == "delivered"
    made.chain("middle", "mangle", "PREROUTING", WholeRule(SetMark(0x72, 0xFF), "-i m0 -j MARK", iif="m0"))
    found = way(made)
    assert (found.outcome, found.reason.endswith(f"10: fwmark {action}")) == ("dropped", True)


def test_route_for_sources_is_preferred_to_that_for_all_and_not_taken_by_others() -> None:
    made = Builder()
    made.pair(("left", "l0", "2001:db8::2/64"), ("middle", "m0", "2001:db8::1/64"))
    made.pair(("middle", "m1", "2001:db8:1::1/64"), ("right", "r0", "2001:db8:1::2/64"))
    made.route("left", RouteEntry("::/0", MAIN, "unicast", (NextHop("2001:db8::1", "l0"),)))
    refused = RouteEntry("::/0", MAIN, "blackhole", metric=1, src="2001:db8::/64", text="blackhole default from …")
    made.route("middle", refused)
    made.route("middle", RouteEntry("::/0", MAIN, "unicast", (NextHop("2001:db8:1::2", "m1"),)))
    made.device("right", "lo", "2001:db8:9::1/128")
    assert way(made, "2001:db8:9::1", "2001:db8::2").reason.endswith("blackhole default from …")
    made.routes["middle"].remove(refused)
    made.route("middle", replace(refused, src="2001:db8:7::/64"))
    assert way(made, "2001:db8:9::1", "2001:db8::2").outcome == "delivered"


@pytest.mark.parametrize(("lower", "outcome"), [("", "leaves"), ("bond", "leaves"), ("veth", "unknown")])
def test_vlan_leaves_the_host_only_where_it_is_on_top_of_an_uplink(lower: str, outcome: str) -> None:
    made = bridged("vlan", lower="below")
    made.device("", "below", kind=lower)
    assert way(made, "10.0.0.77").outcome == outcome


def test_vlan_on_top_of_a_device_of_another_namespace_is_unknown() -> None:
    assert way(bridged("vlan"), "10.0.0.77").outcome == "unknown"


def test_dummy_device_discards_frames() -> None:
    found = way(bridged("dummy"), "10.0.0.77")
    assert (found.outcome, found.reason) == (
        "dropped", "nobody on the segment of l0 in left has 10.0.0.77 (asked by ARP)",
    )  # fmt: skip


def test_jump_to_a_chain_that_was_not_read_ends_the_way() -> None:
    made = three_in_a_row()
    made.chain("middle", "filter", "FORWARD", WholeRule(Jump("made-later"), "-j made-later"))
    assert (way(made).outcome, "chain made-later of filter" in way(made).reason) == ("unknown", True)


def test_rule_that_is_not_understood_where_the_source_is_looked_for_is_named() -> None:
    made = three_in_a_row()
    made.rules["middle"] = [RuleEntry(4, 10, strange=("FRA_UID_RANGE",), text="10: from all uidrange 1-2")]
    with pytest.raises(LocateError, match="uidrange 1-2"):
        locate(made.world(), "10.0.0.9", RIGHT, Hint("middle"))


def existing(head: Tuple, **more: Any) -> Callable[[str, Tuple], Connection | None]:
    """``middle`` has a connection from ``head``, whose destination it translates to the right one."""
    end = head._replace(dst=RIGHT, dport=8080 if head.protocol == 6 else head.dport)
    one = Connection(head, end, translated={"DNAT"}, decided={"DNAT", "SNAT"}, existing=True, **more)
    return lambda name, asked: one if name == "middle" and asked in (head, end.inverted()) else None


def test_existing_connection_is_translated_by_its_entry_and_not_by_rules() -> None:
    made = three_in_a_row()
    made.chain("middle", "nat", "PREROUTING", WholeRule(Dnat("10.0.1.9", None), "-j DNAT"))
    is_new = CtStateMatch(frozenset({"NEW"}))
    made.chain("middle", "filter", "FORWARD", WholeRule(DROP, "--ctstate NEW -j DROP", matches=(is_new,)))
    packet = make_packet(LEFT, "10.0.0.1", PROTOCOLS["tcp"], 80, 45001)
    assert trace(made.world(), packet, Start("left")).outcome == "dropped"
    known = existing(packet.head, state="ESTABLISHED", mark=7)
    found = trace(made.world(), packet, Start("left"), known)
    assert (found.outcome, found.packet.head.dst, found.packet.head.dport) == ("delivered", RIGHT, 8080)
    (first, second) = [hop for hop in found.hops if hop.where == "conntrack PREROUTING"]
    assert first.text == (
        "existing connection 10.0.0.2:45001 → 10.0.0.1:80, answered by 10.0.1.2:8080 → 10.0.0.2:45001 (ESTABLISHED)"
    )
    assert second.text == "translated as the existing connection 10.0.0.2:45001 → 10.0.0.1:80"
    reply = trace_reply(made.world(), found, known)
    assert (reply.packet.head.src, reply.packet.head.sport) == ("10.0.0.1", 80)
    answer = trace(made.world(), replace(packet, head=found.packet.head.inverted()), Start("right"), known)
    assert (answer.at, answer.packet.head.src) == (Place("left", "l0"), "10.0.0.1")


def test_identifier_of_an_existing_echo_is_translated() -> None:
    made = three_in_a_row()
    packet = make_packet(LEFT, "10.0.0.1", PROTOCOLS["icmp"], sport=77)
    end = packet.head._replace(dst=RIGHT, sport=78)
    one = Connection(packet.head, end, translated={"DNAT"}, decided={"DNAT", "SNAT"}, existing=True)
    found = trace(made.world(), packet, Start("left"), lambda name, _head: one if name == "middle" else None)
    assert found.packet.head[:4] == (LEFT, RIGHT, 1, 78)
    assert trace_reply(made.world(), found).packet.head[:4] == ("10.0.0.1", LEFT, 1, 77)


def test_filter_of_output_sees_the_translation_that_a_connection_has_already() -> None:
    made = three_in_a_row()
    made.chain("middle", "filter", "OUTPUT", WholeRule(DROP, f"-d {RIGHT}/32 -j DROP", dst=f"{RIGHT}/32"))
    packet = make_packet("10.0.1.1", "10.0.0.77", PROTOCOLS["tcp"], 80, 45001)
    made.device("middle", "lo", kind="")
    assert trace(made.world(), packet, Start("middle"), existing(packet.head)).reason.startswith("a rule drops it")


def test_source_of_a_range_is_one_of_it_and_a_port_that_fits_stays() -> None:
    made = three_in_a_row()
    target = SourceRange("10.0.1.1", "10.0.1.9", (1024, 2048))
    made.chain("middle", "nat", "POSTROUTING", WholeRule(target, f"-o m1 {target.text}", oif="m1"))
    found = trace(made.world(), make_packet(LEFT, RIGHT, PROTOCOLS["udp"], 53, 1500), Start("left"))
    assert found.packet.head[:4] == ("10.0.1.1", RIGHT, 17, 1500)
    assert found.notes == (
        "SNAT in middle: the source is one of 10.0.1.1-10.0.1.9:1024-2048; the kernel chooses, one is shown",
    )
    found = trace(made.world(), make_packet(LEFT, RIGHT, PROTOCOLS["udp"], 53, 45000), Start("left"))
    assert found.packet.head.sport == 1024
    assert trace_reply(made.world(), found).packet.head.dport == 45000


def test_note_says_that_rules_of_the_host_see_bridged_packets() -> None:
    made = on_one_bridge(2)
    made.sysctls[""]["bridge/bridge-nf-call-iptables"] = "1"
    made.chain("", "filter", "FORWARD", WholeRule(DROP, "-j DROP"))
    (note,) = way(made, "10.0.0.100").notes
    assert note.startswith("the packet filter rules of (host) see the packet on bridge br, too (net.bridge.bridge-nf")
